"""Texts in which finding blocks could take long: for the test, and for the fuzzer in scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contextpilot.prompt.extract import Arrangement, look

ROLES = ("user", "tool", "system")
FRAGMENTS = [
    *("<doc>", "</doc>", '<doc index="1">', "<document id='2'>", "</document>", "<context>"),
    *("</context>", "<documents>", "</documents>", "<source>", "<1>", "</1>", "</", "<", ">"),
    *("[1] ", "[2] ", "[0]", "1. ", "2) ", "Document 1: ", "Document 2: ", "Source ID: 1\n"),
    *("## Source 1\n", "# A\n", "---\n", "===\n", "```\n", "a.py\n---\n", "a.py\n```\n", "- a\n"),
    *("\n", "\n\n", " ", "\t", "Question: ", "why?", "Results:\n", "Documents:\n", "memories:\n"),
    *("the second document ", "compare 1 and ", "one score per line ", "first ", "document 1 "),
    *('[{"text": "a"}, {"text": "b"}]', '{"results": [', '{"score": 0.5, "text": "x"}', ", ", '"'),
    *("]}", "]", "[", "{", "}", "\\", '\\"', "Title: a\nURL: b\n", "Agent: ", "12:30 ", "Page 1 "),
    *("word " * 20, "第二个", "zweite ", "é", "use the following documents ", "x" * 200, "0" * 60),
]


def messages_of(text: str, role: str) -> list[Any]:
    """Return a conversation that holds a text: a user's, a system's, a search tool's."""
    if role == "tool":
        call = {"id": "c", "type": "function", "function": {"name": "search", "arguments": "{}"}}
        asked = {"role": "assistant", "content": None, "tool_calls": [call]}
        return [asked, {"role": "tool", "tool_call_id": "c", "content": text}]
    return [{"role": role, "content": text}, {"role": "user", "content": "How deep is the port?"}]


def _repeated(unit: str, role: str = "user", start: str = "", end: str = "") -> Any:
    return lambda n: messages_of(start + unit * (n // len(unit)) + end, role)


def _numbered(form: str, role: str = "user", start: str = "") -> Any:
    def make(n: int) -> list[Any]:
        size = len(form.format(n=1000))
        lines = (form.format(n=i) for i in range(1, n // size + 1))
        return messages_of(start + "".join(lines), role)

    return make


def _document(text: str) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "text", "data": text}}


def _parts(n: int) -> list[Any]:
    run = [_document("a"), _document("b"), {"type": "text", "text": "x"}]
    return [{"role": "user", "content": run * (n // 200)}]


def _many_messages(n: int) -> list[Any]:
    one = {"role": "user", "content": "<doc>first</doc><doc>second</doc>\nwhy?"}
    return [one, {"role": "assistant", "content": "so"}] * (n // 80)


HARD: dict[str, Callable[[int], list[Any]]] = {
    "groups of elements": _repeated('<doc index="1">a</doc><doc index="2">b</doc>x'),
    "wrappers of lists": _repeated("<docs>\n[1] a\n[2] b</docs>x"),
    "wrappers of rows": _repeated('<docs>[{"text":"a"},{"text":"b"}]</docs>x'),
    "wrappers of rules": _repeated("<docs>a\n---\nb\n---\nc</docs>x", "tool"),
    "groups of document parts": _parts,
    "a group in each message": _many_messages,
    "one list of elements": _numbered('<doc index="{n}">some text of a document</doc>'),
    "nested elements": lambda n: messages_of("<doc>" * (n // 11) + "</doc>" * (n // 11), "user"),
    "elements that never close": _repeated("<doc>"),
    "elements that never open": _repeated("</doc>"),
    "long attributes": _repeated('<doc a="b" c="d"', start="<doc>a</doc><doc>b</doc>"),
    "one list of numbers": _numbered("[{n}] a\n", start="Documents:\n"),
    "numbers that begin again": _repeated("[1] a\n[2] b\n"),
    "labelled lines": _numbered("Document {n}: some words of a document\n"),
    "plain numbers": _numbered("{n}. some words of a document\n", start="Documents:\n"),
    "empty lines": _repeated("\n"),
    "blank lines": _repeated("\n "),
    "rules": _repeated("---\n", "tool"),
    "headings": _repeated("# a\n"),
    "fences": _repeated("```\n"),
    "fenced files": _repeated("a.py\n```\nx\n```\n\n"),
    "listed files": _repeated("a.py\n---\nx\n\n---\n"),
    "bullets": _repeated("- a memory\n", start="Memories:\n"),
    "rows of a search": lambda n: messages_of(
        "[" + '{"text":"a","id":1},' * (n // 20) + '{"text":"b","id":2}]', "tool"
    ),
    "rows in rows": lambda n: messages_of('[{"a":' * (n // 8) + "1" + "}]" * (n // 8), "tool"),
    "rows that break off": lambda n: messages_of('[{"text":"a"},' * (n // 14), "tool"),
    "brackets": _repeated("[", "tool"),
    "JSON in JSON": lambda n: messages_of(
        '{"r":"[' + '{\\"text\\":1},' * (n // 14) + '1]"}', "tool"
    ),
    "escapes": lambda n: messages_of('{"r":"[{' + '\\"' * (n // 2) + '"}', "tool"),
    "numbers before fields": _numbered("[{n}] Title: a\n[{n}] URL: b\n[{n}] Date: 2024-01-02\n"),
    "names in bold": _repeated("<br><b>Content from " + "from a " * 90 + "</b> x\n<br>"),
    "names of files": _repeated("file_path: " + "from " * 120 + "\n", start="Documents:\n"),
    "headings with an address": _repeated("# a\nURL: https://b\n", "tool"),
    "lists that quote": _repeated('Information: "Source: a\nTitle: b\n\n'),
    "facts that hold since": _repeated("- a (2024-01-02 (\n", start="memories:\n"),
    "what counts more": _repeated("prefer later ones ", start="<doc>a</doc><doc>b</doc>"),
    "what cites": _repeated("cite [", end="<context>\n1. a\n2. b\n</context>"),
    "questions that count": _repeated("the second one, ", start="<doc>a</doc><doc>b</doc>"),
    "citations": _repeated("[1] ", start="<doc>a</doc><doc>b</doc>"),
    "numbers named in blocks": lambda n: messages_of(
        f'<doc index="1">{"document 1 " * (n // 22)}</doc><doc index="2">{"x 2 " * (n // 8)}</doc>',
        "user",
    ),
    "inline list": _numbered("[{n}] some words of a document that go on "),
    "many cues": _repeated("use the following documents:\n[1] a\n[2] b\n"),
}


def worked(messages: list[Any]) -> None:
    """Do with messages all that extraction does with a request."""
    found = look(messages).extraction
    if found is None:
        return
    reverse = [Arrangement(range(len(group.texts))[::-1]) for group in found.groups]
    found.head(reverse[:-1])
    found.tail_tokens()
    found.arrange(reverse)
    for i in range(len(messages)):
        found.message_key(i, found.messages[i])
