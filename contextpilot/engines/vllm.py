"""vLLM: a tree of blocks; request ids come as a header, the cache is described in its metrics."""

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

_CACHE = re.compile(r"vllm:cache_config_info\{([^}]*)\}")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_COUNTS, _DRAFTS = "vllm:num_requests_running", "vllm:spec_decode_num_"
_RESET = "/reset_prefix_cache"


class Vllm(EngineKind):
    """vLLM's OpenAI-compatible server, and what wraps it."""

    name = owner = distribution = "vllm"
    title = "vLLM"
    usual_port = 8000
    probes = (Probe("/version", b'"version"', is_common=True),)
    plugin_group = "vllm.general_plugins"
    hooked_modules = (
        "vllm.v1.core.sched.scheduler",
        "vllm.v1.core.block_pool",
        "vllm.v1.core.kv_cache_utils",
    )
    report_flag = "--enable-prompt-tokens-details"
    uncached_flag = "--no-enable-prefix-caching"
    sharing_flag = "--prefix-cache-retention-interval N"
    reset_hint = "VLLM_SERVER_DEV_MODE=1 in the engine's environment"
    load = LoadNames(("vllm:num_requests_running",), ("vllm:num_requests_waiting",))

    def tokenize_body(self, api: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what to post to `/tokenize` for a request's tokens; None when that tells none."""
        return tokenize_body(api, body)

    async def describe(self, ask: Ask) -> tuple[str, Cache]:
        """Return version and cache."""
        _, version = await ask("GET", "/version")
        _, metrics = await ask("GET", "/metrics")
        return str(member(version, "version")), _cache(metrics)

    async def told_layers(self, ask: Ask) -> ToldLayers:
        """Return whether layers draft; what its events name no layers for, they show themselves.

        Its metrics count drafts where there are any, of n-grams too, after which nothing is
        computed anew: there a block too little is known. With --disable-log-stats they count
        nothing at all.
        """
        _, metrics = await ask("GET", "/metrics")
        text = metrics if isinstance(metrics, str) else ""
        return ToldLayers(drafts=_COUNTS not in text or _DRAFTS in text)

    async def reset(self, ask: Ask, cache: Cache) -> bool:
        """Empty its prefix cache."""
        return (await ask("POST", _RESET))[0] == 200


def _cache(metrics: Any) -> Cache:
    found = _CACHE.search(metrics) if isinstance(metrics, str) else None
    if found is None:
        return Cache()
    labels = dict(_LABEL.findall(found[1]))
    size, blocks = labels.get("block_size", ""), labels.get("num_gpu_blocks", "")
    if not size.isdigit() or not blocks.isdigit():
        return Cache()
    return Cache((int(blocks) - 1) * int(size), int(size))  # block 0 holds nothing


ENGINE = Vllm()
