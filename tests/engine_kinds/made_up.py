"""An engine that does not exist: what the project would know of it, as its one file says it."""

from __future__ import annotations

import json
from typing import Any

from contextpilot.engines.base import (
    Ask,
    Cache,
    EngineKind,
    Get,
    LoadNames,
    Probe,
    UsageNames,
    member,
)


class Foundry(EngineKind):
    """It takes a ticket for a request id, and has words of its own for everything."""

    name = owner = "foundry"
    title = "Foundry"
    probes = (Probe("/who", b"a foundry"),)
    report_flag = "--tell-hits"
    uncached_flag = "--no-hits"
    reset_hint = "--may-melt"
    cache_members = ("alloy",)
    load = LoadNames(("foundry:melting",), ("foundry:queued",))
    usage = UsageNames(("seen_tokens",), ("hit_tokens",), generated=("made_tokens",))

    def members(self, api: str, request_id: str | None, slot: int | None = None) -> dict[str, Any]:
        return {} if request_id is None else {"ticket": request_id}

    def salt_refusal(self, api: str) -> str:
        return "" if api == "chat" else "is heeded in chats only"

    async def num_slots(self, url: str, get: Get) -> int:
        _, body = await get(url + "/who")
        return int(json.loads(body)["crucibles"])

    async def describe(self, ask: Ask) -> tuple[str, Cache]:
        _, told = await ask("GET", "/version")
        return f"v{member(told, 'version')}", Cache(None, 4)

    async def reset(self, ask: Ask, cache: Cache) -> bool:
        return (await ask("POST", "/melt"))[0] == 200


FOUNDRY = Foundry()
