"""Every way in which real llama-server slots change is followed, and the index may be gone."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from launch import MODEL_NAME, free_port, launch, tiny_model
from llama_drive import Rig, common, rig
from servers import serving, wait_until

import contextpilot as cp
from contextpilot.llama_server import launcher
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(300)]

ONE, TWO, THREE, FOUR, FIVE = (
    [f"The {animal} was seen {n * i} times at the {place}." for i in range(2, 6)]
    for n, (animal, place) in enumerate(
        (("heron", "weir"), ("otter", "mill"), ("newt", "pond"), ("fox", "gate"), ("owl", "barn")),
        start=3,
    )
)
EXACT = ("--cache-ram", "0")


@pytest.fixture(scope="module", autouse=True)
def _needs_llamacpp(engine: Callable[[str], Any]) -> None:
    engine("llamacpp")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two slots without a RAM cache."""
    files = str(tmp_path_factory.mktemp("slots"))
    with rig(["--parallel", "2", *EXACT, "--slot-save-path", files]) as made:
        yield made


def names(made: Rig, slot: int | None) -> list[str]:
    """Return the requests of which a slot is believed to hold something."""
    assert slot is not None
    return [name for name, tokens in made.slots.requests(slot) if tokens > 16]


def test_an_erased_slot_is_empty(plain: Rig) -> None:
    first = plain.ask(ONE, "How many herons?")
    plain.settle()
    slot = plain.seen[first.request_id].slot
    assert slot is not None
    assert first.request_id in names(plain, slot)
    plain.act(slot, "erase")
    wait_until(lambda: plain.slots.tokens(slot) == 0)
    assert plain.ask(ONE, "How many herons?", id_slot=slot).cached == 0
    plain.settle()


def test_a_saved_slot_is_known_again_once_restored(plain: Rig) -> None:
    first = plain.ask(TWO, "How many otters?", id_slot=0)
    plain.settle()
    plain.act(0, "save", filename="two.bin")
    plain.ask(THREE, "How many newts?", id_slot=0)
    plain.settle()
    assert first.request_id not in names(plain, 0)
    plain.act(0, "restore", filename="two.bin")
    wait_until(lambda: first.request_id in names(plain, 0))
    again = plain.ask(TWO, "How many otters?")
    assert plain.seen[again.request_id].slot == 0
    assert again.cached == again.prompt - 1
    plain.settle()
    assert plain.state["num_unmatched"] == 0


def test_a_context_shift_is_a_loss() -> None:
    with rig(["--parallel", "1", "--ctx-size", "512", "--context-shift", *EXACT]) as made:
        first = made.ask(ONE, "How many herons?", max_tokens=600, ignore_eos=True)
        assert first.content["usage"]["completion_tokens"] == 600
        made.settle()
        assert names(made, 0) == []
        again = made.ask(ONE, "How many herons?")
        assert again.cached <= 1
        made.settle()
        assert names(made, 0) == [again.request_id]


def test_reused_chunks_end_what_the_earlier_request_holds() -> None:
    plain_order = {"contextpilot": {"contexts": ONE, "options": {"reorder": False}}}
    with rig(["--parallel", "1", "--cache-reuse", "8", *EXACT]) as made:
        first = made.ask([], "How many herons?", **plain_order)
        made.settle()
        plain_order["contextpilot"]["contexts"] = [ONE[0], *ONE[2:]]
        second = made.ask([], "How many herons?", **plain_order)
        made.settle()
        shared = common(made.tokens(first.request_id), made.tokens(second.request_id))
        assert second.cached > shared + 8  # a chunk was moved
        held = dict(made.slots.requests(0))
        assert shared - 1 <= held[first.request_id] <= shared
        assert held[second.request_id] == second.prompt
        again = made.ask([], "How many herons?", **plain_order)
        assert again.cached == again.prompt - 1
        made.settle()
        assert made.state["num_unmatched"] == 0


def test_prompts_in_the_ram_cache_are_found_again_as_believed() -> None:
    sets = (ONE, TWO, THREE, FOUR, FIVE)
    flags = ["--parallel", "2", "--kv-unified", "--cache-ram", "256"]
    tokens: dict[str, list[int]] = {}
    with rig(flags) as made:
        for turn in range(10):
            believed = made.slots.believed()
            reply = made.ask(sets[turn % 5], f"What of these? {turn // 5}")
            tokens[reply.request_id] = mine = made.tokens(reply.request_id)
            found = (min(n, common(tokens[r], mine)) for r, n in believed.items())
            expected = max(found, default=0)
            assert reply.cached <= expected, turn
            if turn >= 5:  # before, it shares but the template, and takes an empty slot
                assert reply.cached >= expected - 1, turn
                assert reply.cached > 40
            made.settle()
        assert made.state["num_unmatched"] == 0


