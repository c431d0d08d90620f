"""Proves that the engine's events arrive before anything is measured that rests on them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from contextpilot.bench.arms import Arm
from contextpilot.bench.drive import Sender
from contextpilot.bench.engine import Facts
from contextpilot.bench.prompts import Requests
from contextpilot.block import BlockReader
from contextpilot.errors import CommandError
from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import BrokenAnswerError

INDEX_URL = "CONTEXTPILOT_INDEX_URL"
_WAIT_S = 10.0
"""Two heartbeats of the reporters inside engines."""
_LOOK_S = 0.1
_TEXTS = [f"contextpilot bench asks whether event {n} arrives. " * 60 for n in (1, 2)]
"""Several blocks of any engine's cache."""


async def prove_events(
    upstream: Upstream, sender: Sender, facts: Facts, arm: Arm, server: str, salt: str
) -> None:
    """Send one prompt as `arm` does: the engine has to tell `server` of it.

    Raises:
        CommandError: it does not within some seconds; flag and variable are named.
    """
    blocks = BlockReader().read(_TEXTS)
    (prompt,) = arm.write(Requests(["Does it?"], [blocks]), salt)
    sent = await sender.send(facts.url, prompt)
    if sent.error:
        raise CommandError(f"the engine does not answer: {sent.error}")
    deadline = time.monotonic() + _WAIT_S
    while True:
        engines = await _reporters(upstream, server)
        if any(each["num_events"] > each["num_unknown_requests"] for each in engines):
            return
        if time.monotonic() > deadline:
            raise CommandError(_missing(server, engines))
        await asyncio.sleep(_LOOK_S)


async def _reporters(upstream: Upstream, server: str) -> list[dict[str, Any]]:
    """Return what the server knows of each engine that reports to it."""
    try:
        async with upstream.open("GET", f"{server}/health", (), b"") as answer:
            known = json.loads(await answer.read())["sync"]
    except (UpstreamError, BrokenAnswerError) as error:
        raise CommandError(f"the server at {server} does not answer: {error}") from None
    return list(known.values())


def _missing(server: str, engines: list[dict[str, Any]]) -> str:
    place = server.partition("//")[2]
    if any(each["num_events"] for each in engines):
        return (
            "the engine reports to the server of synced, but not under the ids that requests are "
            "sent with: run contextpilot doctor"
        )
    if engines:
        return (
            "the engine reports to the server of synced, but not about a probe request: "
            "run contextpilot doctor"
        )
    return (
        f"synced needs the engine's events, but none arrive at {server}: launch the engine with "
        f"{INDEX_URL}={server} and contextpilot installed next to it, and give bench "
        f"--listen {place}; or leave synced out of --modes"
    )
