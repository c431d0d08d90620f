"""Which engine a request goes to: a pure function of what is known of each.

It goes where least has to be computed before its first token: what stands before it there, and what
of its own prompt is not cached. Of equals the one takes it that has served least.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

STICKY_TOKENS = 2048
"""Tokens of a conversation that its engine is taken to hold beside those that it does."""


Standing: TypeAlias = tuple[str, int, int, bool | None]
"""An engine's name; tokens that stand before a new request there; its requests so far; whether it
is up, None until it was asked. A plain tuple: 64 are made and read for each request."""


class Route(NamedTuple):
    """Where a request goes, and the tokens of its prompt that are to be computed there."""

    engine: str
    tokens: int


def choose_engine(
    standings: Sequence[Standing],
    held: Mapping[str, int],
    prompt_tokens: int,
    *,
    head_tokens: int = 0,
    home: str | None = None,
    excluded: Collection[str] = (),
) -> Route | None:
    """Return where a request goes; None when no engine is left for it.

    Engines that are down are passed over, unless all are: then the attempt tells.

    Args:
        standings: in the order in which they joined.
        held: by engine the tokens of the prompt that it holds; absent for none.
        head_tokens: of the prompt, before its blocks: the conversation so far.
        home: the engine that served the conversation last.
        excluded: engines that failed this request before.
    """
    believed = _with_home(held, home, head_tokens).get
    for takes_dead in (False, True):
        costs = [
            (load - believed(name, 0), served, at)
            for at, (name, load, served, is_up) in enumerate(standings)
            if (is_up is not False or takes_dead) and name not in excluded
        ]
        if costs:
            name = standings[min(costs)[2]][0]
            return Route(name, max(0, prompt_tokens - believed(name, 0)))
    return None


def _with_home(held: Mapping[str, int], home: str | None, head_tokens: int) -> Mapping[str, int]:
    """Return what engines hold, with what a conversation's own is taken to hold."""
    if home is None:
        return held
    return {**held, home: max(held.get(home, 0), head_tokens) + STICKY_TOKENS}
