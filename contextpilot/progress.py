"""A progress bar on standard error, in a terminal only, for what takes over two seconds.

Commands show it; the library does where it was asked to (CONTEXTPILOT_PROGRESS, `progress=True`).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType

_SHOW_AFTER_S = 2.0
_REDRAW_S = 0.2
_WIDTH = 30
_ANSWERS = {"": False, "0": False, "false": False, "no": False, "off": False}
_ANSWERS |= {"1": True, "true": True, "yes": True, "on": True}


class ProgressBar:
    """Context manager, called as `bar(done, total)`; draws nothing outside a terminal."""

    def __init__(
        self, label: str, show_after: float = _SHOW_AFTER_S, *, enabled: bool = True
    ) -> None:
        self._enabled = enabled
        self._label = label
        self._start = time.monotonic()
        self._next = self._start + show_after
        self._drawn = False

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._enabled or now < self._next or not total or not sys.stderr.isatty():
            return
        self._next = now + _REDRAW_S
        self._drawn = True
        filled = _WIDTH * min(done, total) // total
        elapsed = now - self._start
        left = f"{elapsed * (total - done) / done:.0f} s left" if done else ""
        bar = "█" * filled + "·" * (_WIDTH - filled)
        sys.stderr.write(f"\r\033[K{self._label} {bar} {100 * done // total} %  {left}")
        sys.stderr.flush()


def is_asked_for(progress: bool | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the library is to show progress: `progress`, else CONTEXTPILOT_PROGRESS.

    Raises:
        TypeError, ValueError: one of them is neither yes nor no.
    """
    if isinstance(progress, bool):
        return progress
    if progress is not None:
        raise TypeError(f"progress must be True, False or None, not {progress!r}")
    text = environ.get("CONTEXTPILOT_PROGRESS", "").strip().lower()
    if text not in _ANSWERS:
        raise ValueError(f"CONTEXTPILOT_PROGRESS must be 1 or 0, not {text!r}")
    return _ANSWERS[text]
