"""What `ContextPilot.reorder` returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Reordered(list[Any]):
    """One context in its new order.

    Attributes:
        order: for each position the original rank of its block.
        request_id: the id to send to the engine with the prompt written from it.
    """

    def __init__(self, blocks: Sequence[Any], order: Sequence[int], request_id: str = "") -> None:
        super().__init__(blocks)
        self.order = tuple(order)
        self.request_id = request_id
