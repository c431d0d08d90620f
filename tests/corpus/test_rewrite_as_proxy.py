"""`ContextPilot.rewrite` gives what the proxy sends: the same bytes for prompts of every shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from corpus_cases import load
from corpus_run import WORST, Proxy, held, proxy
from corpus_talks import talks

from contextpilot import ContextPilot

pytestmark = pytest.mark.slow

CASES = [
    case
    for case in load()
    # the library is not given the schema of the answer
    if case.kind != "explicit" and "response_format" not in case.spec.get("members", {})
]
SESSIONS = ("reordered", "part")


@pytest.fixture(scope="module")
def client() -> Iterator[Proxy]:
    with proxy() as own:
        yield own


def rewritten(pilot: ContextPilot, body: dict[str, Any], namespace: str) -> tuple[Any, bool]:
    """Return a body rewritten by the library, and whether blocks moved."""
    given = json.dumps(body)
    (name,) = {"messages", "input", "prompt"} & body.keys()
    system = "system" if "system" in body else "instructions"
    is_text = isinstance(body[name], str)
    messages = [{"role": "user", "content": body[name]}] if is_text else body[name]
    done = pilot.rewrite(
        messages, system=body.get(system), tools=body.get("tools"), namespace=namespace
    )
    assert json.dumps(body) == given
    written = {**body, name: done.messages[0]["content"] if is_text else done.messages}
    return written | ({system: done.system} if system in body else {}), done.num_moved > 0


def test_single_prompts(client: Proxy) -> None:
    moved = 0
    with ContextPilot(index_url="", **WORST) as pilot:
        for case, session in [(case, session) for case in CASES[::2] for session in SESSIONS]:
            key = f"{case.name} {session}"
            for body in [case.render(items) for items in [*held(case, session), case.given]]:
                sent, told = client.send(case.api, body, key)
                own, has_moved = rewritten(pilot, body, key)
                assert json.dumps(own) == json.dumps(sent), key
                assert has_moved == bool(told.get("moved")), key
                moved += has_moved
    assert moved > 50


def test_conversations_extend_themselves(client: Proxy) -> None:
    altered = 0
    with ContextPilot(index_url="", **WORST) as pilot:
        for talk in talks()[::2]:
            before: list[Any] = []
            for body in talk.requests():
                sent, _ = client.send(talk.api, body, talk.name)
                own, _ = rewritten(pilot, body, talk.name)
                assert json.dumps(own) == json.dumps(sent), talk.name
                turns = own["messages" if "messages" in own else "input"]
                assert turns[: len(before)] == before, talk.name
                before = turns
                altered += own != body
    assert altered > 50
