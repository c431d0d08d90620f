"""Cache capacities as people write them: tokens, or percent of a workload's tokens."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

UNLIMITED = "unlimited"
FORMS = "20000, 200k, 1.5M, 5% (of the workload's tokens) or unlimited"

_FORM = re.compile(r"(\d+(?:\.\d+)?)([kKmM%]?)", re.ASCII)
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000}


class Capacity(NamedTuple):
    """A cache's size in tokens (None: no bound), and how it was asked for."""

    label: str
    tokens: int | None

    @property
    def title(self) -> str:
        """The label, with the tokens where it does not say them."""
        if self.tokens is None:
            return UNLIMITED
        return f"{self.label} ({self.tokens:,})" if "%" in self.label else f"{self.tokens:,}"


def resolve(text: str, total_tokens: int) -> Capacity:
    """Return the capacity that `text` asks for. Raises ValueError that shows the forms."""
    text = text.strip()
    if text == UNLIMITED:
        return Capacity(UNLIMITED, None)
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(f"{text!r} is not a capacity: write {FORMS}")
    number, unit = Decimal(form[1]), form[2].lower()
    if unit == "%":
        return Capacity(text, int(total_tokens * number / 100))
    return Capacity(text, int(number * _FACTORS[unit]))
