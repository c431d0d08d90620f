"""Writes a changed JSON value back into its text; what did not change stays byte for byte.

A parser and a printer between them change more than was asked for: spacing, escapes, 1.0 and 1e0,
repeated keys. So only the spans of changed values are printed anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class _Span(NamedTuple):
    begin: int
    end: int


def splice(text: str, old: Any, new: Any) -> str:
    """Return `text`, the JSON of `old`, changed to mean `new`.

    Objects and arrays are followed down to what differs. Added members come last. Linear in the
    length of what has to be looked into.
    """
    begin = _skip(text, 0)
    pieces = [text[:begin]]
    _write(pieces, text, _Span(begin, len(text)), old, new)
    return "".join(pieces)


def dump(value: Any) -> str:
    """Return compact JSON that UTF-8 can hold: text as it is, unless it has lone surrogates."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


def _write(pieces: list[str], text: str, span: _Span, old: Any, new: Any) -> None:
    if old is new:
        pieces.append(text[span.begin : span.end])
    elif isinstance(old, dict) and isinstance(new, dict):
        _write_object(pieces, text, span, old, new)
    elif isinstance(old, list) and isinstance(new, list) and old:
        _write_array(pieces, text, span, old, new)
    elif type(old) is type(new) and old == new:
        pieces.append(text[span.begin : span.end])
    else:
        pieces.append(dump(new))


def _write_object(
    pieces: list[str],
    text: str,
    span: _Span,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
) -> None:
    """Copy the members; of a repeated key only the last counts, so only that one is changed."""
    members = list(_members(text, span.begin))
    last = {key: at for at, (key, _, _) in enumerate(members)}
    end, has_some = span.begin + 1, False
    pieces.append("{")
    for at, (key, name, value) in enumerate(members):
        if key in new:
            gap = text[end : name.begin]
            pieces += [gap if has_some else gap.replace(",", ""), text[name.begin : value.begin]]
            _write(pieces, text, value, old[key], new[key] if last[key] == at else old[key])
            has_some = True
        end = value.end
    for key in [key for key in new if key not in last]:
        pieces.append(f"{',' if has_some else ''}{dump(key)}:{dump(new[key])}")
        has_some = True
    pieces.append(text[end : span.end])


def _write_array(pieces: list[str], text: str, span: _Span, old: list[Any], new: list[Any]) -> None:
    items = list(_items(text, span.begin))
    end = span.begin + 1
    pieces.append("[")
    for at, item in enumerate(new):
        if at < len(items):
            pieces.append(text[end : items[at].begin])
            _write(pieces, text, items[at], old[at], item)
            end = items[at].end
        else:
            pieces += ["," if at else "", dump(item)]
    pieces.append(text[items[-1].end : span.end])


def _members(text: str, begin: int) -> Iterator[tuple[str, _Span, _Span]]:
    """Yield key, span of the key and span of the value of each member of the object at `begin`."""
    at = _skip(text, begin + 1)
    while text[at] != "}":
        if text[at] == ",":
            at = _skip(text, at + 1)
        key, after = _DECODER.raw_decode(text, at)
        value = _skip(text, _skip(text, after) + 1)
        end = _DECODER.raw_decode(text, value)[1]
        yield key, _Span(at, after), _Span(value, end)
        at = _skip(text, end)


def _items(text: str, begin: int) -> Iterator[_Span]:
    """Yield the span of each item of the array at `begin`."""
    at = _skip(text, begin + 1)
    while text[at] != "]":
        if text[at] == ",":
            at = _skip(text, at + 1)
        end = _DECODER.raw_decode(text, at)[1]
        yield _Span(at, end)
        at = _skip(text, end)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()
