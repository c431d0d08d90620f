"""The engine pool: each request goes where most of its prompt is cached, weighed against load."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from contextpilot.block import Block, BlockKey
from contextpilot.engines.base import EngineKind, Get
from contextpilot.engines.detect import EngineKinds
from contextpilot.engines.fetch import TIMEOUT_S, Fetch
from contextpilot.engines.registry import AUTO
from contextpilot.http.pooled import Upstream
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD, Head, Plan
from contextpilot.server.offload import Turnstile
from contextpilot.server.pool.engines_by_prefix import EnginesByPrefix
from contextpilot.server.pool.follow_kv_events import follower_of
from contextpilot.server.pool.health import HealthCheck, Rhythm
from contextpilot.server.pool.lease import Lease
from contextpilot.server.pool.member import Engine, name_of
from contextpilot.server.pool.pool_receiver import PoolReceiver
from contextpilot.server.pool.routing import choose_engine
from contextpilot.server.pool.waiting import Ageing, UnplannedRequest
from contextpilot.sync.sources.kv_events.address import KvAddress

logger = logging.getLogger(__name__)

_BATCH = "contextpilot.plan.batch"
_MAX_CONVERSATIONS = 100_000
_CANCEL_AGAIN_S = 0.1
_AGE_EVERY_S = 1.0
MAX_ENGINES = 1024
_NAME = re.compile(r"[\w.:/\[\]%~+-]{1,200}", re.ASCII)
_INDEX_ALONE = "index"
"""Name of the place that holds the index while there is no engine."""


class EngineDownError(ConnectionError):
    """No engine is left that could serve a request."""


class EnginePool:
    """Engines by name, each with its own part of the index. For use on one event loop.

    They may join and leave while requests run. While there is none, one place stands for them all:
    it plans, and serves nothing.

    Args:
        urls: base URLs of the first engines; none for an index without engines.
        namespaces: makes the part of the index of one engine.
        kind: name of the kind of all engines; "auto" to find out.
        max_in_flight: requests that each engine takes at once; None to learn it from the engine.
        ageing: how long requests that wait may be passed over.
        unchecked: URLs that are taken to be up and never probed: clouds, say.
        get: fetches a URL, for health checks and kinds; default: over HTTP.
        kv_events: by its URL, where an engine publishes KV events.
    """

    def __init__(
        self,
        urls: Sequence[str],
        namespaces: Callable[[], Namespaces],
        *,
        kind: str = AUTO,
        max_in_flight: int | None = None,
        ageing: Ageing | None = None,
        unchecked: Collection[str] = (),
        rhythm: Rhythm | None = None,
        get: Get | None = None,
        kv_events: Mapping[str, KvAddress] | None = None,
    ) -> None:
        self._namespaces = namespaces
        self._max_in_flight = max_in_flight
        self._ageing = ageing
        self._weights: OrderedDict[BlockKey, int] = OrderedDict()
        self._unchecked = {url.rstrip("/") for url in unchecked}
        self._rhythm = rhythm or Rhythm()
        self._get = get
        self._kinds = EngineKinds(self._fetch, kind)
        self._members: dict[str, Engine] = {}
        self._by_prefix = EnginesByPrefix()
        self._kv_events = {url.rstrip("/"): at for url, at in (kv_events or {}).items()}
        self._checks: dict[str, tuple[HealthCheck, asyncio.Task[None]]] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._turns = Turnstile()
        self._has_started = False
        self._upstream: Upstream | None = None
        self._conversations: OrderedDict[tuple[str, str], str] = OrderedDict()
        self.receiver = PoolReceiver(lambda: self.engines)
        for url in urls:
            self._admit(url)
        if not urls:
            self._members = {_INDEX_ALONE: self._make(_INDEX_ALONE, None)}
        self._watch_all()

    @property
    def engines(self) -> list[Engine]:
        """The engines, in the order in which they joined; any thread may ask."""
        return list(self._members.values())

    def find(self, name: str) -> Engine | None:
        """Return the engine of this name."""
        return self._members.get(name)

    # -- members ---------------------------------------------------------------------------------

    async def add(self, url: str, name: str | None = None, at: KvAddress | None = None) -> Engine:
        """Let an engine join, and return it; requests go there from now on.

        Args:
            url: its base URL.
            name: default: host and port of its URL.
            at: where it publishes KV events.

        Raises:
            ValueError: the URL is none, or the name or the URL is in the pool.
        """
        alone = [engine for engine in self.engines if not engine.is_real]
        engine = self._admit(url, name, at)
        for before in alone:
            await asyncio.to_thread(before.leave)
        await asyncio.to_thread(self._watch_all)
        if self._has_started:
            self._begin(engine)
        logger.info("engine %s joins: %s", engine.name, engine.shown_url)
        return engine

    async def remove(self, name: str) -> None:
        """Let an engine leave: what runs there ends there, what waits for it goes elsewhere.

        Its part of the index, and what its reporters told, is forgotten.

        Raises:
            KeyError: no engine has this name.
        """
        engine = self._members[name]
        if not engine.is_real:
            raise KeyError(name)
        self.receiver.dismiss(engine)
        left = {other: member for other, member in self._members.items() if other != name}
        self._members = left or {_INDEX_ALONE: self._make(_INDEX_ALONE, None)}
        self._kinds.forget(engine.url)
        engine.line.dismiss(EngineDownError(f"engine {name} has left"))
        logger.info("engine %s has left", name)
        check = self._checks.pop(name, None)
        if check is not None:
            await _cancel([check[1]])
        if engine.kv_events is not None:
            await engine.kv_events.close()
        await asyncio.to_thread(self.receiver.forget_reporters, engine)
        await asyncio.to_thread(engine.leave)

    def _admit(self, url: str, name: str | None = None, at: KvAddress | None = None) -> Engine:
        """Make an engine a member; nobody asks it yet."""
        before, default = self._members, name_of(url)
        url, name = url.strip().rstrip("/"), name or default
        if name in before or any(engine.url == url for engine in before.values()):
            raise ValueError(f"engines must differ in name and URL: {name} is there")
        if len(before) >= MAX_ENGINES:
            raise ValueError(f"there are {MAX_ENGINES} engines already: DELETE /engines/NAME first")
        if not _NAME.fullmatch(name):
            raise ValueError(f"name must be letters, digits and . : / [ ] % ~ + - _, not {name!r}")
        engine = self._make(name, url)
        engine.kv_address = at or self._kv_events.get(url)
        known = self._kinds.known(url)
        if known is not None:
            engine.meet(known)
        self._members = {n: e for n, e in before.items() if e.is_real} | {name: engine}
        if len(before) == 1:  # who was alone was told for all that came
            self.receiver.doubt_reporters()
        return engine

    def _make(self, name: str, url: str | None) -> Engine:
        namespaces = self._namespaces()
        return Engine(name, url, namespaces, self._max_in_flight, self._ageing, self._weights)

    def _watch_all(self) -> None:
        """Have the indexes tell who holds what; one engine alone is not worth it."""
        engines = self.engines
        for engine in engines if len(engines) > 1 else ():
            engine.namespaces.watch(self._by_prefix.watcher(engine.name))

    # -- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin the health checks, and load what plans windows before the first has to wait."""
        self._tasks.append(asyncio.create_task(asyncio.to_thread(import_module, _BATCH)))
        self._upstream = Upstream(TIMEOUT_S, TIMEOUT_S)
        self._get = self._get or Fetch(self._upstream)
        self._tasks.append(asyncio.create_task(self._age()))
        self._has_started = True
        for engine in self.engines:
            self._begin(engine)

    async def close(self) -> None:
        """End the health checks."""
        for follower in filter(None, (engine.kv_events for engine in self.engines)):
            await follower.close()
        await _cancel([*self._tasks, *(task for _, task in self._checks.values())])
        self._tasks.clear()
        self._checks.clear()
        if self._upstream is not None:
            self._upstream.close()

    def _begin(self, engine: Engine) -> None:
        """Begin to check an engine's health, and to hear its KV events."""
        if engine.kv_address is not None:
            assert self._upstream is not None, "start the pool first"
            engine.kv_events = follower_of(engine, self.receiver, self._upstream)
            engine.kv_events.start()
        if engine.url in self._unchecked:
            engine.up = True
        elif engine.is_real:
            check = HealthCheck(engine, self._fetch, self._greet, self._bury, self._rhythm)
            self._checks[engine.name] = check, asyncio.create_task(check.run())

    async def _fetch(self, url: str) -> tuple[int, bytes]:
        assert self._get is not None, "start the pool first"
        return await self._get(url)

    async def _age(self) -> None:
        """Let what is synced by age expire when it is due, and not with the next request."""
        while True:
            await asyncio.sleep(_AGE_EVERY_S)
            for engine in self.engines:
                while engine.sync_by_age is not None and engine.sync_by_age.expire():
                    await asyncio.sleep(0)

    async def _greet(self, engine: Engine) -> None:
        """Learn what an engine is that begins to answer: another may have taken its place."""
        self._kinds.forget(engine.url)
        kind = await self._kinds.kind(engine.url)
        if self._kinds.known(engine.url) is not None:
            engine.meet(kind, await self._num_slots(engine, kind))

    async def kind_of(self, engine: Engine) -> EngineKind:
        """Return what kind of engine this is, asked if need be."""
        kind = await self._kinds.kind(engine.url)
        if engine.kind is not kind and self._kinds.known(engine.url) is not None:
            num_slots = await self._num_slots(engine, kind)
            if engine.kind is not kind:  # nobody else learnt it meanwhile
                engine.meet(kind, num_slots)
        return kind

    async def _num_slots(self, engine: Engine, kind: EngineKind) -> int:
        try:
            return await kind.num_slots(engine.url, self._fetch)
        except Exception:  # no request may fail of what an engine says of itself
            logger.exception("engine %s does not report its slots", engine.name)
            return 0

    def hurry(self, name: str) -> None:
        """Check an engine's health now: something failed there."""
        if name in self._checks:
            self._checks[name][0].hurry()

    async def _bury(self, engine: Engine) -> None:
        """Forget a dead engine, after others that died with it; who waited there goes elsewhere."""
        self.receiver.distrust(engine)
        engine.line.dismiss(EngineDownError(f"engine {engine.name} does not answer"))
        if not await self._turns.run(engine.forget_at_once):
            engine.forget_beside()

    # -- leases ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(
        self,
        namespace: str,
        blocks: Sequence[Block] = (),
        head: Head = NO_HEAD,
        conversation: str | None = None,
        /,
        *,
        bounds: Bounds | None = None,
        exclude: Collection[str] = (),
        wait: bool = True,
    ) -> AsyncIterator[Lease]:
        """Choose an engine for a request, and wait for it while it is saturated.

        Args:
            conversation: its requests stay at one engine while that is worth it.
            bounds: as in the job that will be planned; waiting requests are planned with them.
            exclude: names of engines that failed this request before.
            wait: False for requests that are planned only, and do not run here.

        Raises:
            EngineDownError: every engine is excluded.
        """
        request = UnplannedRequest(namespace, blocks, head, bounds or Bounds())
        arrived = time.perf_counter()
        engine, ready, estimate = await self._enter(request, conversation, exclude, wait)
        lease = Lease(engine, self.receiver, request, ready, estimate if wait else 0)
        lease.runs = wait
        lease.waited_s = time.perf_counter() - arrived
        try:
            yield lease
        except Exception:
            lease.has_failed = True
            raise
        finally:
            lease.end()
            if wait:
                engine.count(**{"failed" if lease.has_failed else "served": 1})
                engine.line.leave()
            if engine.has_left:  # what this request learnt there
                asyncio.get_running_loop().run_in_executor(None, engine.namespaces.reset)
            elif lease.has_failed:
                self.hurry(engine.name)

    async def _enter(
        self,
        request: UnplannedRequest,
        conversation: str | None,
        exclude: Collection[str],
        wait: bool,
    ) -> tuple[Engine, Plan | None, int]:
        """Return the engine, the plan made while waiting, and the tokens to be computed there."""
        while True:
            engine, estimate = self._choose(request, conversation, exclude)
            if not wait:
                return engine, None, estimate
            try:
                engine.pending_tokens += estimate
                return engine, await engine.line.enter(request), estimate
            except EngineDownError:
                logger.info("a request that waited for engine %s goes elsewhere", engine.name)
            finally:
                engine.pending_tokens -= estimate

    def _choose(
        self, request: UnplannedRequest, conversation: str | None, exclude: Collection[str]
    ) -> tuple[Engine, int]:
        """Return the engine that a request goes to, and the tokens to compute there."""
        members, head = self._members, request.head
        name = (request.namespace, conversation or "")
        held: dict[str, int] = {}
        if len(members) > 1:  # with no choice, what is live need not be searched for twice
            weights = {block.key: block.weight for block in request.blocks}
            held = self._by_prefix.live_tokens(request.namespace, head, weights)
        route = choose_engine(
            [(e.name, e.load, e.traffic.served, e.up) for e in members.values()],
            held,
            head.tokens + sum([block.weight for block in request.blocks]),
            head_tokens=head.tokens,
            home=self._conversations.get(name) if conversation else None,
            excluded=exclude,
        )
        if route is None:
            raise EngineDownError("no engine is left for this request")
        if conversation and len(members) > 1:
            self._settle(name, route.engine)
        return members[route.engine], route.tokens

    def _settle(self, name: tuple[str, str], engine: str) -> None:
        self._conversations[name] = engine
        self._conversations.move_to_end(name)
        if len(self._conversations) > _MAX_CONVERSATIONS:
            self._conversations.popitem(last=False)

    # -- what is known ---------------------------------------------------------------------------

    def health(self) -> list[dict[str, Any]]:
        """Return the state of each engine: up, sync, load, requests, waiting times."""
        real = [engine for engine in self.engines if engine.is_real]
        known = self.receiver.engines()
        return [engine.state(self.receiver.sync_of(engine, known)) for engine in real]

    def indexes(self) -> list[Namespaces]:
        """Return each engine's part of the index."""
        return [engine.namespaces for engine in self.engines]


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    left = {task for task in tasks if not task.done()}
    while left:  # Python's `wait_for` may swallow a cancellation in the moment that it ends
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
