"""What the site says of endpoints, commands and settings: written from the code itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from contextpilot.cli import build_parser
from contextpilot.endpoint import MAX_BODY_BYTES, MAX_CONNECTIONS
from contextpilot.http.response import _MAX_HEAD_BYTES, FRAMING_PER_BODY_BYTE, HIGH_WATER_BYTES
from contextpilot.prompt.extract.look import MAX_REQUEST_GROUPS
from contextpilot.server.app import create_app
from contextpilot.server.log_lines import _MAX_LINES
from contextpilot.server.observe.records import _MAX_RECORDS
from contextpilot.server.protocol import MAX_HEAD_BYTES
from contextpilot.server.settings import Settings
from contextpilot.sync.events import MAX_NAME_CHARS
from contextpilot.sync.receiver import _MAX_ENGINES, _MAX_REQUESTS

CODES = {"400", "401", "403", "404", "413", "415", "422"}


def endpoints() -> str:
    """Return every endpoint of the index API: what it does, takes and answers."""
    schema = create_app(Settings()).openapi()
    models = schema["components"]["schemas"]
    lines: list[str] = []
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            lines += [f"### {method.upper()} {path} {{ #{anchor(method, path)} }}", ""]
            lines += [escaped(operation.get("description", operation["summary"])), ""]
            lines += rows_of(list(_inputs(operation, models)))
            lines += _answer(operation, models)
    return "\n".join(lines)


def anchor(method: str, path: str) -> str:
    """Return the anchor of an endpoint: GET /explain/{request_id} is get-explain-request_id."""
    return f"{method}{path.replace('/', '-').replace('{', '').replace('}', '')}"


def commands() -> str:
    """Return every command with its flags, as its parser knows them."""
    lines: list[str] = []
    for name, parser in subcommands().items():
        lines += [f"### contextpilot {name} {{ #{name} }}", "", str(parser.description), ""]
        lines += ["| flag | meaning |", "|---|---|"]
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                lines.append(f"| {_flag(action)} | {escaped(help_of(action))} |")
        lines.append("")
    return "\n".join(lines)


def limits() -> str:
    """Return the bounds on what strangers, tenants and engines may send, from the code itself."""
    rows = [(f"`{item.name}`", _shown(item), item.metadata["help"]) for item in _bounding_fields()]
    rows += [(what, f"{value:,}", meaning) for what, value, meaning in FIXED]
    lines = [f"| {what} | {value} | {escaped(meaning)} |" for what, value, meaning in rows]
    return "\n".join(["| limit | value | meaning |", "|---|---|---|", *lines, ""])


FIXED = (
    ("head of a request", MAX_HEAD_BYTES, "bytes; also its trailers, and framing around the body"),
    ("framing", FRAMING_PER_BODY_BYTE, "extra bytes per byte of a chunked body"),
    ("head of an engine's answer", _MAX_HEAD_BYTES, "bytes; also its trailers"),
    (
        "unread bytes of an answer",
        HIGH_WATER_BYTES,
        "bytes, beyond which reading from the engine pauses",
    ),
    ("a name in an event", MAX_NAME_CHARS, "characters, for an engine, an epoch, a request"),
    ("reporters", _MAX_ENGINES, "per index; beyond, the one silent for longest is forgotten"),
    (
        "requests of a reporter",
        _MAX_REQUESTS,
        "that are followed; beyond, the oldest are forgotten",
    ),
    ("lists of blocks", MAX_REQUEST_GROUPS, "in one request; later lists stay as they are"),
    ("records", _MAX_RECORDS, "of requests, kept for `/requests` and `/explain`"),
    (
        "lines of the log",
        _MAX_LINES,
        "waiting for a reader; beyond, they are dropped and counted",
    ),
    ("body of the library's endpoint", MAX_BODY_BYTES, "bytes, of `ContextPilot(listen=...)`"),
    ("connections of the library's endpoint", MAX_CONNECTIONS, "at a time"),
)
"""Limits that no setting changes."""


def _bounding_fields() -> list[Any]:
    return [item for item in fields(Settings) if _is_bound(item.name)]


def _is_bound(name: str) -> bool:
    is_of_plans = name in ("max_shift", "max_overtaken", "max_wait_s", "max_in_flight")
    return name.endswith("_timeout_s") or (name.startswith("max_") and not is_of_plans)


def _shown(item: Any) -> str:
    return f"{item.default:,g}" if isinstance(item.default, float) else f"{item.default:,}"


def subcommands() -> Mapping[str, argparse.ArgumentParser]:
    """Return the parsers of the commands by name."""
    (group,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return group.choices


def help_of(action: argparse.Action) -> str:
    """Return the help of a flag, its placeholders filled in."""
    return (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")


def escaped(text: str) -> str:
    """Return a text for a cell of a table, in one line."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")  # every other one is code
    parts[::2] = [part.replace("<", "&lt;").replace("[", "&#91;") for part in parts[::2]]
    return "`".join(parts)


def rows_of(rows: list[tuple[str, str, str]]) -> list[str]:
    """Return a table of fields, or nothing where there are none."""
    if not rows:
        return []
    if not any(says for _, _, says in rows):
        lines = [f"| `{name}` | {escaped(kind)} |" for name, kind, _ in rows]
        return ["| field | type |", "|---|---|", *lines, ""]
    head = ["| field | type | meaning |", "|---|---|---|"]
    return [
        *head,
        *(f"| `{name}` | {escaped(kind)} | {escaped(says)} |" for name, kind, says in rows),
        "",
    ]


def _inputs(
    operation: Mapping[str, Any], models: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    for parameter in operation.get("parameters", ()):
        yield parameter["name"], f"{type_of(parameter['schema'])}, in the {parameter['in']}", ""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        yield from _fields(resolved(body["schema"], models))


def _answer(operation: Mapping[str, Any], models: Mapping[str, Any]) -> list[str]:
    (code,) = (code for code in operation["responses"] if code.startswith("2"))
    content = operation["responses"][code].get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    rows = list(_fields(resolved(schema, models))) if schema else []
    kind = next(iter(content), "nothing")
    return [f"Answer: {code}, `{kind}`.", "", *rows_of(rows)]


def _fields(model: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    needed = model.get("required", ())
    for name, field in model.get("properties", {}).items():
        if name in needed:
            more = ", required"
        else:
            default = field.get("default")
            more = "" if default is None or default == "" else f", default `{default}`"
        yield name, type_of(field) + more, field.get("description", "")


def resolved(schema: Mapping[str, Any], models: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the model that a schema refers to, or the schema itself."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = models[name] if name else schema
    return found


def type_of(field: Mapping[str, Any]) -> str:
    """Return a field's type in words: "string or list of integer"."""
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2])
    if "anyOf" in field and "type" not in field:
        kinds = dict.fromkeys(type_of(one) for one in field["anyOf"] if one.get("type") != "null")
        return " or ".join(kinds)
    if "enum" in field:
        return "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return f"list of {type_of(field.get('items', {}))}"
    return str(field.get("type", "anything"))


def _flag(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.dest}`"
    value = action.metavar if isinstance(action.metavar, str) else ""
    if action.choices:
        value = ", ".join(map(str, action.choices))
    return f"{names} {value}".strip()
