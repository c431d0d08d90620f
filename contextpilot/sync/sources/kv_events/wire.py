"""The payloads of vLLM's and SGLang's KV events: msgpack, as lists (older versions) or as maps.

[time, [event, ...], rank]    event: {"type": "BlockStored", "block_hashes": [...], ...}
                                 or: ["BlockStored", [hashes], parent, [tokens], size, ...]
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

MAX_BYTES = 8 << 20
"""Largest payload: a step that drops a million blocks comes near it."""
TOKEN_BYTES = 8
_STORED = (
    *("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium"),
    *("lora_name", "extra_keys", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window"),
)
_REMOVED = ("block_hashes", "medium", "group_idx")
_DEVICE = (None, "GPU")
FULL = (None, "full_attention", "mla_attention", "sink_full_attention")
"""Kinds of layers that store every block of a prompt."""
SEVERAL = "several"
"""In place of a kind where none is told (vLLM before 0.22), and there must be more than one."""
MAX_GROUPS = 64
"""Of layers, numbered from 0."""
_MAX_HASH_BYTES = 128
_SHORT_BYTES = 256 << 10
"""A payload that may take seventy times as much without harm."""
_MAX_MEMBERS = 64
"""Of a payload, and of an event."""
_NIL = 0xC0
_BYTES_AN_EVENT = 12
"""At least: its name alone has as many."""
_MAX_MEMBER_BYTES = 512 << 10
"""Of an event's members other than hashes and tokens: `extra_keys` of thousands of blocks."""
_MAX_NAME_CHARS = 512


class MalformedError(ValueError):
    """A payload is not what an engine publishes."""


class Stored(NamedTuple):
    """Blocks that came into the device's cache, one behind the other.

    Attributes:
        hashes: the engine's names of them.
        parent: of the block before the first; None for the first of a prompt.
        packed: the tokens of all blocks, `size` each, in `TOKEN_BYTES` bytes; b"" unless `is_full`.
        lora, salt: what divides the cache; "" for nothing. A salt is told with the first block.
        extras: for each block what else its content depends on, images say; "" for nothing.
        group: of layers, where there are several; `is_full`: whether it stores every block.
        kind, window: of its layers, where that was told, or `SEVERAL`; a window is in tokens.
    """

    hashes: Sequence[Any]
    parent: Any
    packed: bytes
    size: int
    lora: str = ""
    salt: str = ""
    extras: Sequence[str] = ()
    group: int = 0
    is_full: bool = True
    kind: str | None = None
    window: int | None = None


class Removed(NamedTuple):
    """Blocks that left the device's cache."""

    hashes: Sequence[Any]
    group: int = 0


class Cleared(NamedTuple):
    """The whole cache was emptied."""


Change = Stored | Removed | Cleared


def decode(payload: bytes) -> list[Change]:
    """Return the changes in a payload; those of other memories than the device's are left out.

    Raises:
        MalformedError: it is none, or says what is not understood.
    """
    if len(payload) > MAX_BYTES:
        raise MalformedError("too large")
    try:
        return list(_told_apart(_changes(_events(payload))))
    except MalformedError:
        raise
    except Exception as error:  # whatever a stranger's bytes bring about
        raise MalformedError(type(error).__name__) from None


def pack(tokens: Sequence[int]) -> bytes:
    """Return tokens as bytes.

    Raises:
        OverflowError, TypeError: they are no integers of 64 bits.
    """
    return array("q", tokens).tobytes()


class _Decoders(NamedTuple):
    """Each decodes what has to be that, and fails at the first member that is something else."""

    any: Callable[[Any], Any]
    members: Callable[[Any], list[Any]]
    named_members: Callable[[Any], dict[str, Any]]
    hashes: Callable[[Any], list[Any]]
    tokens: Callable[[Any], list[int]]


@cache
def _decoders() -> _Decoders:
    make, raw = import_module("msgspec.msgpack").Decoder, import_module("msgspec").Raw
    members: tuple[Any, ...] = (list.__class_getitem__(raw), dict.__class_getitem__((str, raw)))
    types = (Any, *members, list[int | bytes], list[int])
    return _Decoders(*(make(each).decode for each in types))


