"""Why requests are not planned, or refused: in words, and what to do about it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from contextpilot.prompt.extract import RULES

logger = logging.getLogger("contextpilot.server")

_QUIET_S = 60.0
_NOT_OURS = "nothing: it was forwarded unchanged"
_HAND_OVER = "pass the documents in the body's field “contextpilot”"


class Reason(NamedTuple):
    """Why a request was not planned, or refused.

    Attributes:
        words: what was found.
        remedy: what to do about it.
    """

    words: str
    remedy: str


UNPLANNED = {
    "no-blocks": Reason(
        "no list of documents was found in the messages",
        "mark each document, as in <documents><document>…</document></documents>, or " + _HAND_OVER,
    ),
    "switched-off": Reason(
        "planning is switched off by the client or the server's settings",
        "omit the header X-ContextPilot-Enabled; start the server without --mode off",
    ),
    "no-prompt": Reason("the request has no prompt: lists of models, embeddings, …", _NOT_OURS),
    "no-json": Reason("the body is not a JSON object", "see what the engine answered"),
    "no-time": Reason(
        "it waited --max-plan-wait-s for planning, then was forwarded unchanged",
        "give the server a free core, or add a second server",
    ),
    "planning-failed": Reason(
        "planning failed, and the request was forwarded unchanged",
        "see the server's log, and report the error",
    ),
}
"""By code; the codes of lists that stay are those of the rules of extraction."""

REFUSED = {
    "no-engine": Reason("no engine is configured", "start with --engine URL, or POST /engines"),
    "engine-failed": Reason(
        "no engine answered", "see below which engines are down, and check their logs"
    ),
    "goes-round": Reason(
        "an engine's address leads back to this server",
        "give --engine the address of an engine; DELETE /engines/NAME removes one",
    ),
    "bad-request": Reason(
        "a header or the field “contextpilot” has an invalid value",
        "the answer names the field",
    ),
    "no-room": Reason(
        "the server is at its limit of requests, or of their bytes",
        "send less at once, or raise --max-requests or --max-bodies-bytes",
    ),
    "too-large": Reason("the body is too large", "raise --max-body-bytes"),
    "proxy-failed": Reason("the proxy failed", "see the server's log, and report the error"),
}


def why_unplanned(code: str) -> Reason:
    """Return a code of `UNPLANNED`, or of a rule that keeps a list as it is, in words."""
    if code in UNPLANNED:
        return UNPLANNED[code]
    rule = RULES.get(code)
    if code == "no-evidence" or rule is None:
        return Reason(
            "a list was found, but nothing shows that it is documents found by a search",
            "announce it (“Use the following documents:”), or name its form in the header "
            f"X-ContextPilot-Mode, or {_HAND_OVER}",
        )
    return Reason(
        f"a list stays on purpose: {rule.words}",
        f"nothing, if order or numbers matter there; otherwise {_HAND_OVER}",
    )


def counted(counts: Mapping[str, int], is_refused: bool) -> list[dict[str, Any]]:
    """Return codes with counts, words and remedies, the most frequent first."""
    told = []
    for code, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        reason = REFUSED[code] if is_refused else why_unplanned(code)
        told.append({"code": code, "count": count, **reason._asdict()})
    return told


def volatile(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return how often a head that changes with every request kept prompts from hitting."""
    return [
        {
            "code": f"volatile-{kind}",
            "count": count,
            "words": f"planned, but the system prompt contains text that changes ({kind}), so no "
            "request can reuse the prompt of another",
            "remedy": "move it behind the documents, or leave it out",
        }
        for kind, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    ]


class Refusals:
    """Logs refused requests: the first of a kind at once, later ones once a minute. Thread-safe."""

    def __init__(self, quiet_s: float = _QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._next: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}
        self._lock = threading.Lock()

    def note(self, code: str, status: int) -> None:
        """Note a refused request, and say so unless that was said just now."""
        now = time.monotonic()
        with self._lock:
            count = self._unsaid.get(code, 0) + 1
            is_due = now >= self._next.get(code, 0.0)
            self._unsaid[code] = 0 if is_due else count
            if is_due:
                self._next[code] = now + self._quiet_s
        if is_due:
            what = "a request was refused" if count == 1 else f"{count} requests were refused"
            words, remedy = REFUSED[code]
            logger.warning("%s (%d): %s; %s", what, status, words, remedy)
