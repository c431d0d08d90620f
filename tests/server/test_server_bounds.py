"""Past the server's own bounds: what is shared with newer requests stays known."""

from __future__ import annotations

import asyncio

from servers import Client, Scripted

from contextpilot.block import Block
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job
from contextpilot.server.pool import engine_pool as pools
from contextpilot.server.pool import slot_choice as slot_module
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.pool.slot_choice import Prompt, Slots

HEAD = Head(("system",), 500)


class Newest:
    """Holds in slot 0 the newest prompt, in slot 1 one with nothing in common."""

    def __init__(self) -> None:
        self.newest = ""

    def tokens(self, slot: int) -> int:
        return 600 if slot == 0 else 10

    def requests(self, slot: int) -> list[tuple[str, int]]:
        return [(self.newest, 600)] if slot == 0 else [("other", 10)]

    def is_pending(self, request: str) -> bool:
        return False

    def has_copies(self) -> bool:
        return False

    def copies(self, slot: int) -> list[tuple[int, list[tuple[str, int]]]]:
        return []


def test_slots_know_the_shared_head_of_more_prompts_than_they_remember() -> None:
    slots, told = Slots(2), Newest()
    for number in range(slot_module._MAX_PROMPTS + 500):
        name = f"cp-{number}"
        prompt = Prompt(name, ["system", number], [500, 600])
        assert (slots.take(prompt, told) if number else slots.put(0, prompt)) == 0
        slots.free(0)
        told.newest = name
    assert len(slots._prompts) == slot_module._MAX_PROMPTS


def test_a_conversation_beyond_the_bound_is_found_by_its_head() -> None:
    async def main() -> None:
        namespaces = lambda: Namespaces(10_000, 100, 10)  # noqa: E731
        pool = EnginePool(("http://a:1", "http://b:2"), namespaces)
        blocks = [Block(1, "text", 100, None)]

        async def where(conversation: str, exclude: tuple[str, ...] = ()) -> str:
            async with pool.lease("n", blocks, HEAD, conversation, exclude=exclude) as lease:
                lease.plan(Job("n", [blocks], Bounds(), HEAD, [0]))
                lease.confirm()
                assert lease.engine is not None
                return lease.engine.name

        assert await where("first", exclude=("a:1",)) == "b:2"
        for number in range(pools._MAX_CONVERSATIONS + 1):
            pool._settle(("n", str(number)), "a:1")
        assert ("n", "first") not in pool._conversations
        assert len(pool._conversations) == pools._MAX_CONVERSATIONS
        assert await where("first") == "b:2"

    asyncio.run(main())


def test_a_request_id_beyond_the_bound_gives_way_to_ours(proxy: Client, upstream: Scripted) -> None:
    for given, kept in (("x" * 128, True), ("x" * 129, False)):
        body = {"messages": [{"role": "user", "content": "q"}]}
        field = {"contexts": ["a text of some length", "another text of some length"]}
        reply = proxy.post(
            "/v1/chat/completions", {**body, "contextpilot": field}, X_Request_Id=given
        )
        own = reply.result["request_id"]
        sent = upstream.last.headers["x-request-id"]
        assert sent == (f"{given}-{own}" if kept else own)
