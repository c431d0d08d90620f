"""The receiver: exact after every message, and again by a snapshot after a gap."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextpilot.index import ContextIndex
from contextpilot.sync.events import Event, SyncMessage
from contextpilot.sync.receiver import CREDIT_S, GONE_AFTER_S, STALE_AFTER_S, Owner, SyncReceiver

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


HEAD = ["system", "tools"]


class Shared:
    """Requests that begin with the same two blocks of ten tokens, at engines of one index."""

    def __init__(self) -> None:
        self.index = ContextIndex()
        self.now = 0.0
        lock = threading.Lock()
        self.receiver = SyncReceiver(
            lambda request: Owner(self.index, lock) if request in self.index else None,
            clock=lambda: self.now,
            indexes=lambda: [Owner(self.index, lock)],
        )
        self.seqs: dict[str, int] = {}

    def plan(self, *requests: str) -> None:
        for request in requests:
            self.index.insert([*HEAD, request], request, [10, 20, 30])

    def send(self, *events: Event, name: str = "e", epoch: str = "1", **more: Any) -> str:
        seq = self.seqs.setdefault(name + epoch, 0)
        self.seqs[name + epoch] += 1
        return self.receiver.receive(SyncMessage(name, epoch, seq, events, **more))

    def held(self, request: str) -> int:
        return self.index.match([*HEAD, request])

    def state(self, name: str = "e") -> str:
        return str(self.receiver.engines()[name]["sync"])


def test_what_others_hold_stays_when_a_request_is_no_longer_followed() -> None:
    shared = Shared()
    shared.plan("a", "b")
    shared.send(cached("a", 30), cached("b", 30))
    shared.send(Event("unfollowed", "a"))
    assert (shared.held("a"), shared.held("b")) == (2, 3)
    shared.send(Event("unfollowed", "b"))
    assert shared.index.stats().num_blocks == 0
    shared.send(cached("a", 20))  # followed again
    assert shared.held("b") == 2


def test_evict_takes_nothing_from_others() -> None:
    shared = Shared()
    shared.plan("a", "b")
    assert shared.receiver.evict(["a", "nobody's"]) == 1
    assert (shared.held("a"), shared.held("b")) == (2, 3)


def test_gone_is_gone_for_all_who_share_it() -> None:
    shared = Shared()
    shared.plan("a", "b")
    shared.send(cached("a", 30), cached("b", 30))
    shared.send(truncated("a", 10))
    assert (shared.held("a"), shared.held("b")) == (1, 1)


def test_what_is_planned_is_believed_while_the_engine_reads_it() -> None:
    shared = Shared()
    shared.plan("a", "b")
    shared.send(cached("a", 10, 30))
    assert (shared.held("a"), shared.held("b")) == (3, 3)
    assert (shared.index.live_tokens("a"), shared.index.live_tokens("b")) == (10, 30)


@pytest.mark.parametrize("how", ["snapshot", "epoch", "gap", "cleared"])
def test_what_is_not_confirmed_is_dropped(how: str) -> None:
    shared = Shared()
    shared.plan("told", "planned")
    shared.send(cached("told", 30))
    if how == "epoch":
        shared.send(epoch="2")
    elif how == "gap":
        shared.seqs["e1"] += 1
        assert shared.send() == "resync"
    else:
        events = [Event("cleared")] if how == "cleared" else []
        shared.send(*events, snapshot=how == "snapshot")
    assert shared.index.stats().num_blocks == 0
    assert shared.state() == ("approximate" if how == "gap" else "exact")


@pytest.mark.parametrize("how", ["snapshot", "epoch", "cleared"])
def test_of_several_reporters_each_speaks_for_what_it_told(how: str) -> None:
    shared = Shared()
    shared.plan("a", "b", "planned")
    shared.send(cached("a", 30), name="e")
    shared.send(cached("b", 30), name="f")
    events = [Event("cleared")] if how == "cleared" else []
    shared.send(*events, name="f", epoch="2" if how == "epoch" else "1", snapshot=how == "snapshot")
    assert [shared.held(request) for request in ("a", "b", "planned")] == [3, 2, 2]
    shared.send(truncated("a", 10), name="e")
    assert shared.held("a") == 1


def test_of_several_reporters_a_cut_at_one_leaves_what_the_other_holds() -> None:
    shared = Shared()
    shared.plan("a", "b")
    shared.send(cached("a", 30), name="e")
    shared.send(cached("b", 30), name="f")
    shared.send(truncated("a", 0), name="e")
    assert (shared.held("a"), shared.held("b")) == (2, 3)


def test_a_reporter_that_is_silent_beside_another_is_forgotten() -> None:
    shared = Shared()
    for number in range(50):
        shared.plan(f"r{number}")
        shared.send(cached(f"r{number}", 30), name=f"engine-{number}")
        shared.now += GONE_AFTER_S / 10
    assert len(shared.receiver.engines()) <= 11
    assert shared.held("r0") == 2
    assert shared.held("r49") == 3


def test_the_number_of_reporters_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.sync.receiver._MAX_ENGINES", 4)
    shared = Shared()
    for number in range(9):
        shared.now += 1
        shared.plan(f"r{number}")
        shared.send(cached(f"r{number}", 30), name=f"engine-{number}")
    assert sorted(shared.receiver.engines()) == [f"engine-{number}" for number in range(5, 9)]
    assert (shared.held("r4"), shared.held("r5")) == (2, 3)


def test_the_requests_of_a_reporter_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.sync.receiver._MAX_REQUESTS", 2)
    shared = Shared()
    shared.plan("a", "b", "c")
    shared.send(*(cached(request, 30) for request in "abc"))
    assert [shared.held(request) for request in "abc"] == [2, 3, 3]


def test_a_reporter_keeps_no_names_that_the_index_let_go() -> None:
    shared = Shared()
    for number in range(300):
        names = [f"{number} {part}" for part in "ab"]
        shared.plan(*names)
        shared.send(*(cached(name, 30) for name in names), cached("0 a", 30))
        if number >= 10:
            shared.index.unname(f"{number - 10} b")
            shared.index.unname(f"{number - 10} a")
    known = shared.receiver.engines()["e"]
    assert 20 <= known["num_requests"] <= 24
    assert known["num_unknown_requests"] == 289


def test_a_snapshot_in_parts_is_exact_with_its_last() -> None:
    shared = Shared()
    shared.plan("a", "b")
    shared.send(cached("a", 30), snapshot=True, more=1)
    assert shared.state() == "approximate"
    shared.send(cached("b", 30))
    assert shared.state() == "exact"
    assert (shared.held("a"), shared.held("b")) == (3, 3)


def test_a_snapshot_that_comes_twice_changes_nothing() -> None:
    shared = Shared()
    shared.plan("a")
    first = SyncMessage("e", "1", 0, (), snapshot=True)
    assert shared.receiver.receive(first) == "ok"
    shared.seqs["e1"] = 1
    shared.plan("b")
    shared.send(cached("b", 30))
    assert shared.receiver.receive(first) == "ok"
    assert shared.held("b") == 3
    assert shared.send() == "ok"


def test_a_message_that_breaks_off_is_followed_by_a_resync(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Shared()
    shared.plan("a")
    monkeypatch.setattr(shared.index, "add_cached", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        shared.send(cached("a", 30))
    assert shared.state() == "approximate"
    assert shared.send() == "resync"


def test_credit_that_is_never_confirmed_expires() -> None:
    shared = Shared()
    shared.plan("lost", "read in part")
    shared.send(cached("read in part", 20, 30))
    shared.now += CREDIT_S / 2
    shared.plan("later")
    shared.send(cached("later", 30))
    for _ in range(30):
        shared.now += CREDIT_S / 20
        shared.plan("new")
        shared.send()
    assert [shared.held(r) for r in ("lost", "read in part", "later", "new")] == [2, 2, 3, 3]


def test_credit_stays_where_nothing_is_ever_confirmed() -> None:
    shared = Shared()
    shared.plan("a", "b")
    for _ in range(30):
        shared.now += CREDIT_S / 20
        shared.plan("new")
        shared.send(cached("nobody's", 30))
    assert [shared.held(request) for request in ("a", "b", "new")] == [3, 3, 3]


steps = st.lists(
    st.tuples(st.sampled_from("xyz"), st.integers(0, 40), st.sampled_from(["ok", "lost", "twice"])),
    max_size=30,
)


@pytest.mark.slow
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
    assert engine.live()[0] == (30 if block_size == 1 else 32)  # never more than was told
