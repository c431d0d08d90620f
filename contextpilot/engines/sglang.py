"""SGLang: a radix tree of pages; request ids come as a member of the body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from contextpilot.engines.base import (
    Ask,
    Cache,
    EngineKind,
    LoadNames,
    Probe,
    ToldLayers,
    member,
)
from contextpilot.engines.tokenize import tokenize_body

_RESET = "/flush_cache"
_WITHOUT_MEMBERS = "messages"
"""The API at which it takes no members of its own."""
_DRAFTS_WITHOUT_PAIRS = "NGRAM", "STANDALONE"
"""What drafts, but leaves the tree's keys as they are; with others its events name pairs."""
_ALL_TELL_SINCE = 0, 5, 12
"""Before, trees whose nodes hold more than tokens publish no events."""


class Sglang(EngineKind):
    """SGLang's OpenAI- and Anthropic-compatible server."""

    name = owner = distribution = "sglang"
    title = "SGLang"
    usual_port = 30000
    probes = (Probe("/get_model_info", b"model_path"), Probe("/model_info", b"model_path"))
    plugin_group = "sglang.srt.plugins"
    hooked_modules = ("sglang.srt.managers.scheduler",)
    report_flag = "--enable-cache-report"
    uncached_flag = "--disable-radix-cache"
    cache_members = ("cache_salt", "extra_key", "lora_name", "lora_path")
    load = LoadNames(("sglang:num_running_reqs",), ("sglang:num_queue_reqs",))

    def members(self, api: str, request_id: str | None, slot: int | None = None) -> dict[str, Any]:
        """Return the request id as `rid`: SGLang reads no header."""
        if request_id is None or api == _WITHOUT_MEMBERS:
            return {}
        return {"rid": request_id}

    def salt_refusal(self, api: str) -> str:
        """Return why a salt would be ignored; it is read at the OpenAI paths only."""
        if api not in (_WITHOUT_MEMBERS, "other"):
            return ""
        fix = "ask at /v1/chat/completions, or start the server without --cache-salt"
        return f"would be ignored by SGLang at this path: {fix}"

    def tokenize_body(self, api: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what to post to `/tokenize` for a request's tokens; None when that tells none."""
        return tokenize_body(api, body)

    async def describe(self, ask: Ask) -> tuple[str, Cache]:
        """Return version and cache."""
        status, info = await ask("GET", "/server_info")
        if status != 200:
            _, info = await ask("GET", "/get_server_info")
        tokens, page = member(info, "max_total_num_tokens"), int(member(info, "page_size") or 1)
        return str(member(info, "version")), Cache(int(tokens) if tokens else None, page)

    async def reset(self, ask: Ask, cache: Cache) -> bool:
        """Empty its prefix cache."""
        return (await ask("POST", _RESET))[0] == 200

    async def told_layers(self, ask: Ask) -> ToldLayers:
        """Return what else its tree's nodes hold: its events tell of their tokens alone."""
        status, info = await ask("GET", "/server_info")
        if status == 404:
            status, info = await ask("GET", "/get_server_info")
        states = member(info, "internal_states")
        if status != 200 or not states:
            doubt = f"its layers are unknown: its /server_info answers {status}"
            return ToldLayers(doubt, drafts=True)
        algorithm = str(member(info, "speculative_algorithm")).upper()
        if algorithm and algorithm not in _DRAFTS_WITHOUT_PAIRS:
            return ToldLayers("keys that are pairs of tokens (EAGLE, MTP)", drafts=True)
        drafts = bool(algorithm) or "speculative_algorithm" not in info
        if _is_before(str(member(info, "version")), _ALL_TELL_SINCE):
            return ToldLayers(drafts=drafts)
        return ToldLayers(next(filter(None, map(_doubt, states)), ""), drafts)


def _doubt(state: Any) -> str:
    """Return what of a scheduler's state, as /server_info has it, its KV events leave out."""
    if member(state, "uses_mamba_radix_cache") or member(state, "max_mamba_cache_size"):
        return "layers with states, which its events do not report"
    memory = member(state, "memory_usage")
    if member(memory, "token_capacity_swa"):
        return "layers with a sliding window, which its events do not report"
    if "token_capacity_swa" in (memory or ()) or member(state, "disable_hybrid_swa_memory"):
        return ""
    return "its /server_info does not say whether layers have a window"


def _is_before(version: str, first: tuple[int, ...]) -> bool:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[: len(first)])
    return len(numbers) == len(first) and numbers < first


ENGINE = Sglang()
