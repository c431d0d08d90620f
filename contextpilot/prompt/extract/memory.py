"""What was found in texts before: conversations send them again with every turn."""

from __future__ import annotations

import hashlib
import threading

from contextpilot.prompt.extract.find import Finding, find_groups
from contextpilot.prompt.extract.page import Page
from contextpilot.whose import whose

MAX_KEPT = 50_000
"""Texts and blocks; most texts hold none, and take some 150 bytes."""


class FindingMemory:
    """Findings by tenant and digest of a text, so that each is looked through once. Thread-safe.

    No text is kept. What was not asked for since as much came as is kept is let go.

    Args:
        max_kept: texts and found blocks, together.
    """

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._half = max_kept // 2
        self._recent: dict[bytes, Finding] = {}
        self._older: dict[bytes, Finding] = {}
        self._num_recent = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def find(self, page: Page, mode: str, separator: str | None = None) -> Finding:
        """Return what `find_groups` returns."""
        key = _digest(page, mode, separator)
        known = self._recent.get(key)
        if known is None:
            known = self._older.get(key) or find_groups(page, mode, separator)
            self._keep(key, known)
        return known

    def _keep(self, key: bytes, finding: Finding) -> None:
        size = 1 + sum(len(one.pieces) for one in finding.found)
        with self._lock:
            if self._num_recent + size > self._half:
                self._older, self._recent, self._num_recent = self._recent, {}, 0
            if size <= self._half:
                self._recent[key] = finding
                self._num_recent += size


def _digest(page: Page, mode: str, separator: str | None) -> bytes:
    asked = repr((whose(), page.role, page.tool, page.told, mode, separator)).encode()
    digest = hashlib.blake2b(asked + b"\n", digest_size=16)
    digest.update(page.text.encode("utf-8", "surrogatepass"))
    return digest.digest()
