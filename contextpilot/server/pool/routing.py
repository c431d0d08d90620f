"""Which engine a request goes to: pure functions over what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

STICKY_TOKENS = 2048
"""Tokens of a conversation that its engine is taken to hold beside those that it does."""


Standing: TypeAlias = tuple[int, int, int]
"""An engine's number, the tokens that stand before a new request there, its requests so far."""


def cheapest(standings: Iterable[Standing], live: Mapping[int, int]) -> tuple[int, int]:
    """Return the engine at which a request costs least, and the tokens that it saves there.

    The cost is what has to be computed before its first token: what stands before it, and what of
    its own prompt is not cached. Of equals the one takes it that has served least.

    Args:
        live: by engine the tokens of the prompt that it holds; absent for none.
    """
    held = live.get
    _, _, number = min([(load - held(n, 0), served, n) for n, load, served in standings])
    return number, live.get(number, 0)


def with_home(live: Mapping[int, int], home: int | None, head_tokens: int) -> Mapping[int, int]:
    """Return what engines hold, with what a conversation's own is taken to hold.

    Args:
        home: the engine that served the conversation last.
        head_tokens: of what stands before the blocks: the conversation so far.
    """
    if home is None:
        return live
    return {**live, home: max(live.get(home, 0), head_tokens) + STICKY_TOKENS}