def test_parallel_requests_are_told_apart() -> None:
    sets = (ONE, TWO, THREE, FOUR, FIVE)
    with rig(["--parallel", "4", *EXACT]) as made:
        with ThreadPoolExecutor(8) as threads:
            asked = [(sets[n % 5], f"Question {n}?") for n in range(24)]
            replies = list(threads.map(lambda one: made.ask(*one), asked))
        made.settle()
        assert (made.state["num_matched"], made.state["num_unmatched"]) == (24, 0)
        tokens = {reply.request_id: made.tokens(reply.request_id) for reply in replies}
        for slot in range(4):
            for name, held in made.slots.requests(slot):
                again = made.ask([], "", **_same(made, name), id_slot=slot, max_tokens=1)
                assert again.cached == min(held, len(tokens[name]) - 1)
                break


def _same(made: Rig, name: str) -> dict[str, Any]:
    return {"messages": made.seen[name].body["messages"]}


# -- without an index ------------------------------------------------------------------------------


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """Listen, and never answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def outputs(env: dict[str, str]) -> list[str]:
    """Return what llama-server generates for a few prompts."""
    texts = []
    with launch("llamacpp", env=env, extra_flags=EXACT, timeout=60) as server:
        for blocks in (ONE, TWO, ONE, THREE, FOUR, TWO):
            body = {
                "model": MODEL_NAME,
                "prompt": " ".join(blocks),
                "max_tokens": 16,
                "temperature": 0,
                "seed": 1,
            }
            reply: Any = server.post("/v1/completions", body)
            texts.append(reply["choices"][0]["text"])
    return texts


def test_without_an_index_the_outputs_are_the_same() -> None:
    alone = outputs({})
    assert len(set(alone)) > 1
    absent = f"http://127.0.0.1:{free_port()}"
    assert outputs({"CONTEXTPILOT_INDEX_URL": absent}) == alone
    with hanging() as url:
        assert outputs({"CONTEXTPILOT_INDEX_URL": url}) == alone


def test_after_a_restart_of_the_index_the_slots_are_followed_again() -> None:
    ports = free_port(), free_port()
    settings = Settings(engine=(f"http://127.0.0.1:{ports[0]}",), port=ports[1])
    url = f"http://127.0.0.1:{ports[1]}"
    index = {"CONTEXTPILOT_INDEX_URL": url}

    def synced(server: Any) -> bool:
        receiver = server.config.app.state.service.pool.receiver
        return [e["sync"] for e in receiver.engines().values()] == ["exact"]

    with launch("llamacpp", port=ports[0], env=index, extra_flags=EXACT, timeout=60) as engine:
        for _ in range(2):
            server = make_server(settings)
            with serving(server):
                wait_until(lambda one=server: synced(one))
                engine.post("/completion", {"prompt": " ".join(ONE), "n_predict": 4})
                pool = server.config.app.state.service.pool  # type: ignore[union-attr]
                [name] = pool.engines[0].reporters
                slots = pool.receiver.slots_of(name)
                wait_until(lambda held=slots: max(held.tokens(0), held.tokens(1)) > 40)


# -- the launcher ----------------------------------------------------------------------------------


def test_launch_returns_once_the_shim_has_reported(engine: Callable[[str], Any]) -> None:
    binary = engine("llamacpp").root / "bin" / "llama-server"
    model = tiny_model(engine("llamacpp"))
    arguments = ["--model", str(model), "--port", str(free_port()), "--ctx-size", "512"]
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        environ = {**os.environ, "LLAMA_SERVER_BIN": str(binary)}
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = launcher.launch(
            arguments, index_url=pilot.index_url, environ=environ, wait_s=60, **options
        )
        try:
            assert server.is_synced, server.problem
            assert pilot.engines()[server.engine_id]["pid"] == server.process.pid
        finally:
            server.process.terminate()
            server.process.wait(20)


def test_the_command_warns_when_the_index_is_absent() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with launch("llamacpp", env={"CONTEXTPILOT_INDEX_URL": url}, timeout=60) as server:
        warning = f"{url} does not answer; the shim keeps trying"
        wait_until(lambda: warning in server.log.read_text(errors="replace"))
