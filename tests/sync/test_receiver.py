"""The receiver: exact after every message, and again by a snapshot after a gap."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextpilot.index import ContextIndex
from contextpilot.sync.events import Event, SyncMessage
from contextpilot.sync.receiver import STALE_AFTER_S, Owner, SyncReceiver

BLOCK = 10


class Engine:
    """Sends numbered messages to a receiver over an index with three requests of four blocks."""

    def __init__(self, name: str = "e", epoch: str = "a") -> None:
        self.index = ContextIndex()
        for request in ("x", "y", "z"):
            keys = [f"{request}{n}" for n in range(4)]
            self.index.insert(keys, request, [BLOCK * n for n in range(1, 5)])
        self.now = 0.0
        lock = threading.Lock()
        self.receiver = SyncReceiver(
            lambda request: Owner(self.index, lock) if request in self.index else None,
            clock=lambda: self.now,
        )
        self.name, self.epoch, self.seq = name, epoch, 0

    def send(self, *events: Event, seq: int | None = None, snapshot: bool = False) -> str:
        number = self.seq if seq is None else seq
        message = SyncMessage(self.name, self.epoch, number, events, snapshot)
        answer = self.receiver.receive(message)
        self.seq = max(self.seq, number + 1)
        return answer

    def live(self) -> list[int | None]:
        return [self.index.live_tokens(request) for request in ("x", "y", "z")]

    @property
    def state(self) -> Any:
        return self.receiver.engines()[self.name]["sync"]


def cached(request: str, tokens: int, prompt: int | None = None) -> Event:
    return Event("cached", request, tokens, prompt)


def truncated(request: str, tokens: int) -> Event:
    return Event("truncated", request, tokens)


def test_events_move_the_index_up_and_down() -> None:
    engine = Engine()
    assert engine.send(cached("x", 40), truncated("y", 20), truncated("z", 0)) == "ok"
    assert engine.live() == [40, 20, 0]
    engine.send(truncated("x", 25), cached("z", 30))
    assert engine.live() == [20, 20, 30]
    assert engine.state == "exact"


def test_the_engines_count_of_the_prompt_corrects_the_estimate() -> None:
    engine = Engine()
    engine.send(cached("x", 50, prompt=80))  # 40 estimated tokens were 80 in truth
    assert engine.live()[0] == 40
    engine.send(truncated("x", 79))
    assert engine.live()[0] == 60


def test_a_repeated_message_is_acknowledged_and_ignored() -> None:
    engine = Engine()
    engine.send(truncated("x", 0))
    engine.send(cached("x", 40))
    assert engine.send(truncated("x", 0), seq=0) == "ok"
    assert engine.live()[0] == 40


def test_after_a_gap_nothing_is_believed_until_the_snapshot() -> None:
    engine = Engine()
    engine.send(cached("x", 40), cached("y", 40))
    assert engine.send(cached("x", 40), seq=2) == "resync"
    assert engine.live()[:2] == [0, 0]
    assert engine.state == "approximate"
    assert engine.send(cached("x", 40)) == "resync"
    assert engine.send(cached("x", 30), seq=9, snapshot=True) == "ok"
    assert engine.live()[:2] == [30, 0]
    assert engine.state == "exact"
    assert engine.send(cached("y", 10)) == "ok"


def test_a_restarted_engine_has_an_empty_cache() -> None:
    engine = Engine()
    engine.send(cached("x", 40), cached("y", 40))
    engine.epoch, engine.seq = "b", 0
    assert engine.send() == "ok"
    assert engine.live()[:2] == [0, 0]


def test_an_unknown_epoch_in_mid_count_is_asked_for_a_snapshot() -> None:
    engine = Engine()
    assert engine.send(cached("x", 40), seq=7) == "resync"
    assert engine.send(cached("x", 20), seq=8, snapshot=True) == "ok"
    assert engine.live()[0] == 20


def test_cleared_empties_what_the_engine_reported() -> None:
    engine = Engine()
    engine.send(cached("x", 40), cached("y", 20), Event("cleared"), cached("y", 10))
    assert engine.live()[:2] == [0, 10]


def test_silence_makes_the_state_approximate() -> None:
    engine = Engine()
    engine.send()
    engine.now += STALE_AFTER_S + 1
    assert engine.state == "approximate"
    assert engine.receiver.engines()["e"]["last_event_age_s"] == STALE_AFTER_S + 1
    engine.send()
    assert engine.state == "exact"


def test_evict_forgets_whole_requests_and_counts_the_known() -> None:
    engine = Engine()
    assert engine.receiver.evict(["x", "nobody's"]) == 1
    assert engine.live() == [0, 40, 40]


def test_events_of_strangers_are_counted() -> None:
    engine = Engine()
    engine.send(cached("nobody's", 10))
    assert engine.receiver.engines()["e"]["num_unknown_requests"] == 1


steps = st.lists(
    st.tuples(st.sampled_from("xyz"), st.integers(0, 40), st.sampled_from(["ok", "lost", "twice"])),
    max_size=30,
)


@given(steps)
@settings(max_examples=200)
def test_any_loss_ends_in_the_truth(steps: list[tuple[str, int, str]]) -> None:
    """Messages get lost or arrive twice; answering "resync" with a snapshot restores the truth."""
    engine, truth, seq = Engine(), {"x": 40, "y": 40, "z": 40}, 0
    engine.send(*[cached(request, 40) for request in truth], seq=seq)
    for request, tokens, fate in steps:
        seq += 1
        truth[request] = tokens
        if fate == "lost":
            continue
        answer = engine.send(cached(request, tokens), seq=seq)
        if fate == "twice":
            engine.send(cached(request, tokens), seq=seq)
        if answer == "resync":
            assert engine.live() == [0, 0, 0]
            seq += 1
            events = [cached(name, held) for name, held in truth.items() if held]
            assert engine.send(*events, seq=seq, snapshot=True) == "ok"
        if engine.state == "exact":
            assert engine.live() == [held // BLOCK * BLOCK for held in truth.values()]


@pytest.mark.parametrize("block_size", [1, 16])
def test_a_block_short_of_one_engine_block_still_counts(block_size: int) -> None:
    engine = Engine()
    message = SyncMessage("e", "a", 0, (cached("x", 32),), block_size=block_size)
    engine.receiver.receive(message)
    assert engine.live()[0] == (30 if block_size == 1 else 40)
