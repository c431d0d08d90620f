"""Checks that engines tell how many prompt tokens came from their cache.

Some leave `usage.prompt_tokens_details` empty unless a flag is given at launch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from contextpilot.commands.checks.check import Check
from contextpilot.commands.checks.exchange import JsonReply, Place, UnreachableError
from contextpilot.commands.checks.neighbours import engine_nearby, is_index
from contextpilot.engines.registry import all_report_flags, kind_of_owner, kinds
from contextpilot.engines.usage import UsageReader

ENGINE = "CONTEXTPILOT_ENGINE"

_PROMPT = "contextpilot doctor asks twice. " * 60
"""Several blocks of any engine's cache, and short enough for any model."""
_TIMEOUT_S = 60.0
_START = "start the engine, or correct the URL"


def check_cached_tokens(urls: Sequence[str]) -> Iterator[Check]:
    """Send each engine the same short request twice. Without a URL, tell what could be asked."""
    for url in urls:
        yield _check_engine(url)
    named = os.environ.get(ENGINE, "").replace(",", " ").split()
    if named and not urls:
        detail = "engines were not asked whether they report cached tokens: doctor --engine"
        yield Check("cached tokens", "absent", f"{detail} {named[0]}", all_report_flags())


def _check_engine(url: str) -> Check:
    try:
        place = Place.at(url)
    except ValueError as error:
        return Check("engine", "fail", f"--engine {error}", "--engine http://127.0.0.1:30000")
    name = f"engine {place.shown}"
    try:
        models = place.ask("/v1/models")
        if models.status in (401, 403):
            fix = "check that usage.prompt_tokens_details.cached_tokens is in its answers"
            return Check(name, "warn", "asks for an API key, and doctor sends none", fix)
        model = _first_model(models)
        if model is None:
            return _no_model(name, place, models)
        body = {"model": model.get("id"), "prompt": _PROMPT, "max_tokens": 1, "temperature": 0}
        place.ask("/v1/completions", body, _TIMEOUT_S)
        again = place.ask("/v1/completions", body, _TIMEOUT_S)
    except UnreachableError as error:
        nearby = engine_nearby(place)
        fix = f"an engine answers at {nearby}: doctor --engine {nearby}" if nearby else _START
        return Check(name, "fail", f"does not answer: {error}", fix)
    return _judge(name, again, str(model.get("owned_by")))


def _no_model(name: str, place: Place, models: JsonReply) -> Check:
    """Return what to say of an address that serves no model."""
    if is_index(place.ask("/health")):
        detail = "is contextpilot serve, but no engine behind it answers"
        return Check(
            name, "fail", detail, "give the URL of the engine itself, and check that it runs"
        )
    detail = f"GET /v1/models answers {models.status} and names no model"
    if models.status == 503:
        return Check(name, "fail", f"{detail}: it is still loading", "run doctor again later")
    return Check(name, "fail", detail, "give the URL that comes before /v1")


def _first_model(models: JsonReply) -> dict[str, Any] | None:
    listed = models.content.get("data") if isinstance(models.content, dict) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    return first if isinstance(first, dict) else None


def _judge(name: str, answer: JsonReply, owner: str) -> Check:
    usage = answer.content.get("usage") if isinstance(answer.content, dict) else None
    if answer.status != 200 or not isinstance(usage, dict):
        detail = f"answers {answer.status} to POST /v1/completions, without usage"
        return Check(name, "warn", detail, "see the engine's log")
    kind, reader = kind_of_owner(owner), UsageReader()
    reader.feed(json.dumps(answer.content).encode())
    told = reader.result()
    if told.cached_tokens is None:
        flag = kind.report_flag if kind is not None else ""
        fix = f"launch it with {flag}" if flag else all_report_flags()
        return Check(name, "warn", "does not report how many prompt tokens were cached", fix)
    found = f"{told.cached_tokens} of {told.prompt_tokens} prompt tokens cached when asked again"
    if told.cached_tokens == 0:
        without = "; ".join(f"{k.title}: no {k.uncached_flag}" for k in kinds() if k.uncached_flag)
        return Check(name, "warn", found, f"launch it with prefix caching enabled ({without})")
    return Check(name, "ok", found)
