"""What a receiver says of one request, and what is left when a reporter goes."""

from __future__ import annotations

import threading

from contextpilot.index import ContextIndex
from contextpilot.sync.events import Event, SyncMessage
from contextpilot.sync.receiver import Owner, SyncReceiver


class Shared:
    """One index that several reporters fill."""

    def __init__(self) -> None:
        self.index = ContextIndex()
        owner = Owner(self.index, threading.RLock())
        self.receiver = SyncReceiver(
            lambda request: owner if request in self.index else None,
            lambda: 0.0,
            lambda: [owner],
        )
        for name in ("a", "b"):
            self.index.insert([name, "tail"], name, [8, 16], 20)

    def tell(self, engine: str, seq: int, *events: Event) -> str:
        return self.receiver.receive(SyncMessage(engine, "1", seq, events))


def test_what_an_engine_told_last_of_a_request_is_known() -> None:
    shared = Shared()
    assert shared.receiver.told_tokens("a") is None
    shared.tell("one", 0, Event("cached", "a", 16))
    assert shared.receiver.told_tokens("a") == 16
    shared.tell("one", 1, Event("truncated", "a", 8))
    assert shared.receiver.told_tokens("a") == 8
    assert shared.receiver.told_tokens("nobody's") is None


def test_a_reporter_that_parts_leaves_nothing_that_it_alone_told() -> None:
    shared = Shared()
    shared.tell("one", 0, Event("cached", "a", 16))
    shared.tell("two", 0, Event("cached", "b", 16))
    shared.receiver.part("one")
    shared.receiver.part("nobody")
    assert list(shared.receiver.engines()) == ["two"]
    assert [shared.index.match([name, "tail"]) for name in ("a", "b")] == [0, 2]
    assert shared.receiver.engines()["two"]["sync"] == "approximate"  # asked for all again
    assert shared.tell("two", 1) == "resync"
