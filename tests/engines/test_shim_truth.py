"""The shim in a real llama-server: what the index believes against the tokens in saved slot files.

Longer runs: SHIM_TRUTH_ROUNDS=100 python -m pytest tests/engines/test_shim_truth.py
"""

from __future__ import annotations

import os
import random
import struct
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / "tests" / "native"), str(CHECKOUT / "scripts" / "engines")]

from launch import Server, launch  # noqa: E402
from slot_belief import Belief  # noqa: E402
from slot_index import SlotIndex  # noqa: E402

pytestmark = pytest.mark.engine

ROUNDS = int(os.environ.get("SHIM_TRUTH_ROUNDS", "10"))
MODES = {
    "two slots": ["--parallel", "2"],
    "two slots, no prompt cache": ["--parallel", "2", "--cache-ram", "0"],
    "four slots, one cache for all": ["--parallel", "-1"],
    "four slots": ["--parallel", "4"],
    "chunk reuse": ["--parallel", "3", "--cache-reuse", "64", "--cache-ram", "0"],
    "context shift": ["--parallel", "2", "--context-shift", "--ctx-size", "1600"],
}


class Watched:
    """A llama-server with the shim, and what the events and the saved files say of its slots."""

    def __init__(self, server: Server, index: SlotIndex, folder: Path, seed: int) -> None:
        self.server, self.index, self.folder = server, index, folder
        self.random = random.Random(seed)
        self.belief = Belief()
        self.num_slots = len(server.get("/slots"))  # type: ignore[arg-type]
        self.base = [[self.random.randrange(10, 2000) for _ in range(500)] for _ in range(5)]

    def prompt(self) -> list[int]:
        """A few runs of a few texts, so that prompts share beginnings and middles."""
        tokens: list[int] = []
        for _ in range(self.random.randint(1, 3)):
            text, begin = self.random.choice(self.base), 100 * self.random.randrange(3)
            tokens += text[begin : begin + self.random.randint(40, 220)]
        return tokens

    def complete(self, prompt: list[int], **options: Any) -> dict[str, Any]:
        body = {"prompt": prompt, "n_predict": 5, "cache_prompt": True, **options}
        return self.server.post("/completion", body)  # type: ignore[return-value]

    def truth(self) -> dict[int, list[int]]:
        """The tokens in each slot, from the file that the server itself saves."""
        found = {}
        for slot in range(self.num_slots):
            name = f"slot-{slot}.bin"
            saved = self.server.post(f"/slots/{slot}?action=save", {"filename": name})
            count = saved["n_saved"]  # type: ignore[index,call-overload]
            found[slot] = packed_tokens((self.folder / name).read_bytes())[:count]
        return found

    def check(self) -> None:
        """Belief and truth agree as soon as the last message has come: it tells of the saving."""
        told = len(self.index.events("saved"))
        truth = self.truth()
        expected = {slot: len(tokens) for slot, tokens in truth.items() if tokens}
        self.index.wait(lambda: self.files_told(told) and self.index.slots() == expected)
        self.belief.read(self.index.events())
        self.belief.compare(truth)

    def files_told(self, told: int) -> bool:
        """Whether each slot's file was told of since the index had heard of `told` copies."""
        names = [event["copy"] for event in self.index.events("saved")[told:]]
        return sum(name.startswith("file-") for name in names) == self.num_slots

    def check_reuse(self, answer: dict[str, Any], events: list[dict[str, Any]]) -> None:
        """The server's own count of reused tokens is where an event of that slot begins."""
        reused, slot = answer["timings"]["cache_n"], answer["id_slot"]
        begins = [e["keep"] for e in events if e["event"] == "slot" and e["slot"] == slot]
        assert reused in begins, (reused, slot, events)

    def round(self) -> None:
        """One prompt, or several at once; sometimes a slot is erased or restored."""
        kind = self.random.random()
        if kind < 0.3:
            prompts = [self.prompt() for _ in range(self.random.randint(2, 4))]
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(self.complete, prompts))
        else:
            seen = len(self.index.events())
            pin = {"id_slot": self.random.randrange(self.num_slots)} if kind < 0.45 else {}
            answer = self.complete(self.prompt(), **pin)
            self.check()
            self.check_reuse(answer, self.index.events()[seen:])
        if self.random.random() < 0.15:
            self.server.post(f"/slots/{self.random.randrange(self.num_slots)}?action=erase", {})
        if self.random.random() < 0.15:
            self.restore()
        self.check()

    def restore(self) -> None:
        """A slot gets the content of the file of another, as it was at the last check."""
        source = self.random.choice([s for s, held in self.belief.slots.items() if held] or [-1])
        if source >= 0:
            target = self.random.randrange(self.num_slots)
            name = {"filename": f"slot-{source}.bin"}
            self.server.post(f"/slots/{target}?action=restore", name)


