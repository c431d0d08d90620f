"""What one tenant sends decides nothing that another can see: plan, explanation, engine, answer."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from servers import Client, Scripted, Seen, send_json, serving

from contextpilot import block
from contextpilot.prompt.extract import asks, memory, question

Start = Callable[..., Client]
CHAT = "/v1/chat/completions"
DOCUMENTS = [f"Document {n}: " + f"facts about subject {n}. " * 12 for n in range(12)]
OTHERS = [f"Document {n}: " + f"lines about servant {n}. " * 12 for n in range(12)]
"""Of one form: what A itself may reorder decides where its requests go, and so the load."""
PASSING = ("request_id",)
"""What differs from run to run, whoever sends what."""
IDENTITIES: dict[str, tuple[dict[str, Any], Callable[[str], dict[str, str]]]] = {
    "key": ({"tenants": "key"}, lambda name: {"Authorization": f"Bearer {name}"}),
    "header": ({"tenants": "header"}, lambda name: {"X_ContextPilot_Namespace": name}),
    "salt": (
        {"tenants": "key", "cache_salt": True, "salt_secret": "s", "kind": "vllm"},
        lambda name: {"X_Api_Key": name},
    ),
}


async def counting(seen: Seen, send: Any) -> None:
    """Answer as an engine that counts tokens, so that the server learns from it."""
    prompt = len(str(seen.json()["messages"])) // 4
    usage = {"prompt_tokens": prompt, "prompt_tokens_details": {"cached_tokens": prompt // 2}}
    await send_json(send, {"choices": [], "usage": usage})


class World:
    """Two engines behind one server; what a tenant sees of it."""

    def __init__(self, start: Start, engines: list[Scripted], kind: str) -> None:
        settings, self.named = IDENTITIES[kind]
        self.engines = engines
        self.client = start(engine=tuple(one.url for one in engines), **settings)
        for one in engines:
            one.answer = counting

    def ask(self, who: str, blocks: list[str], form: str) -> dict[str, Any]:
        """Send a request as a tenant; return what it sees of it."""
        if form == "field":
            body: dict[str, Any] = {
                "messages": [{"role": "user", "content": "why?"}],
                "contextpilot": {"contexts": blocks},
            }
        else:
            listed = "".join(f'<doc index="{n}">{text}</doc>\n' for n, text in enumerate(blocks, 1))
            body = {"messages": [{"role": "user", "content": f"<docs>\n{listed}</docs>\nwhy?"}]}
        before = [len(one.seen) for one in self.engines]
        reply = self.client.post(CHAT, body, **self.named(who))
        assert reply.status == 200
        (served,) = (n for n, one in enumerate(self.engines) if len(one.seen) > before[n])
        told = {name: value for name, value in reply.result.items() if name not in PASSING}
        why = self.client.get(f"/explain/{reply.result['request_id']}").json()
        kept = ("matched_tokens", "matched_blocks", "total_tokens", "first_miss", "reason", "hint")
        sent = self.engines[served].last.json()
        return {
            "told": told,
            "why": {name: value for name, value in why.items() if name in kept},
            "sent": {name: sent[name] for name in ("messages", "cache_salt") if name in sent},
            "engine": served,
        }


def lived(world: World, others: list[str], seed: int) -> list[dict[str, Any]]:
    """Let A and B send in turn, A of `others`; return what B sees."""
    chance = random.Random(seed)
    seen = []
    for _ in range(8):
        for _ in range(2):
            ranks = chance.sample(range(12), 6)
            world.ask("a", [others[rank] for rank in ranks], chance.choice(("field", "found")))
        ranks = chance.sample(range(12), 6)
        asked = [DOCUMENTS[rank] for rank in ranks]
        seen.append(world.ask("b", asked, chance.choice(("field", "found"))))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("kind", IDENTITIES)
def test_content_of_one_tenant_decides_nothing_of_another(kind: str, start: Start) -> None:
    views = []
    for others in (DOCUMENTS, OTHERS):
        engines = [Scripted(), Scripted()]
        with serving(engines[0]) as first, serving(engines[1]) as second:
            engines[0].url, engines[1].url = first, second
            views.append(lived(World(start, engines, kind), others, seed=3))
    for at, pair in enumerate(zip(*views, strict=True)):
        for part in ("engine", "told", "why", "sent"):
            assert pair[0][part] == pair[1][part], (at, part)
    assert {one["engine"] for one in views[0]} == {0, 1}
    assert any(one["told"].get("live_blocks") for one in views[0])  # B's own content does decide


def test_the_test_notices_tenants_that_share(start: Start) -> None:
    views = []
    for others in (DOCUMENTS, OTHERS):
        engines = [Scripted(), Scripted()]
        with serving(engines[0]) as first, serving(engines[1]) as second:
            engines[0].url, engines[1].url = first, second
            world = World(start, engines, "key")
            world.named = lambda name: {"Authorization": "Bearer both"}
            views.append(lived(world, others, seed=3))
    assert views[0] != views[1]


@pytest.mark.parametrize("form", ["field", "found"])
def test_what_was_read_for_one_tenant_is_read_again_for_another(
    form: str, start: Start, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the time of an answer would tell that somebody sent the same text."""
    world, work = World(start, [upstream], "salt"), Counter[str]()
    for module, name in ((memory, "find_groups"), (block, "estimate_tokens")):
        monkeypatch.setattr(module, name, counted(work, name, getattr(module, name)))

    def work_for(who: str, documents: list[str]) -> dict[str, int]:
        work.clear()
        asked = question._read.cache_info().misses, asks._read.cache_info().misses
        world.ask(who, documents, form)
        found = question._read.cache_info().misses, asks._read.cache_info().misses
        work["asked"] = sum(found) - sum(asked)
        return dict(work)

    first = work_for("a", DOCUMENTS)
    assert work_for("b", DOCUMENTS) == first
    again = work_for("a", DOCUMENTS)
    assert sum(again.values()) < sum(first.values())  # of one's own texts it is remembered


def counted(counts: Counter[str], name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def counting_call(*args: Any, **kwargs: Any) -> Any:
        counts[name] += 1
        return original(*args, **kwargs)

    return counting_call
