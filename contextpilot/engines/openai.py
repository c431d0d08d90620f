"""OpenAI's API: caches of many machines; requests of one `prompt_cache_key` go to the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from contextpilot.engines.base import CloudKind, UsageNames

if TYPE_CHECKING:
    from contextpilot.plan.online import Head

USAGE = UsageNames(
    prompt=("prompt_tokens", "input_tokens"),
    cached=("cached_tokens",),
    generated=("completion_tokens", "output_tokens"),
)
"""As every engine that speaks its API counts."""

_ASKS_FOR_DAY = re.compile(rb'"prompt_cache_retention"\s*:\s*"24h"')
"""In a body: a quote inside a JSON text is escaped."""


class OpenAI(CloudKind):
    """The cloud, and gateways in front of it."""

    name = "openai"
    title = "OpenAI"
    hosts = ("api.openai.com",)
    usage = USAGE

    def with_cache_marks(
        self,
        body: dict[str, Any],
        namespace: str,
        head: Head,
        cuts: Sequence[int] = (),
        *,
        long: bool = False,
    ) -> dict[str, Any]:
        """Return the body with a `prompt_cache_key` for its namespace and head."""
        marked = _kept_long(body) if long else body
        if "prompt_cache_key" in marked:
            return marked
        return {**marked, "prompt_cache_key": _cache_key(namespace, head)}

    def with_recurring_marks(
        self, body: dict[str, Any], has_opening: bool, num_turns: int, *, long: bool = False
    ) -> dict[str, Any]:
        """Return the body with `prompt_cache_retention`, if that is asked for and it recurs."""
        return _kept_long(body) if long and (has_opening or num_turns) else body

    def retention_s(self, body: bytes) -> float:
        """Return 86,400 for a request with `prompt_cache_retention` of 24 hours, else 0."""
        return 86_400.0 if _ASKS_FOR_DAY.search(body) else 0.0


def _kept_long(body: dict[str, Any]) -> dict[str, Any]:
    if "prompt_cache_retention" in body or not {"messages", "input"} & body.keys():
        return body
    return {**body, "prompt_cache_retention": "24h"}


def _cache_key(namespace: str, head: Head) -> str:
    text = f"{namespace}\0{head.keys!r}".encode("utf-8", "replace")
    return "cp-" + hashlib.sha256(text).hexdigest()[:32]


ENGINE = OpenAI()
