"""The random machine of `belief`: a few runs of each kind; scripts/check_belief.py makes many."""

from __future__ import annotations

import logging

import pytest
from belief import Features, World, variants


@pytest.mark.parametrize(("name", "features"), variants())
@pytest.mark.parametrize("seed", range(3))
def test_belief_is_the_truth(
    name: str, features: Features, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    world = World(seed, features)
    assert world.run(200) == [], name
    assert world.counts["checks"] > 0


@pytest.mark.parametrize("ledger", ["chain", "prefix", "told"])
@pytest.mark.parametrize("silenced", ["truncated", "cached"])
def test_the_machine_notices_what_is_not_told(
    ledger: str, silenced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextpilot_hooks.ledger import Ledger

    report = Ledger._report

    def half(self: Ledger, request: str, mark: object) -> object:
        event = report(self, request, mark)  # type: ignore[arg-type]
        return None if event is not None and event.kind == silenced else event

    monkeypatch.setattr(Ledger, "_report", half)
    features = Features(ledger, loss=False, restarts=False)
    assert any(World(seed, features).run(200) for seed in range(5))
