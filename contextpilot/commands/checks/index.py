"""Checks of the index at CONTEXTPILOT_INDEX_URL: there, in sync with its engines, and planning."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from contextpilot.commands.checks.check import Check, Status
from contextpilot.commands.checks.exchange import JsonReply, Place, UnreachableError
from contextpilot.commands.checks.hooks import INDEX_URL
from contextpilot.commands.checks.kv_events import judge_kv_events
from contextpilot.commands.checks.neighbours import index_nearby, is_index
from contextpilot.commands.checks.request_path import check_request_path, token_is_wrong
from contextpilot.engines import registry

INDEX_TOKEN = "CONTEXTPILOT_INDEX_TOKEN"

_START = "start it with: contextpilot serve (port 8765), or cp.ContextPilot(listen=...)"
_RIGHT_PORT = f"point {INDEX_URL} at contextpilot serve (port 8765), not at an engine"
_NO_V1 = f"leave /v1 out of {INDEX_URL}: only clients of the proxy use that"
_LAUNCH = f"launch the engine with {INDEX_URL} set, where contextpilot is installed"
_SYNC: dict[str, tuple[Status, str]] = {
    "exact": ("ok", ""),
    "approximate": ("warn", "check that the engine runs and reaches the index; it then resyncs"),
    "off": ("warn", _LAUNCH),
}


def check_index() -> Iterator[Check]:
    """Ask the index how it is, what it knows of its engines, and to plan one tiny request."""
    url = os.environ.get(INDEX_URL, "")
    try:
        place = Place.at(url, os.environ.get(INDEX_TOKEN, ""))
    except ValueError:
        return  # unset, or named as broken among the variables
    try:
        health = place.ask("/health")
    except UnreachableError as error:
        nearby = index_nearby(place)
        fix = f"an index answers at {nearby}: export {INDEX_URL}={nearby}" if nearby else _START
        yield Check("index", "fail", f"{place.shown} does not answer: {error}", fix)
        return
    if health.status == 401:
        yield token_is_wrong("index", place)
    elif not is_index(health):
        detail = f"{place.shown} answers {health.status}, but not as an index would"
        below = url.rstrip("/").endswith("/v1")
        yield Check("index", "fail", detail, _NO_V1 if below else _RIGHT_PORT)
    else:
        yield _check_service(health, place)
        yield from _check_reporters(health.content)
        yield from _check_pool(health.content)
        yield from check_request_path(place)


def _check_service(health: JsonReply, place: Place) -> Check:
    if health.status == 200:
        return Check("index", "ok", f"{place.shown} answers")
    detail = f"{place.shown} answers {health.status}: none of its engines is up"
    return Check("index", "warn", detail, "start the engines, or find out why they do not answer")


def _check_reporters(health: Mapping[str, Any]) -> Iterator[Check]:
    """Tell of each engine that reports its cache; a server has them beside its pool."""
    reporters = health["engines"] if isinstance(health["engines"], dict) else health.get("sync")
    if not reporters:
        yield Check("sync", "warn", "no engine has reported its cache yet", _LAUNCH)
        return
    for name, told in sorted(reporters.items()):
        state = str(told.get("sync"))
        status, fix = _SYNC.get(state, ("warn", _LAUNCH))
        kind = f"{told.get('kind')} {told.get('engine_version')}".strip()
        age = told.get("last_event_age_s", "?")
        yield Check(
            f"sync of {name}", status, f"{state}, last event {age} s ago{kind and f', {kind}'}", fix
        )
        yield from _check_sharing(name, told)


def _check_sharing(name: str, told: Mapping[str, Any]) -> Iterator[Check]:
    """Tell what a flag would bring where prompts can be reused at few lengths only."""
    kinds = [kind for kind in registry.kinds() if kind.name == told.get("kind")]
    if told.get("sparse") and kinds and kinds[0].sharing_flag:
        detail = (
            "its model's layers allow reuse of a prompt only at few lengths: what two requests "
            f"share is found by the third or, with {kinds[0].sharing_flag}, by the second at every "
            "N tokens, which takes space in the cache"
        )
        yield Check(f"sharing at {name}", "ok", detail)


def _check_pool(health: Mapping[str, Any]) -> Iterator[Check]:
    """Tell of each engine behind a server."""
    for engine in health["engines"] if isinstance(health["engines"], list) else ():
        if engine.get("kv_events"):
            yield judge_kv_events(f"KV events of {engine.get('engine')}", engine["kv_events"])
        name, state = f"engine {engine.get('url')}", engine.get("sync")
        if engine.get("up") is None:
            detail = "the index server has not asked it yet"
            yield Check(name, "warn", detail, "run doctor again in a moment")
        elif not engine["up"]:
            yield Check(name, "warn", "does not answer the index server", "start it")
        elif state == "off":
            detail = "sync off: the index does not know its cache"
            yield Check(name, "warn", detail, _LAUNCH)
        else:
            yield Check(name, "ok", f"up, sync {state}")
