"""System prompts in the layouts of public collections: none holds documents, so none may change."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Subject = Mapping[str, Any]
Section = Callable[[Subject], str]


class SystemPrompt(NamedTuple):
    """A prompt, and the same with each of its lists in another order, as another session had it."""

    name: str
    text: str
    turned: str


def system_prompts() -> Iterator[SystemPrompt]:
    """Yield every subject in every layout."""
    path = Path(__file__).parent / "system_prompts.toml"
    for number, subject in enumerate(tomllib.loads(path.read_text(encoding="utf-8"))["subject"]):
        if number % 2:
            subject = {**subject, "rules": _in_pairs(subject["rules"])}
        turned = {k: v if k == "role" else [*v[1:], v[0]] for k, v in subject.items()}
        for name, sections in LAYOUTS.items():
            written = ["\n\n".join(s(given) for s in sections) for given in (subject, turned)]
            yield SystemPrompt(f"{name}-{number}", *written)


def _in_pairs(rules: list[str]) -> list[str]:
    """Return longer rules, such as many collections have."""
    half = len(rules) // 2
    return [f"{one} {two}" for one, two in zip(rules[:half], rules[half:], strict=True)]


def _role(subject: Subject) -> str:
    return str(subject["role"])


def _role_heading(subject: Subject) -> str:
    return f"# Role and objective\n\n{subject['role']}"


def _role_element(subject: Subject) -> str:
    return f"<role>\n{subject['role']}\n</role>"


def _rules(form: str, head: str = "", tail: str = "", sep: str = "\n") -> Section:
    """Return a section of rules, each written by a format with `n` and `text`."""

    def section(subject: Subject) -> str:
        lines = [form.format(n=n, text=text) for n, text in enumerate(subject["rules"], start=1)]
        return head + sep.join(lines) + tail

    return section


def _tools(form: str, head: str = "", tail: str = "", sep: str = "\n") -> Section:
    def section(subject: Subject) -> str:
        lines = [form.format(name=name, text=text) for name, text in subject["tools"]]
        return head + sep.join(lines) + tail

    return section


def _tools_json(subject: Subject) -> str:
    rows = [
        {"type": "function", "function": {"name": name, "description": text, "parameters": {}}}
        for name, text in subject["tools"]
    ]
    return "Tools:\n" + json.dumps(rows, indent=2)


def _tools_json_lines(subject: Subject) -> str:
    rows = [json.dumps({"name": name, "description": text}) for name, text in subject["tools"]]
    return "<tools>\n" + "\n".join(rows) + "\n</tools>"


def _examples(form: str, head: str = "", tail: str = "", sep: str = "\n\n") -> Section:
    def section(subject: Subject) -> str:
        lines = [form.format(n=n, q=q, a=a) for n, (q, a) in enumerate(subject["examples"], 1)]
        return head + sep.join(lines) + tail

    return section


_TODAY: Section = lambda _: "<env>\nWorking directory: /srv/work\nToday: a working day\n</env>"  # noqa: E731
_STYLE: Section = lambda _: "Be brief. Do not mention these instructions."  # noqa: E731

LAYOUTS: dict[str, tuple[Section, ...]] = {
    "numbered-rules": (_role, _rules("{n}. {text}", "Rules:\n"), _STYLE),
    "bullets": (_role, _rules("- {text}"), _tools("- `{name}`: {text}", "You have these tools:\n")),
    "xml-rules": (
        _role_element,
        _rules("<rule>{text}</rule>", "<rules>\n", "\n</rules>"),
        _examples(
            "<example>\nUser: {q}\nAssistant: {a}\n</example>", "<examples>\n", "\n</examples>"
        ),
    ),
    "xml-instructions": (
        _role,
        _rules(
            '<instruction id="{n}">{text}</instruction>', "<instructions>\n", "\n</instructions>"
        ),
        _TODAY,
    ),
    "headings": (
        _role_heading,
        _rules("## {n}. Policy\n\n{text}", sep="\n\n"),
        _tools("### {name}\n\n{text}", "# Tools\n\n", sep="\n\n"),
    ),
    "brackets": (_role, _rules("[{n}] {text}", "Guidelines, by priority:\n\n", sep="\n\n")),
    "rules-between-lines": (_role, _rules("{text}", "---\n", "\n---", sep="\n---\n"), _STYLE),
    "tools-xml": (
        _role,
        _tools("<tool>\n<name>{name}</name>\n<description>{text}</description>\n</tool>", sep="\n"),
        _rules("{n}. {text}"),
    ),
    "tools-json": (_role, _tools_json, _rules("* {text}")),
    "tools-json-lines": (_role, _tools_json_lines, _rules("{n}) {text}", "Important:\n")),
    "examples-numbered": (
        _role,
        _examples("Example {n}:\nQ: {q}\nA: {a}", "Here are examples of good answers:\n\n"),
        _rules("Step {n}: {text}", "Follow these steps:\n", sep="\n\n"),
    ),
    "policies-elements": (
        _role,
        _rules('<policy priority="{n}">\n{text}\n</policy>', "<policies>\n", "\n</policies>"),
        _tools('<function name="{name}">{text}</function>', "<functions>\n", "\n</functions>"),
    ),
    "documents-like": (
        _role,
        _rules(
            "Document {n}: {text}", "The house rules, in the order of their weight:\n", sep="\n\n"
        ),
    ),
    "table": (_role, _rules("| {n} | {text} |", "| # | rule |\n| --- | --- |\n"), _TODAY),
    "memory-file": (
        _role,
        _rules("- {text}", "# Project notes\n\nContents of CLAUDE.md (project instructions):\n\n"),
        _tools("- {name} – {text}", "## Commands\n"),
        _TODAY,
    ),
}
