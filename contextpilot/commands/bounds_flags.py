"""The flags that say how far blocks may move, for every command that plans."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from contextpilot.commands.numbers import natural
from contextpilot.plan.bounds import ANCHORS, Bounds


def add_bounds(group: argparse._ActionsContainer) -> None:
    """Add the flags to a parser or to a group of it."""
    defaults = Bounds()
    group.add_argument(
        "--displacement-cost",
        type=natural,
        default=defaults.displacement_cost,
        metavar="TOKENS",
        help="gain in tokens that justifies moving the most relevant block from first place "
        "to last; 0 moves for any gain (default: %(default)s)",
    )
    group.add_argument(
        "--anchor",
        choices=ANCHORS,
        default=defaults.anchor,
        metavar="WHEN",
        help="when to put the most relevant blocks next to the question: none, moved (in prompts "
        "whose blocks move anyway) or end (in all; default: %(default)s)",
    )
    group.add_argument(
        "--anchor-blocks",
        type=natural,
        default=defaults.anchor_blocks,
        metavar="K",
        help="number of blocks for --anchor (default: %(default)s)",
    )
    group.add_argument(
        "--pin-first",
        type=natural,
        default=defaults.pin_first,
        metavar="K",
        help="leave the first K blocks of each request in place (default: %(default)s)",
    )
    group.add_argument(
        "--max-shift",
        type=natural,
        default=defaults.max_shift,
        metavar="R",
        help="move no block by more than R ranks (default: no limit)",
    )


def bounds_of(args: argparse.Namespace) -> Bounds:
    """Return what the flags say."""
    return Bounds(
        displacement_cost=args.displacement_cost,
        anchor=args.anchor,
        anchor_blocks=args.anchor_blocks,
        pin_first=args.pin_first,
        max_shift=args.max_shift,
    )


def changed_bounds(args: argparse.Namespace) -> dict[str, object]:
    """Return by name what the flags say otherwise than the defaults."""
    given, defaults = asdict(bounds_of(args)), asdict(Bounds())
    return {name: value for name, value in given.items() if value != defaults[name]}
