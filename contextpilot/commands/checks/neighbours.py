"""Who answers on the same host, where nobody does at the port that was given."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from contextpilot.commands.checks.exchange import JsonReply, Place, UnreachableError
from contextpilot.engines.registry import kinds
from contextpilot.server.settings import Settings

_TIMEOUT_S = 0.5


def is_index(health: JsonReply) -> bool:
    """Return whether an answer to `/health` is that of an index."""
    return isinstance(health.content, dict) and isinstance(
        health.content.get("engines"), (dict, list)
    )


def names_models(models: JsonReply) -> bool:
    """Return whether an answer to `/v1/models` is that of an engine."""
    return isinstance(models.content, dict) and bool(models.content.get("data"))


def index_nearby(place: Place) -> str:
    """Return the URL of an index at its usual port; "" for none."""
    return _found(place, [Settings.port], "/health", is_index)


def engine_nearby(place: Place) -> str:
    """Return the URL of an engine at one of the usual ports; "" for none."""
    ports = [kind.usual_port for kind in kinds() if kind.usual_port]
    return _found(place, ports, "/v1/models", names_models)


def _found(
    place: Place, ports: Iterable[int], path: str, is_it: Callable[[JsonReply], bool]
) -> str:
    for port in ports:
        other = Place(place.address._replace(port=port, path=""), place.token)
        if port == place.address.port:
            continue
        try:
            if is_it(other.ask(path, timeout=_TIMEOUT_S)):
                return other.shown
        except UnreachableError:
            continue
    return ""
