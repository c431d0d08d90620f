"""A new source is one file: the receiver applies what it makes of messages, answers and leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from contextpilot.index import ContextIndex
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.sync.events import Event, SyncMessage
from contextpilot.sync.receiver import Owner, SyncReceiver
from contextpilot.sync.sources.base import PromptCounts, Source
from contextpilot.sync.sources.choice import SOURCES, source_of_kind
from contextpilot.sync.sources.request_events import RequestEvents

KIND, PAGE = "made-up", 10


class Pages(Source):
    """Its reporter counts pages, and waits for the answer before it tells a prompt's end."""

    is_final = True
    is_named_by_address = True

    def read(self, message: SyncMessage) -> Iterable[Event]:
        for event in message.events:
            self.num_cuts += event.kind == "truncated"
            yield event._replace(tokens=PAGE * event.tokens)

    def answered(self, answer: PromptCounts) -> Iterable[Event]:
        return [Event("cached", answer.request, answer.prompt)]

    def broken_off(self, request: str) -> Iterable[Event]:
        return [Event("unfollowed", request)]

    def state(self) -> dict[str, Any]:
        return {"num_cuts": self.num_cuts}


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, KIND, Pages)


def message(seq: int, *events: Event, name: str = "e", epoch: str = "a") -> SyncMessage:
    return SyncMessage(name, epoch, seq, events, kind=KIND, pid=7)


def test_the_receiver_works_on_a_source_without_knowing_it() -> None:
    index, lock = ContextIndex(), threading.Lock()
    index.insert(["x0", "x1", "x2", "x3"], "x", [PAGE * n for n in range(1, 5)])
    receiver = SyncReceiver(lambda request: Owner(index, lock) if request in index else None)
    receiver.receive(message(0, Event("cached", "x", 3)))
    receiver.answered("e", PromptCounts("x", None, 0, 2 * PAGE))
    assert index.live_tokens("x") == 2 * PAGE  # final: no more is on its way
    receiver.receive(message(1, Event("truncated", "x", 1)))
    assert index.live_tokens("x") == PAGE
    told = receiver.engines()["e"]
    assert (told["num_cuts"], told["num_events"], told["pid"]) == (1, 2, 7)
    receiver.broken_off("e", "x")
    assert index.match(["x0"]) == 0
    receiver.receive(message(0, epoch="b"))  # a source lasts as long as its reporter's epoch
    assert receiver.engines()["e"]["num_cuts"] == 0


def test_the_pool_finds_its_engine_by_address_and_counts_what_it_drops() -> None:
    pool = EnginePool(["http://a:1", "http://b:2"], lambda: Namespaces(100, 10, 2))
    first, second = pool.engines
    job = Job("n", [[]], Bounds(), NO_HEAD, [0])
    (planned,) = second.plan(job)
    pool.receiver.receive(message(0, Event("truncated", planned.request_id, 1), name="host-b-2"))
    assert second.reporters == {"host-b-2"}
    assert (first.traffic.evicted, second.traffic.evicted) == (0, 1)


def test_all_others_name_requests() -> None:
    assert source_of_kind(KIND) is Pages
    for kind in ("vllm", "sglang", "", None, 7, []):
        assert source_of_kind(kind) is RequestEvents
