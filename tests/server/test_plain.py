"""The cache under original orders, against the one that simulates with a node per block."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from contextpilot.block import Block
from contextpilot.plan.online import NO_HEAD
from contextpilot.plan.simulate import PrefixCache
from contextpilot.server.pool.original_order import OriginalOrderCache

WEIGHT = 100
ASKED = st.lists(
    st.tuples(st.sampled_from("mn"), st.lists(st.integers(0, 6), min_size=1, max_size=5)),
    min_size=1,
    max_size=40,
)


@given(ASKED, st.integers(1, 12))
def test_original_orders_hit_as_in_a_simulated_cache(
    asked: list[tuple[str, list[int]]], held: int
) -> None:
    plain, cache = OriginalOrderCache(), PrefixCache(WEIGHT * held)
    weights = dict.fromkeys(range(7), WEIGHT) | {"m": 0, "n": 0}
    for namespace, keys in asked:
        blocks = [Block(key, "", WEIGHT, None) for key in keys]
        hits = plain.run(namespace, blocks, NO_HEAD, held, True)
        assert hits == cache.request([namespace, *keys], weights)
