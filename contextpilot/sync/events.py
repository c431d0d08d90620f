"""The event schema: what an engine tells the index, as JSON over HTTP.

A message carries the lowest version that has all its events; the answer to it says the highest
that the index understands, so that each side may be older than the other:

| version | new                                                                   |
|---------|-----------------------------------------------------------------------|
| 1       | cached, truncated, cleared; a llama-server's slots                    |
| 2       | unfollowed; an index of version 1 is told `truncated` to 0 instead    |
| 3       | sparse, dropped, points; an index of version 1 or 2 is told no more   |
|         | tokens than can be reused whatever follows, of a sparse cache none    |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from contextpilot.named import Points

VERSION = 3
MAX_POINTS = 1024
"""Ranges that are told of one request."""
MAX_SLOTS = 4096
"""Of one engine."""
MAX_NAME_CHARS = 512
"""Of an engine's name, an epoch, a request id."""
SLOT_ENGINE = "llamacpp"
"""The kind of engine that tells of its slots instead of requests."""

Kind = Literal["cached", "truncated", "unfollowed", "cleared"]
SlotKind = Literal["slot", "copied", "saved", "loaded", "cleared"]


_MAX_COUNT = 1 << 53


class Event(NamedTuple):
    """One change in an engine's cache.

    Attributes:
        kind: `cached`: the first `tokens` prompt tokens of the request are in the cache;
            `truncated`: only the first `tokens` remain; `unfollowed`: what the request holds is
            unknown from now on, not gone; `cleared`: the whole cache was reset.
        request: the request id; empty for `cleared`.
        tokens: leading prompt tokens, as the engine counts them.
        prompt_tokens: all prompt tokens of the request, where the engine said so.
        points: of a sparse cache, the lengths at which the prompt can be reused; None: at every
            whole block of `tokens`.
    """

    kind: Kind
    request: str = ""
    tokens: int = 0
    prompt_tokens: int | None = None
    points: Points | None = None


@dataclass(frozen=True)
class SlotEvent:
    """One change in the slots of a llama-server, which knows tokens but no requests.

    Attributes:
        kind: `slot`: of `slot` the first `keep` tokens remained, and it grew to `tokens`;
            `copied`: slot `to` holds what `slot` holds; `saved`: what `slot` holds was put into
            `copy`; `loaded`: `slot` holds the first `tokens` tokens of `copy`, which is used up
            if it was in RAM (empty: unknown content); `cleared`: all slots are empty.
        copy: a number for a copy in RAM, "file-..." for a file.
        num_bytes: size of the copy.
    """

    kind: SlotKind
    slot: int = 0
    keep: int = 0
    tokens: int = 0
    to: int = 0
    copy: str = ""
    num_bytes: int = 0


@dataclass(frozen=True)
class SyncMessage:
    """A numbered run of events of one engine; no events is a sign of life.

    Attributes:
        engine: name that an engine keeps over restarts.
        epoch: new at each start of the engine.
        seq: number of this message within the epoch.
        snapshot: the events are all that the engine holds, and `seq` begins a new count.
        more: events of a snapshot that are yet to come with the next messages.
        block_size: tokens in one block or page of the engine's cache.
        slot_events: in the place of `events` where the engine is a llama-server.
        ram_limit_bytes: size of llama-server's RAM prompt cache; None when not told.
        pid: the engine's process, where it said so.
        dropped: tokens at the end of what is reused that the engine computes anew.
        sparse: what is cached of a prompt can be reused at its points only.
    """

    engine: str
    epoch: str
    seq: int
    events: tuple[Event, ...]
    snapshot: bool = False
    kind: str = ""
    engine_version: str = ""
    block_size: int = 1
    slot_events: tuple[SlotEvent, ...] = ()
    ram_limit_bytes: int | None = None
    pid: int | None = None
    more: int = 0
    dropped: int = 0
    sparse: bool = False


def answer_message(status: str) -> dict[str, Any]:
    """Return the answer to a message, ready for JSON; `status` is "ok" or "resync"."""
    return {"status": status, "version": VERSION}


def parse_message(body: Any) -> SyncMessage:
    """Return the message in decoded JSON; raise ValueError that names the field at fault."""
    if not isinstance(body, Mapping):
        raise ValueError("body must be a JSON object")
    version = body.get("version")
    if isinstance(version, bool) or version not in range(1, VERSION + 1):
        raise ValueError(f"version must be 1 to {VERSION}, not {version!r}")
    events = body.get("events")
    if not isinstance(events, list):
        raise ValueError("events must be a list")
    kind = _text(body, "kind", "")
    named = [(event, f"events[{i}]") for i, event in enumerate(events)]
    has_slots = kind == SLOT_ENGINE
    return SyncMessage(
        engine=_text(body, "engine"),
        epoch=_text(body, "epoch"),
        seq=_count(body, "seq"),
        events=() if has_slots else tuple(_parse_event(*event) for event in named),
        slot_events=tuple(_parse_slot_event(*event) for event in named) if has_slots else (),
        snapshot=_flag(body, "snapshot"),
        kind=kind,
        engine_version=_text(body, "engine_version", ""),
        block_size=max(1, _count(body, "block_size", 1)),
        ram_limit_bytes=_optional_count(body, "ram_limit_bytes"),
        pid=_optional_count(body, "pid"),
        more=_count(body, "more", 0),
        dropped=_count(body, "dropped", 0),
        sparse=_flag(body, "sparse"),
    )


