"""Which namespace a request belongs to is remembered of the last requests only."""

from __future__ import annotations

import pytest

import contextpilot as cp
from contextpilot.sync.events import Event, SyncMessage

TEXTS = [f"{word} " * 40 for word in ("alpha", "beta", "gamma", "delta", "epsilon")]


def test_requests_beyond_the_bound_leave_what_others_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.budget._MAX_OWNERS", 2)
    pilot = cp.ContextPilot(reorder=False)
    plans = [pilot.optimize([TEXTS[0], text], "q").request_id for text in TEXTS[1:3]]
    events = tuple(Event("cached", request, 1 << 20) for request in plans)
    assert pilot._receiver.receive(SyncMessage("e", "1", 0, events)) == "ok"
    space = pilot._namespaces.get("default")
    index, held = space.planner.index, []
    for text in TEXTS[3:5]:
        pilot.optimize([TEXTS[0], text], "q")
        held.append([request in index for request in plans])
    assert held == [[False, True], [False, False]]
    assert index.stats().num_blocks == 3
    assert pilot._receiver.evict(plans) == 0
