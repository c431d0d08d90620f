"""Sends cases through the proxy over real sockets, and judges them.

The proxy runs in its default settings, except that a move costs nothing: what may move, does.

Each case goes three times, each time under a key of its own: cold; after a session that held the
same items in another order; after one that held some of them. Only then is something live, so
that planning would move blocks.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from corpus_cases import Case, Item
from corpus_checks import label_problem
from corpus_shapes import PATHS
from corpus_talks import Talk
from references import reference_problem
from servers import Scripted, serving
from system_prompts import SystemPrompt

from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

SESSIONS = ("cold", "reordered", "part")


class Verdict(NamedTuple):
    """How one case went.

    Attributes:
        found: blocks found in the cold run.
        moved: sessions after which blocks stood in another order.
        altered: sessions after which the request arrived changed in any way.
        problem: why the case fails, "" if it does not.
    """

    case: Case
    found: int
    moved: tuple[str, ...]
    altered: tuple[str, ...]
    problem: str


class Proxy:
    """Our server in front of an upstream that keeps what it receives."""

    def __init__(self, url: str, upstream: Scripted) -> None:
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)
        self._upstream = upstream

    def send(self, api: str, body: Any, key: str) -> tuple[Any, dict[str, Any]]:
        """Return the body as the engine received it, and what the result header says."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._connection.request("POST", PATHS[api], json.dumps(body).encode(), headers)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        told = answer.getheader("x-contextpilot-result")
        return self._upstream.seen.pop().json(), json.loads(told or "{}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


WORST = {"displacement_cost": 0, "min_gain_tokens": 0}


@contextlib.contextmanager
def proxy(**settings: Any) -> Iterator[Proxy]:
    """Run our server where moves cost nothing, or in other settings; yields a client of it."""
    upstream = Scripted()
    with serving(upstream) as url:
        server = make_server(
            Settings(**{"port": 0, "kind": "other", "engine": (url,), **WORST, **settings})
        )
        with serving(server) as own:
            client = Proxy(own, upstream)
            try:
                yield client
            finally:
                client.close()


def judge(case: Case, client: Proxy) -> Verdict:
    """Send a case after each session and say how it went."""
    sent = case.render(case.given)
    found, moved, altered, problem = 0, [], [], ""
    for session in SESSIONS:
        key = f"{case.name} {session}"
        for items in held(case, session):
            client.send(case.api, case.render(items), key)
        got, result = client.send(case.api, sent, key)
        blocks = int(result.get("blocks", 0))
        found = blocks if session == "cold" else found
        if result.get("moved", 0):
            moved.append(session)
        if got != sent:
            altered.append(session)
        own = _problem(case, sent, got, blocks)
        problem = problem or (own and f"{session}: {own}")
    return Verdict(case, found, tuple(moved), tuple(altered), problem)


def held(case: Case, session: str) -> Sequence[Sequence[Item]]:
    """Return the items of the requests that go before."""
    given = case.given
    if session == "reordered":
        return [[*given[2:], *given[:2]][::-1]]
    return [given[len(given) // 2 :]] if session == "part" else []


def _problem(case: Case, sent: Any, got: Any, blocks: int) -> str:
    if case.kind == "must_stay":
        return "" if got == sent else f"arrives changed: {_difference(sent, got)}"
    if case.kind == "explicit":
        return _explicit_problem(case, sent, got)
    if not case.expected <= blocks <= case.count:
        return f"{blocks} blocks found, {case.count} are there"
    return label_problem(case, sent, got)


def _explicit_problem(case: Case, sent: Any, got: Any) -> str:
    """Blocks of the field stand in the last user message, and nothing else is touched."""
    texts = [item.text for item in case.given]
    turns, kept = got["messages"], sent["messages"]
    users = [at for at, turn in enumerate(kept) if turn["role"] == "user"]
    if len(turns) != len(kept):
        return "messages were added or lost"
    for at, turn in enumerate(turns):
        whole = json.dumps(turn, ensure_ascii=False)
        if at != users[-1] and turn != kept[at]:
            return f"message {at} is changed"
        if at == users[-1] and not all(
            json.dumps(t, ensure_ascii=False)[1:-1] in whole for t in texts
        ):
            return "the last user message lacks a block"
    return ""


def _difference(sent: Any, got: Any) -> str:
    """Return the first line that differs."""
    pair = (
        json.dumps(sent, indent=1, ensure_ascii=False),
        json.dumps(got, indent=1, ensure_ascii=False),
    )
    one, two = (text.replace("\\n", "\n").split("\n") for text in pair)
    for before, after in zip(one, two, strict=False):
        if before != after:
            return f"{before.strip()[:70]!r} -> {after.strip()[:90]!r}"
    return "its end differs"


class TalkVerdict(NamedTuple):
    """How one conversation went.

    Attributes:
        saved: share of the characters of all its requests that did not go to the engine.
        problem: why it fails, "" if it does not.
    """

    talk: Talk
    saved: float
    problem: str


def judge_talk(talk: Talk, client: Proxy) -> TalkVerdict:
    """Send the requests of a conversation in order; each must extend the one before."""
    before: list[Any] = []
    chars = [0, 0]
    problem = ""
    for number, sent in enumerate(talk.requests(), start=1):
        got, result = client.send(talk.api, sent, f"talk {talk.name}")
        turns = got.get("messages", got.get("input"))
        own = reference_problem(sent, got, may_move=bool(result.get("moved")))
        if turns[: len(before)] != before:
            own = own or "what was written before is written in another way"
        if talk.stays and got != sent:
            own = own or f"arrives changed: {_difference(sent, got)}"
        problem = problem or (own and f"request {number}: {own}")
        before = turns
        for at, body in enumerate((sent, got)):
            chars[at] += len(json.dumps(body))
    saved = 1 - chars[1] / chars[0]
    if talk.saves and saved < 0.1:
        problem = problem or f"only {100 * saved:.1f} % saved"
    return TalkVerdict(talk, saved, problem)


_ASK = {"role": "user", "content": "Good morning. What can you do for me?"}
_TALK = [
    _ASK,
    {"role": "assistant", "content": "Several things. What is it about?"},
    {"role": "user", "content": "Tell me your rules."},
]


def prompt_problem(prompt: SystemPrompt, client: Proxy) -> str:
    """Send a system prompt alone and in conversations, also after one with its lists turned."""
    for number, text in enumerate((prompt.text, prompt.turned, prompt.text), start=1):
        for api, body in _around(text):
            got, _ = client.send(api, body, f"system {prompt.name}")
            if got != body:
                return f"{api}, session {number}: {_difference(body, got)}"
    return ""


def _around(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    blocks = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
    yield "chat", {"model": "m", "messages": [{"role": "system", "content": text}, _ASK]}
    yield "chat", {"model": "m", "messages": [{"role": "developer", "content": text}, *_TALK]}
    yield "messages", {"model": "m", "max_tokens": 9, "system": blocks, "messages": _TALK}
    yield "responses", {"model": "m", "instructions": text, "input": [_ASK]}
