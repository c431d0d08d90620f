"""Whether an answer's schema, or a tool that may answer, names documents by their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_FORMATS = ("response_format", "text", "format", "guided_json", "structured_outputs")
_MAX_DEPTH = 12
_MAX_PROPERTIES = 2000
_THING = r"(?:doc(?:ument)?|passage|source|chunk|snippet|result|text|item|candidate|context|option)"
_PLACE = re.compile(
    rf"(?:.*_)?(?:ind(?:ex|ices|exes)|idx|position|ranks?|ranking)|"
    rf"(?:.*_)?{_THING}s?_(?:numbers?|nums?|no)|(?:best|chosen|selected)_?numbers?|"
    rf"{_THING}s?(?:Index|Indices|Number|Position|Rank)",
)
_EACH = re.compile(r"scores|labels|grades|verdicts|ratings|booleans|judg(?:e)?ments|relevances?")
_CHOOSING = re.compile(r"(?:^|_)(?:select|choose|pick|rank|rerank|score|grade|label)(?:_|$)")
_ACTING = re.compile(
    r"(?:^|_)(?:open|click|visit|expand|follow|cite|quote|delete|remove|keep|drop|fetch|read)"
    r"(?=_|[A-Z]|$)"
)
_ITS_PLACE = re.compile(
    rf"(?:{_THING}|hit|link|citation)s?_?(?:ind(?:ex|ices)|idx|numbers?|nums?|no|positions?|ranks?)|"
    r"index|idx|position|rank",
    re.IGNORECASE,
)
"""What an action is told of a result; other numbers, `start_index` say, are no places of one."""


def names_places(body: Mapping[str, Any]) -> bool:
    """Return whether what answers a request tells documents by index, number or order."""
    formats = [body[name] for name in _FORMATS if isinstance(body.get(name), Mapping)]
    answers = [*formats, *_tools(body, _CHOOSING)]
    if any(_is_place(*found) for holder in answers for found in _properties(holder)):
        return True
    acts = (found for tool in _tools(body, _ACTING) for found in _properties(tool))
    return any(_ITS_PLACE.fullmatch(name) and _is_number(schema) for name, schema in acts)


def _tools(body: Mapping[str, Any], named: re.Pattern[str]) -> Iterator[Any]:
    """Yield the tools that have such a name."""
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, Mapping):
            function = tool.get("function")
            function = function if isinstance(function, Mapping) else tool
            name = function.get("name")
            if isinstance(name, str) and named.search(name):
                yield function


def _is_place(name: str, schema: Any) -> bool:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if kind == "array":
        return bool(_EACH.fullmatch(name) or _PLACE.fullmatch(name))
    return _is_number(schema) and _PLACE.fullmatch(name) is not None


def _is_number(schema: Any) -> bool:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    return kind in ("integer", "number")


def _properties(holder: Any) -> Iterator[tuple[str, Any]]:
    """Yield the properties of the JSON schemas in an object, a bounded number of them."""
    waiting, seen = [(holder, 0)], 0
    while waiting and seen < _MAX_PROPERTIES:
        node, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            continue
        items = node.items() if isinstance(node, Mapping) else ()
        for key, value in items:
            if key == "properties" and isinstance(value, Mapping):
                seen += len(value)
                yield from ((str(name), schema) for name, schema in value.items())
            waiting.append((value, depth + 1))
        if isinstance(node, list):
            waiting += [(item, depth + 1) for item in node]
