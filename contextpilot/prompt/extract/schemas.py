"""Whether what a request wants back depends on the places in its prompt.

An answer's schema or pattern, or a tool that may answer, names documents by their place; or the
prompt itself comes back, or is cut at so many tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_FORMATS = ("response_format", "text", "format", "guided_json", "structured_outputs")
_PATTERNS = (
    *("guided_regex", "guided_grammar", "guided_choice", "regex", "ebnf", "grammar", "choice"),
)
_NUMBER_OR_LETTER = re.compile(r"\W{0,2}(?:\d{1,3}|[A-Ha-h])\W{0,2}")
_CLASS = re.compile(r"\\d|\[[^\]\n]{0,24}?(?:\d-\d|[A-H]-[A-H]|[a-h]-[a-h]\])")
_MAX_PATTERN_CHARS = 200
"""Longer patterns are of whole texts, JSON say: numbers in those need be no places."""
_GIVEN_BACK = ("echo", "prompt_logprobs", "decoder_input_details", "return_full_text")
_CUT = ("truncate_prompt_tokens", "truncate")
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
    if any(_admits_places(pattern) for pattern in _patterns(body)):
        return True
    acts = (found for tool in _tools(body, _ACTING) for found in _properties(tool))
    return any(_ITS_PLACE.fullmatch(name) and _is_number(schema) for name, schema in acts)


def keeps_prompt(body: Mapping[str, Any]) -> bool:
    """Return whether the prompt comes back with the answer, or is cut: then each place counts."""
    back = (body.get(name) for name in _GIVEN_BACK)
    if any(value is not None and value is not False for value in back):
        return True
    return any(isinstance(body.get(name), int) and body[name] is not False for name in _CUT)


def _patterns(body: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what an answer has to match: of vLLM, SGLang and llama.cpp."""
    yield from (body.get(name) for name in _PATTERNS)
    outputs = body.get("structured_outputs")
    if isinstance(outputs, Mapping):
        yield from (outputs.get(name) for name in _PATTERNS)


def _admits_places(pattern: Any) -> bool:
    """Return whether an answer may be a number or letter alone."""
    if isinstance(pattern, list):
        return any(isinstance(p, str) and _NUMBER_OR_LETTER.fullmatch(p) for p in pattern)
    if not isinstance(pattern, str) or len(pattern) > _MAX_PATTERN_CHARS:
        return False
    return _CLASS.search(pattern) is not None


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
