"""Which kind an engine is of: by what real ones answer, as they start, and after another came."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any

import pytest
from made_up import Foundry

from contextpilot.engines.detect import EngineKinds
from contextpilot.engines.registry import OTHER, kind_named, kinds
from contextpilot.namespace import Namespaces
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.pool.health import Rhythm

URL = "http://engine:1"
VLLM = {"/version": {"version": "0.32.0"}}
SGLANG = {"/model_info": {"model_path": "m", "is_generation": True}}
OLD_SGLANG = {"/get_model_info": {"model_path": "m"}}
LLAMA = {"/props": {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4}}


class Pages:
    """What an engine serves; all else is not found. `status` is of every answer, if it is set."""

    def __init__(self, pages: dict[str, Any], status: int = 200) -> None:
        self.pages = pages
        self.status = status
        self.asked: list[str] = []

    async def __call__(self, url: str) -> tuple[int, bytes]:
        path = url.removeprefix(URL)
        self.asked.append(path)
        if self.status == 0:
            raise ConnectionRefusedError
        if self.status != 200:
            return self.status, b"{}"
        if path in self.pages or path == "/health":
            return 200, json.dumps(self.pages.get(path, {})).encode()
        return 404, b""


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


@pytest.mark.parametrize(
    ("pages", "name"),
    [(VLLM, "vllm"), (SGLANG, "sglang"), (OLD_SGLANG, "sglang"), (LLAMA, "llamacpp"), ({}, "other"),
     (SGLANG | VLLM, "sglang"), (LLAMA | VLLM, "llamacpp")],
)  # fmt: skip
def test_a_kind_is_told_by_what_only_it_serves(pages: dict[str, Any], name: str) -> None:
    async def main() -> None:
        served = Pages(pages)
        known = EngineKinds(served)
        first, second = await asyncio.gather(known.kind(URL), known.kind(URL))
        assert first is second is known.known(URL) is kind_named(name)
        assert len(served.asked) == len(set(served.asked))  # who asks at once asks together

    run(main())


def test_what_only_one_kind_serves_is_asked_for_first(foundry: Foundry) -> None:
    async def main() -> None:
        known = EngineKinds(Pages(VLLM | {"/who": "a foundry"}))
        assert await known.kind(URL) is foundry

    run(main())


@pytest.mark.parametrize("status", [0, 503])
def test_an_engine_that_is_not_ready_is_asked_again(status: int) -> None:
    async def main() -> None:
        served = Pages(LLAMA, status)
        known = EngineKinds(served)
        assert await known.kind(URL) is OTHER
        assert known.known(URL) is None
        served.status = 200
        assert await known.kind(URL) is kind_named("llamacpp")

    run(main())


def test_public_hosts_and_named_kinds_are_not_asked() -> None:
    async def main() -> None:
        served = Pages({})
        assert await EngineKinds(served).kind("https://api.openai.com") is kind_named("openai")
        assert await EngineKinds(served, "sglang").kind(URL) is kind_named("sglang")
        assert served.asked == []
        with pytest.raises(ValueError, match="'vlm' is not a kind of engine"):
            EngineKinds(served, "vlm")

    run(main())


def test_another_engine_at_the_same_address_is_told_once_it_answers() -> None:
    async def until(condition: Any) -> None:
        while not condition():
            await asyncio.sleep(0.005)

    async def main() -> None:
        served = Pages(LLAMA)
        rhythm = Rhythm(interval_s=0.02, first_retry_s=0.01, max_retry_s=0.02)
        spaces = lambda: Namespaces(100, 10, 2)  # noqa: E731
        pool = EnginePool([URL], spaces, rhythm=rhythm, get=served)
        (engine,) = pool.engines
        await pool.start()
        await until(lambda: engine.up)
        assert (pool.health()[0]["kind"], pool.health()[0]["slots"]) == ("llamacpp", 4)
        served.status = 0
        await until(lambda: engine.up is False)
        served.pages, served.status = VLLM, 200
        await until(lambda: engine.up)
        assert (pool.health()[0]["kind"], pool.health()[0]["slots"]) == ("vllm", None)
        await pool.close()

    run(main())


def test_an_engine_that_cannot_be_looked_at_for_a_moment_keeps_its_slots() -> None:
    async def main() -> None:
        served = Pages(LLAMA)
        pool = EnginePool([URL], lambda: Namespaces(100, 10, 2), get=served)
        (engine,) = pool.engines
        assert await pool.kind_of(engine) is kind_named("llamacpp")
        served.status = 503
        await pool._greet(engine)
        assert (await pool.kind_of(engine), pool.health()[0]["slots"]) == (OTHER, 4)
        served.pages, served.status = VLLM, 200
        assert await pool.kind_of(engine) is kind_named("vllm")
        assert pool.health()[0]["slots"] is None

    run(main())


def test_whoever_only_names_kinds_opens_no_connections() -> None:
    code = "import sys, contextpilot.engines.registry; print(*{'asyncio', 'ssl'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_every_kind_can_be_asked_for_everything() -> None:
    """What a kind does not know it leaves: no answer of it may break a request."""

    async def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return 404, "no"

    async def main() -> None:
        for kind in kinds():
            assert await kind.num_slots(URL, Pages({})) == 0
            version, cache = await kind.describe(ask)
            assert isinstance(version, str)
            assert await kind.reset(ask, cache) is False
            for api in ("chat", "completions", "responses", "messages", "other"):
                assert kind.members(api, None) == {}
                assert isinstance(kind.salt_refusal(api), str)
                kind.slot_wish(api, {"n": None, "id_slot": "x"})

    run(main())
