"""Sends prefixes through an engine, one token each, in moments in which it has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from contextpilot.bench.drive import Sender, Sent
from contextpilot.bench.engine import KEY_VARIABLE, EngineUnderTest, base_url, key_header
from contextpilot.bench.idle import IdleWatch, engines_behind
from contextpilot.bench.prompts import Prompt
from contextpilot.block import Block, BlockKey
from contextpilot.engines.base import EngineKind
from contextpilot.http.pooled import Upstream
from contextpilot.pilot import ContextPilot
from contextpilot.plan.warm import Prefix
from contextpilot.progress import ProgressBar
from contextpilot.prompt.apis.field import FIELD
from contextpilot.warming import prompts_of

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 900.0
_KEPT = {"reorder": False, "annotate": False, "deduplicate": False}


@dataclass(frozen=True)
class Target:
    """What is warmed.

    Attributes:
        is_server: it is a `contextpilot serve`, which learns what goes through it.
        cache_tokens: that the cache, or all behind the server together, holds; None if unknown.
    """

    url: str
    model: str
    kind: EngineKind
    is_server: bool
    cache_tokens: int | None


class WarmRun(NamedTuple):
    """What was sent.

    Attributes:
        num_sent, num_prefixes: prompts that were answered, and all.
        prompt_tokens, cached_tokens: as the engine counts them; None where it does not tell.
        waited_s: for moments in which nothing ran or waited.
        failure: why the rest was not sent; empty if all was.
        tells_load: whether the engine tells what it has to do.
    """

    num_sent: int
    num_prefixes: int
    prompt_tokens: int | None
    cached_tokens: int | None
    seconds: float
    waited_s: float
    failure: str
    tells_load: bool

    def told(self) -> str:
        """Return the run in words."""
        text = f"Sent: {self.num_sent:,} of {self.num_prefixes:,} prefixes in {self.seconds:.1f} s"
        if self.prompt_tokens is not None:
            computed = self.prompt_tokens - (self.cached_tokens or 0)
            text += f"; the engine computed {computed:,} tokens"
        if self.waited_s:
            text += f"; {self.waited_s:.1f} s were spent waiting for other requests to end"
        if not self.tells_load:
            text += "; it does not report its load, so there was no waiting"
        return text + (f". Incomplete: {self.failure}" if self.failure else "")


async def find_target(url: str, model: str | None, cache_tokens: int | None) -> Target:
    """Ask what answers at a URL.

    Raises:
        CommandError: it does not answer, or names no model.
    """
    upstream = Upstream(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S)
    try:
        engine = EngineUnderTest(url, upstream)
        facts = await engine.facts(model, cache_tokens)
        behind = engines_behind(await engine.text("/health"))
        if behind is None or cache_tokens is not None:
            tokens = facts.cache.tokens
        else:
            asked = [EngineUnderTest(str(one.get("url")), upstream) for one in behind]
            sizes = [(await each.facts(facts.model)).cache.tokens for each in asked]
            known = [size for size in sizes if size is not None]
            tokens = sum(known) if known and len(known) == len(sizes) else None
        return Target(base_url(url), facts.model, facts.kind, behind is not None, tokens)
    finally:
        upstream.close()


async def send(
    target: Target,
    prefixes: Sequence[Prefix],
    blocks: dict[BlockKey, Block],
    system: str | None,
    namespace: str | None,
    index_url: str,
    patience_s: float,
    progress: ProgressBar,
) -> WarmRun:
    """Send prefixes one after another; stop at the first that fails.

    Args:
        index_url: of the server that plans for an engine without one of ours before it; "" for
            none.
        patience_s: longest wait for a moment in which nothing runs or waits.
    """
    upstream = Upstream(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S)
    sender = Sender(upstream, target.model, 1, key_header(KEY_VARIABLE))
    watch = IdleWatch(upstream, target.url, patience_s)
    pilot = ContextPilot(index_url="" if target.is_server else index_url)
    if target.is_server:
        prompts = _for_server(prefixes, blocks, system, namespace)
    else:
        prompts = _for_engine(pilot, target.kind, prefixes, blocks, system, namespace)
    started, failure = time.monotonic(), ""
    sent: list[Sent] = []
    try:
        while len(sent) < len(prefixes) and not failure:
            if not await watch.wait():
                failure = f"something ran or waited for {patience_s:.0f} s (--patience)"
                break
            prompt = next(prompts)
            answer = await sender.send(target.url, prompt)
            failure = answer.error
            if failure:
                pilot.unsent(*prompt.headers.values())
            else:
                sent.append(answer)
            progress(len(sent), len(prefixes))
    finally:
        pilot.close()
        upstream.close()
    counted = [one.prompt_tokens for one in sent if one.prompt_tokens is not None]
    return WarmRun(
        num_sent=len(sent),
        num_prefixes=len(prefixes),
        prompt_tokens=sum(counted) if counted and len(counted) == len(sent) else None,
        cached_tokens=sum(one.cached_tokens or 0 for one in sent),
        seconds=time.monotonic() - started,
        waited_s=watch.waited_s,
        failure=failure,
        tells_load=watch.is_told is not False,
    )


def _for_engine(
    pilot: ContextPilot,
    kind: EngineKind,
    prefixes: Sequence[Prefix],
    blocks: dict[BlockKey, Block],
    system: str | None,
    namespace: str | None,
) -> Iterator[Prompt]:
    """Yield prompts for an engine, each learnt by the pilot, or the index server it asks."""
    for number, messages in enumerate(prompts_of(pilot, prefixes, blocks, system, namespace)):
        name = messages.request_id
        members, headers = kind.members("chat", name), {"X-Request-Id": name}
        yield Prompt(number, list(messages), (), members, headers)


def _for_server(
    prefixes: Sequence[Prefix],
    blocks: dict[BlockKey, Block],
    system: str | None,
    namespace: str | None,
) -> Iterator[Prompt]:
    """Yield prompts whose blocks are handed over, to be written as they are."""
    head = [{"role": "system", "content": system}] if system is not None else []
    named = {"namespace": namespace} if namespace is not None else {}
    for number, prefix in enumerate(prefixes):
        texts = [blocks[key].text for key in prefix.keys]
        handed_over = {"contexts": texts, "query": "", "options": _KEPT, **named}
        yield Prompt(number, list(head), members={FIELD: handed_over})
