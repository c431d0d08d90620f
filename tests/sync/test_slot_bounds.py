"""Past every bound of what is followed of a llama-server, what others hold stays believed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from contextpilot.index import ContextIndex
from contextpilot.sync.events import SlotEvent, SyncMessage
from contextpilot.sync.receiver import Owner, SyncReceiver
from contextpilot.sync.sources.base import PromptCounts
from contextpilot.sync.sources.llama_slots import EXPIRE_S, SETTLE_S

HEAD = 100
PROMPT = 200


class Server:
    """A llama-server of which requests with the same head run in slot 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.index = ContextIndex()
        owner = Owner(self.index, threading.RLock())
        self.receiver = SyncReceiver(
            lambda request: owner if request in self.index else None,
            lambda: self.now,
            lambda: [owner],
        )
        self.seq = 0
        self.held = 0

    def hear(self, *events: SlotEvent) -> None:
        message = SyncMessage("l", "1", self.seq, (), kind="llamacpp", slot_events=events)
        self.receiver.receive(message)
        self.seq += 1

    def plan(self, name: str) -> int:
        self.index.insert(["head", name], name, [HEAD, PROMPT], PROMPT)
        slots = self.receiver.slots_of("l")
        return slots.position if slots is not None else 0

    def run(self, name: str, steps: int = 1) -> None:
        """Run a request and hear all of it."""
        since, kept = self.plan(name), min(self.held, HEAD)
        ends = [kept + (PROMPT - kept) * step // steps for step in range(1, steps + 1)]
        for end in ends:
            self.hear(SlotEvent("slot", 0, kept, end))
            kept = end
        cached, self.held = min(self.held, HEAD), PROMPT
        self.receiver.answered("l", PromptCounts(name, 0, cached, PROMPT, 1, since))

    def believed(self, *names: str) -> list[int]:
        return [self.index.match(["head", name]) for name in names]


@pytest.fixture
def server() -> Server:
    made = Server()
    made.hear()
    return made


def test_each_request_cuts_the_one_before_behind_the_head(server: Server) -> None:
    for name in "abc":
        server.run(name)
    assert server.believed(*"abc") == [1, 1, 2]


def test_answers_that_wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.llama_slots._MAX_PENDING", 2)
    server.run("a")
    for name in "xyz":  # their events are late
        since = server.plan(name)
        server.receiver.answered("l", PromptCounts(name, None, HEAD, PROMPT, 1, since))
    slots = server.receiver.slots_of("l")
    assert slots is not None
    assert slots.num_pending == 2
    assert server.believed("a", "x", "y", "z") == [2, 1, 2, 2]
    server.now += EXPIRE_S
    server.hear()
    assert server.believed("a", "x", "y", "z") == [2, 1, 1, 1]


def test_runs_among_which_that_of_an_answer_is_looked_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.slot_contents._MAX_RUNS", 2)
    since = server.plan("late")
    for name in "abc":
        server.run(name)
    server.receiver.answered("l", PromptCounts("late", 0, 0, PROMPT, 1, since))
    server.now += EXPIRE_S
    server.hear()
    assert server.believed("late", *"abc") == [1, 1, 1, 2]


def test_steps_of_a_run(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.slot_contents._MAX_STARTS", 2)
    server.run("a", steps=5)
    server.run("b")
    server.now += SETTLE_S
    server.hear()
    assert server.believed("a", "b") == [1, 2]


def test_runs_of_a_slot(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.slot_contents._MAX_HELD", 3)
    names = [f"r{number}" for number in range(12)]
    for name in names:
        server.run(name)
    assert server.believed(*names) == [1] * 11 + [2]
    server.hear(SlotEvent("slot", 0, 0, 50))
    assert server.believed(*names) == [0] * 12


def test_files_that_slots_were_saved_to(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.slot_contents._MAX_FILES", 2)
    for name in "abcd":
        server.run(name)
        server.hear(SlotEvent("saved", 0, copy=f"file-{name}"))
    server.hear(SlotEvent("loaded", 0, copy="file-d", tokens=PROMPT))
    assert server.believed(*"abcd") == [1, 1, 1, 2]
    server.hear(SlotEvent("loaded", 0, copy="file-a", tokens=PROMPT))  # long forgotten
    assert server.believed(*"abcd") == [0] * 4


def test_copies_in_ram_have_a_bound(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.slot_contents._MAX_COPIES", 8)
    for number in range(20):
        server.hear(SlotEvent("saved", 0, copy=str(number), num_bytes=0))
    source: Any = server.receiver._engines["l"].source
    assert list(source._copies) == [str(number) for number in range(12, 20)]
