"""A small index for the shim's tests: rebuilds what every slot holds from the events alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hooks"))

from receiver import Receiver, eventually


class SlotIndex(Receiver):
    """Token counts per engine and slot, exactly as the events say.

    `log` keeps every event that was applied, in order, as (engine, event). The next `refusals`
    messages are answered with a status that nobody knows, and kept in `refused`.
    """

    def __init__(self, port: int = 0) -> None:
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.copies: dict[str, int] = {}
        self.refused: list[dict[str, Any]] = []
        self.refusals = 0
        super().__init__(port)

    def slots(self, engine: str | None = None) -> dict[int, int]:
        """Tokens per slot that is not empty, of the only engine or of the one named."""
        with self.changed:
            if not self.state:
                return {}
            name = engine or next(iter(self.state))
            return {int(slot): tokens for slot, tokens in self.state[name].items() if tokens}

    def hello(self) -> dict[str, Any]:
        """The first message of the first engine."""
        self.wait(lambda: self.messages)
        return self.messages[0]

    def wait_for_fault(self, count: int = 1) -> bool:
        """Whether `count` messages met the fault within 20 s."""
        return eventually(lambda: self.faults_seen >= count)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The events applied so far, all or of one kind."""
        with self.changed:
            return [event for _, event in self.log if kind in (None, event["event"])]

    def take(self, message: dict[str, Any]) -> str:
        if self.refusals:
            self.refusals -= 1
            self.refused.append(message)
            return "busy"
        return super().take(message)

    def _take(self, message: dict[str, Any]) -> str:
        applied = len(self.log)
        status = super()._take(message)
        for place in range(applied, len(self.log)):
            self.log[place] = (message["engine"], self.log[place][1])
        return status

    def _apply(self, state: dict[str, int], event: dict[str, Any]) -> None:  # type: ignore[override]
        self.log.append(("", event))
        kind, slot = event["event"], str(event.get("slot"))
        if kind == "cleared":
            state.clear()
        elif kind == "slot":
            assert 0 <= event["keep"] <= event["tokens"], event
            # A snapshot begins with nothing, and says what of the state before it remains.
            assert event["keep"] <= state.get(slot, 0) or slot not in state, (event, state)
            state[slot] = event["tokens"]
        elif kind == "copied":
            state[str(event["to"])] = state.get(slot, 0)
        elif kind == "saved":
            self.copies[event["copy"]] = state.get(slot, 0)
        elif kind == "loaded":
            assert event["copy"] == "" or self.copies[event["copy"]] == event["tokens"], event
            state[slot] = event["tokens"]
            if not event["copy"].startswith("file-"):
                self.copies.pop(event["copy"], None)
        else:
            raise AssertionError(f"unknown event {event}")
