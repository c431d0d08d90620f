"""Which engine a request goes to: a pure function of what is known of each.

It goes where least has to be computed before its first token: what stands before it there, and what
of its own prompt is not cached. Of equals the one takes it that has served least.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

STICKY_TOKENS = 2048
"""Tokens of a conversation that its engine is taken to hold beside those that it does."""


class Standing(NamedTuple):
    """How an engine stands when a request comes.

    Attributes:
        load: tokens that stand before a new request there.
        served: its requests so far.
        is_up: None until it was asked.
    """

    name: str
    load: int = 0
    served: int = 0
    is_up: bool | None = True


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
    left = [one for one in standings if one.name not in excluded] if excluded else standings
    if not left:
        return None
    candidates = [one for one in left if one.is_up is not False] or left
    believed = _with_home(held, home, head_tokens).get
    _, _, at = min(
        [(one.load - believed(one.name, 0), one.served, at) for at, one in enumerate(candidates)]
    )
    name = candidates[at].name
    return Route(name, max(0, prompt_tokens - believed(name, 0)))


def _with_home(held: Mapping[str, int], home: str | None, head_tokens: int) -> Mapping[str, int]:
    """Return what engines hold, with what a conversation's own is taken to hold."""
    if home is None:
        return held
    return {**held, home: max(held.get(home, 0), head_tokens) + STICKY_TOKENS}