def parse_evict(body: Any) -> list[str]:
    """Return the ids of `{"request_ids": [...]}`; raise ValueError that names the field."""
    ids = body.get("request_ids") if isinstance(body, Mapping) else None
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        raise ValueError("request_ids must be a list of strings")
    return ids


def _parse_event(event: Any, name: str) -> Event:
    if not isinstance(event, Mapping):
        raise ValueError(f"{name} must be an object")
    kind = event.get("event")
    if kind == "cleared":
        return Event("cleared")
    if kind == "unfollowed":
        return Event(kind, _text(event, "request", None, f"{name}."))
    if kind not in ("cached", "truncated"):
        known = "cached, truncated, unfollowed or cleared"
        raise ValueError(f"{name}.event must be {known}, not {kind!r}")
    prompt = _count(event, "prompt_tokens", 0, f"{name}.") or None
    tokens = _count(event, "tokens", None, f"{name}.")
    request = _text(event, "request", None, f"{name}.")
    return Event(kind, request, tokens, prompt, _points(event, tokens, f"{name}."))


def _points(event: Mapping[str, Any], tokens: int, at: str) -> Points | None:
    given = event.get("points")
    if given is None:
        return None
    if isinstance(given, list) and len(given) > MAX_POINTS:
        raise ValueError(f"{at}points must be at most {MAX_POINTS} pairs")
    flat = [length for reach in given for length in reach] if _are_pairs(given) else [-1]
    if any(a > b for a, b in zip([0, *flat], [*flat, tokens], strict=True)):
        raise ValueError(f"{at}points must be pairs [first, last], ascending, up to tokens")
    return tuple((first, last) for first, last in given)


def _are_pairs(given: Any) -> bool:
    pairs = given if isinstance(given, list) else [()]
    return all(
        isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair)
        for pair in pairs
    )


def _parse_slot_event(event: Any, name: str) -> SlotEvent:
    if not isinstance(event, Mapping):
        raise ValueError(f"{name} must be an object")
    kind, at = event.get("event"), f"{name}."
    if kind == "cleared":
        return SlotEvent("cleared")
    if kind not in ("slot", "copied", "saved", "loaded"):
        known = "slot, copied, saved, loaded or cleared"
        raise ValueError(f"{name}.event must be {known}, not {kind!r}")
    slot = _slot(event, "slot", at)
    if kind == "slot":
        keep, tokens = _count(event, "keep", None, at), _count(event, "tokens", None, at)
        if tokens < keep:
            raise ValueError(f"{name}.tokens must be at least keep ({keep}), not {tokens}")
        return SlotEvent("slot", slot, keep, tokens)
    if kind == "copied":
        return SlotEvent("copied", slot, to=_slot(event, "to", at))
    if kind == "saved":
        size = _count(event, "bytes", 0, at)
        return SlotEvent("saved", slot, copy=_text(event, "copy", None, at), num_bytes=size)
    tokens = _count(event, "tokens", None, at)
    return SlotEvent("loaded", slot, tokens=tokens, copy=_text(event, "copy", "", at))


def _text(body: Mapping[str, Any], field: str, default: str | None = None, at: str = "") -> str:
    value = body.get(field, default)
    if not isinstance(value, str) or (default is None and not value):
        raise ValueError(f"{at}{field} must be a non-empty string")
    if len(value) > MAX_NAME_CHARS:
        raise ValueError(f"{at}{field} must have at most {MAX_NAME_CHARS} characters")
    return value


def _count(body: Mapping[str, Any], field: str, default: int | None = None, at: str = "") -> int:
    value = body.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_COUNT:
        raise ValueError(f"{at}{field} must be an integer of at least 0 and below 2^53")
    return value


def _slot(event: Mapping[str, Any], field: str, at: str) -> int:
    number = _count(event, field, None, at)
    if number >= MAX_SLOTS:
        raise ValueError(f"{at}{field} must be below {MAX_SLOTS}")
    return number


def _optional_count(body: Mapping[str, Any], field: str) -> int | None:
    return None if body.get(field) is None else _count(body, field)


def _flag(body: Mapping[str, Any], field: str) -> bool:
    value = body.get(field, False)
    if not isinstance(value, bool):
        raise ValueError(f"{field} must be true or false")
    return value
