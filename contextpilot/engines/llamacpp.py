"""llama-server (llama.cpp): slots that each hold one prompt, and a cache of prompts in RAM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from contextpilot.engines.base import (
    Ask,
    Cache,
    EngineKind,
    Get,
    LoadNames,
    Probe,
    Program,
    SlotWish,
    UsageNames,
    member,
)

SIMILAR = 0.1
"""Its default --slot-prompt-similarity: below, a prompt takes the oldest slot."""
KEEPS_SLOT = 0.5
"""From this share of a slot that a prompt goes on using, no copy is made in RAM, or looked for."""
RESTORED = 0.25
"""A copy in RAM of which less than this would be used is not restored."""

_UNPINNED_APIS = ("messages",)
"""It drops `id_slot` from these requests (b11434)."""
_COPIES = ("n", "n_cmpl", "best_of")


class Llamacpp(EngineKind):
    """llama-server, as of llama.cpp b11434."""

    name = owner = "llamacpp"
    title = "llama-server"
    usual_port = 8080
    probes = (Probe("/props", b"default_generation_settings"),)
    program = Program("llama-server", "LLAMA_SERVER_BIN")
    reset_hint = "--slot-save-path DIR"
    load = LoadNames(("llamacpp:requests_processing",), ("llamacpp:requests_deferred",))
    usage = UsageNames(cached=("cache_n",), computed=("prompt_n",), generated=("predicted_n",))

    def members(self, api: str, request_id: str | None, slot: int | None = None) -> dict[str, Any]:
        """Return the slot to run in, as `id_slot`; its requests have no ids."""
        return {} if slot is None else {"id_slot": slot}

    def slot_wish(self, api: str, body: Mapping[str, Any]) -> SlotWish:
        """Return where a request may run."""
        answers = [body.get(name) for name in _COPIES]
        num_answers = max((n for n in answers if isinstance(n, int)), default=1)
        given = body.get("id_slot")
        if api in _UNPINNED_APIS or num_answers > 1:
            return SlotWish(False, None, num_answers)
        if isinstance(given, int) and given >= 0:
            return SlotWish(False, given)
        return SlotWish("id_slot" not in body)

    async def num_slots(self, url: str, get: Get) -> int:
        """Return the number of its slots."""
        try:
            status, body = await get(url + "/props")
            slots = json.loads(body).get("total_slots") if status == 200 else 0
        except (OSError, ValueError, AttributeError):
            return 0
        return slots if isinstance(slots, int) else 0

    async def describe(self, ask: Ask) -> tuple[str, Cache]:
        """Return version and cache."""
        _, props = await ask("GET", "/props")
        settings = member(props, "default_generation_settings")
        slots, context = int(member(props, "total_slots") or 1), int(member(settings, "n_ctx") or 0)
        return str(member(props, "build_info")), Cache(context * slots or None, 1, slots)

    async def reset(self, ask: Ask, cache: Cache) -> bool:
        """Erase all slots."""
        slots = range(cache.num_slots or 1)
        done = [(await ask("POST", f"/slots/{slot}?action=erase"))[0] == 200 for slot in slots]
        return all(done)


ENGINE = Llamacpp()
