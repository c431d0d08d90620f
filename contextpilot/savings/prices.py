"""What tokens cost, by a table that the user gives: no price is built in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from contextpilot.errors import CommandError
from contextpilot.savings.stores import Call

_FIELDS = ("input", "cached", "written", "written_1h", "output")
DEFAULT = "default"
"""The entry for models that no other fits."""


class Price(NamedTuple):
    """Of one model, for a million tokens each."""

    input: float
    cached: float
    written: float
    written_1h: float
    output: float

    def prompt(self, call: Call) -> float:
        """Return what a call's prompt cost."""
        short, fresh = call.written - call.written_long, call.prompt - call.cached - call.written
        tokens = (max(0, fresh), call.cached, max(0, short), call.written_long)
        return sum(n * price for n, price in zip(tokens, self[:4], strict=True)) / 1e6

    def uncached(self, call: Call) -> float:
        """Return what a call's prompt would have cost without a cache."""
        return call.prompt * self.input / 1e6


class Prices(NamedTuple):
    """Prices by model; `currency` is how amounts are shown."""

    models: Mapping[str, Price]
    currency: str

    def of(self, model: str) -> Price | None:
        """Return the price of a model: by its name, the longest beginning of it, or the default."""
        fitting = [name for name in self.models if name != DEFAULT and model.startswith(name)]
        name = max(fitting, key=len) if fitting else DEFAULT
        return self.models.get(name)


def read_prices(path: Path) -> Prices:
    """Read `{"currency": "USD", "models": {"gpt-5": {"input": 1.25, "cached": 0.125}}}`.

    Prices are for a million tokens. Of a model, `input` must be given; `cached`, `written` and
    `output` are `input`, `input` and 0 if left out, and `written_1h` is `written`.

    Raises:
        CommandError: the file is no such table; the field is named.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CommandError(f"{path}: not JSON: {error}") from None
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(models, dict) or not models:
        raise CommandError(f'{path}: models must be an object: {{"MODEL": {{"input": 3.0}}}}')
    currency = content.get("currency", "")
    if not isinstance(currency, str):
        raise CommandError(f"{path}: currency must be a string")
    return Prices({name: _price(path, name, given) for name, given in models.items()}, currency)


def _price(path: Path, model: str, given: Any) -> Price:
    where = f"{path}: models.{model}"
    if not isinstance(given, dict) or "input" not in given:
        raise CommandError(f"{where} must be an object with a price input, for a million tokens")
    for name, value in given.items():
        if name not in _FIELDS:
            raise CommandError(f"{where}.{name} is unknown: the fields are {', '.join(_FIELDS)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise CommandError(f"{where}.{name} must be a number from 0 on, not {value!r}")
    full: float = given["input"]
    prices: dict[str, float] = {"cached": full, "written": full, "output": 0.0, **given}
    return Price(**{"written_1h": prices["written"], **prices})