def packed_tokens(file: bytes) -> list[int]:
    """The token ids in a slot's file: magic, version, count, then a version and a count again."""
    (count,) = struct.unpack_from("<I", file, 8)
    words = list(struct.unpack_from(f"<{count}i", file, 12))
    return words[3:] if words[:2] == [-1, 1] else words


@pytest.fixture
def watched(
    request: pytest.FixtureRequest, engine: Callable[[str], Any], tmp_path: Path
) -> Iterator[Watched]:
    engine("llamacpp")
    with (
        SlotIndex() as index,
        launch(
            "llamacpp",
            env={"CONTEXTPILOT_INDEX_URL": index.url},
            extra_flags=["--slots", "--slot-save-path", str(tmp_path), *request.param],
            hooks=False,
        ) as server,
    ):
        yield Watched(server, index, tmp_path, seed=7)


@pytest.mark.parametrize("watched", MODES.values(), ids=MODES, indirect=True)
def test_belief_is_what_the_slots_hold(watched: Watched) -> None:
    for _ in range(ROUNDS):
        watched.round()


@pytest.mark.parametrize("watched", [MODES["context shift"]], indirect=True)
def test_a_shifted_slot_is_counted_from_what_stayed(watched: Watched) -> None:
    watched.complete(watched.prompt()[:40] * 10, n_predict=1200, ignore_eos=True, n_keep=50)
    watched.check()
    # Half of what is behind the first 50 tokens makes room; the rest moves there.
    assert 50 in [event["keep"] for event in watched.index.events("slot")]


@pytest.mark.parametrize("watched", [MODES["four slots"]], indirect=True)
def test_several_answers_share_a_prompt(watched: Watched) -> None:
    answers: Any = watched.complete(watched.prompt(), n_cmpl=2)
    watched.check()
    assert {answer["id_slot"] for answer in answers} <= set(range(4))
    assert watched.index.events("copied")


@pytest.mark.parametrize("watched", [MODES["two slots"]], indirect=True)
def test_answers_are_the_same_while_the_index_is_away(watched: Watched) -> None:
    tokens = watched.prompt()
    options = {"temperature": 0, "cache_prompt": False, "n_predict": 30}
    before = watched.complete(tokens, **options)["content"]
    for fault in ("hang", "500", "drop"):
        watched.index.fault = fault
        assert watched.complete(tokens, **options)["content"] == before
    watched.index.fault = None
    watched.check()


@pytest.mark.parametrize("watched", [["--sleep-idle-seconds", "1"]], indirect=True)
def test_a_server_that_slept_has_lost_everything(watched: Watched) -> None:
    prompt = watched.prompt()
    watched.complete(prompt)
    watched.index.wait(lambda: watched.index.events("slot"))
    watched.index.wait(lambda: watched.index.slots() == {})  # it went to sleep
    assert watched.complete(prompt)["timings"]["cache_n"] == 0
    watched.index.wait(lambda: max(watched.index.slots().values(), default=0) >= len(prompt))
    assert len({message["epoch"] for message in watched.index.messages}) == 1


@pytest.mark.parametrize("watched", [MODES["two slots"]], indirect=True)
def test_the_end_of_the_server_is_told(watched: Watched) -> None:
    watched.complete(watched.prompt())
    watched.check()
    assert watched.index.hello()["pid"] == watched.server.process.pid
    watched.server.process.terminate()
    watched.index.wait(lambda: watched.index.slots() == {})
