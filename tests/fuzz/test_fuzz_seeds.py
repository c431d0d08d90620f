"""The inputs that `scripts/fuzz.py` began with, and those with which it found something."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz_targets import TARGETS

SEEDS = Path(__file__).parent / "seeds"
KEPT = sorted(path.relative_to(SEEDS).as_posix() for path in SEEDS.glob("*/*"))


@pytest.mark.parametrize("seed", KEPT)
def test_a_kept_input_breaks_nothing(seed: str) -> None:
    TARGETS[seed.partition("/")[0]]((SEEDS / seed).read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs_cut_and_mixed_break_nothing(target: str) -> None:
    chance = random.Random(target)
    kept = [path.read_bytes() for path in sorted((SEEDS / target).iterdir())]
    for _ in range(150):
        first, second = chance.choice(kept), chance.choice(kept)
        at, other = chance.randrange(len(first) + 1), chance.randrange(len(second) + 1)
        TARGETS[target](first[:at] + second[other:])


def test_every_target_has_seeds() -> None:
    assert {seed.partition("/")[0] for seed in KEPT} == set(TARGETS)