def _events(payload: bytes) -> Any:
    """Return the events of a payload, decoded.

    Empty lists take seventy times their length once they are decoded, so that of a long payload
    each part is decoded as what it has to be.
    """
    decode = _decoders()
    if len(payload) <= _SHORT_BYTES:
        return decode.any(payload)[1]
    events = memoryview(decode.members(_checked(payload, _MAX_MEMBERS))[1])
    packed = decode.members(_checked(events, len(events) // _BYTES_AN_EVENT))
    return [_event(memoryview(each), decode) for each in packed]


def _event(packed: memoryview, decode: _Decoders) -> Any:
    _checked(packed, _MAX_MEMBERS)
    if packed[0] & 0xF0 == 0x80 or packed[0] in (0xDE, 0xDF):
        members = decode.named_members(packed)
        return {name: _member(name, memoryview(members[name]), decode) for name in members}
    kind, *values = decode.members(packed)
    told = _member("type", memoryview(kind), decode)
    named = zip(_STORED if told == "BlockStored" else _REMOVED, values, strict=False)
    return [told, *(_member(name, memoryview(value), decode) for name, value in named)]


def _member(name: str, packed: memoryview, decode: _Decoders) -> Any:
    if name == "block_hashes":
        return decode.hashes(packed)
    if name == "token_ids":
        return decode.tokens(packed) if packed[0] != _NIL else None
    if len(packed) > _MAX_MEMBER_BYTES:
        raise MalformedError(name)
    return decode.any(packed)


def _checked(packed: Any, most: int) -> Any:
    """Return a packed list or map that has at most so many members."""
    head = bytes(packed[:5])
    if head[0] & 0xE0 == 0x80:
        count = head[0] & 0x0F
    elif head[0] in (0xDC, 0xDE):
        count = int.from_bytes(head[1:3], "big")
    elif head[0] in (0xDD, 0xDF):
        count = int.from_bytes(head[1:5], "big")
    else:
        raise MalformedError("type")
    if count > most:
        raise MalformedError("too many members")
    return packed


def _changes(events: Any) -> Iterator[Change]:
    if not isinstance(events, list):
        raise MalformedError("events")
    for event in events:
        kind, fields = _fields(event)
        if kind == "AllBlocksCleared":
            yield Cleared()
        elif kind not in ("BlockStored", "BlockRemoved"):
            raise MalformedError("type")
        elif fields.get("medium") in _DEVICE and fields.get("locality") != "REMOTE":
            yield _stored(fields) if kind == "BlockStored" else _removed(fields)


def _told_apart(changes: Iterable[Change]) -> Iterator[Change]:
    """Yield the changes; blocks that two groups stored which are not told apart are `SEVERAL`'s.

    Each group tells of a prompt's blocks, one after the other. Where there is one group alone, a
    request finds what one before it stored in the same step, except for the last block.
    """
    seen: set[tuple[int, Any, tuple[Any, ...]]] = set()
    for change in changes:
        if not isinstance(change, Stored):
            seen.clear()
        elif change.kind is None and len(change.hashes) > 1:
            run = change.group, change.parent, tuple(change.hashes)
            if run in seen:
                change = change._replace(packed=b"", is_full=False, kind=SEVERAL)
            seen.add(run)
        yield change


def _fields(event: Any) -> tuple[Any, Mapping[str, Any]]:
    if isinstance(event, Mapping):
        return event.get("type"), event
    names = _STORED if event[0] == "BlockStored" else _REMOVED
    fields = dict(zip(names, event[1:], strict=False))
    if isinstance(fields.get("lora_name"), Mapping):  # SGLang 0.5.19 puts its salt there
        fields.update(fields.pop("lora_name"))
    return event[0], fields


def _removed(fields: Mapping[str, Any]) -> Removed:
    return Removed(_hashes(fields), _group(fields))


def _stored(fields: Mapping[str, Any]) -> Stored:
    hashes, tokens, size = _hashes(fields), fields["token_ids"], fields["block_size"]
    kind, window = fields.get("kv_cache_spec_kind"), fields.get("kv_cache_spec_sliding_window")
    if type(size) is not int or size < 1 or not isinstance(tokens, list):
        raise MalformedError("block_size")
    if kind is None and 0 < size * len(hashes) < len(tokens) and not len(tokens) % size:
        kind = SEVERAL  # a group that does not store every block
    is_full = kind in FULL
    if is_full and len(tokens) != size * len(hashes):
        raise MalformedError("token_ids")
    if not isinstance(kind, str | None) or not (window is None or type(window) is int):
        raise MalformedError("kv_cache_spec")
    lora, salt = _text(fields.get("lora_name")), _text(fields.get("cache_salt"))
    if not lora and fields.get("lora_id") is not None:  # before vLLM 0.14: no request knows it
        lora = _text(f"#{fields['lora_id']}")
    extras: list[str] = []
    for keys in fields.get("extra_keys") or ():
        named, rest = _split(keys, lora)
        salt = salt or named
        extras.append(rest)
    parent, group = fields.get("parent_block_hash"), _group(fields)
    if parent is not None and not _is_hash(parent):
        raise MalformedError("parent_block_hash")
    packed = pack(tokens) if is_full else b""
    cut = (hashes, parent, packed, size, lora, salt, extras, group, is_full)
    return Stored(*cut, kind, window if window is None else max(1, window))


def _split(keys: Any, lora: str) -> tuple[str, str]:
    """Return the salt among a block's extra keys, and what is left without the LoRA's name."""
    left = list(keys or ())
    if lora and left[:1] == [lora]:
        del left[0]
    salts = [_text(key) for key in left if isinstance(key, str)]
    rest = [key for key in left if not isinstance(key, str)]
    return "".join(salts[:1]), repr(rest) if rest else ""


def _hashes(fields: Mapping[str, Any]) -> list[Any]:
    found = fields["block_hashes"]
    if not isinstance(found, list) or not all(map(_is_hash, found)):
        raise MalformedError("block_hashes")
    return found


def _is_hash(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, bytes) and len(value) <= _MAX_HASH_BYTES)


def _group(fields: Mapping[str, Any]) -> int:
    group = fields.get("group_idx") or 0
    if type(group) is not int or not 0 <= group < MAX_GROUPS:
        raise MalformedError("group_idx")
    return group


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    if len(text) > _MAX_NAME_CHARS:
        raise MalformedError("name")
    return text
