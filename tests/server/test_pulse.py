"""When an engine counts as dead, and so loses its index; and what is nobody's death."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Coroutine, Iterable
from itertools import chain, repeat
from typing import Any

import pytest
from servers import serving

from contextpilot.block import Block
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.pool.faults import is_ours, is_refused
from contextpilot.server.pool.health import Rhythm

URL = "http://a:1"
FAST = Rhythm(interval_s=0.02, first_retry_s=0.01, max_retry_s=0.05, silences=3, refusals=2)

Health = int | BaseException
"""What a probe meets: a status, or an error."""


class Engine:
    """Answers the health checks one after the other as told; the last answer is for ever."""

    def __init__(self, *answers: Health) -> None:
        self._answers = chain(answers, repeat(200))
        self.probes = 0

    def goes_on(self, answers: Iterable[Health]) -> None:
        self._answers = iter(answers)

    async def __call__(self, url: str) -> tuple[int, bytes]:
        if not url.endswith("/health"):
            return 404, b""
        self.probes += 1
        answer = next(self._answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer, b""


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def make_pool(url: str, rhythm: Rhythm = FAST, **options: Any) -> EnginePool:
    return EnginePool([url], lambda: Namespaces(10_000, 100, 10), rhythm=rhythm, **options)


async def learn(pool: EnginePool) -> None:
    """Let one request through, so that there is something to forget."""
    blocks = [Block(key, "text", 100, None) for key in (1, 2, 3)]
    async with pool.lease("n", blocks) as lease:
        lease.plan(Job("n", [blocks], Bounds(), NO_HEAD, [0]))
        lease.confirm()


async def with_something_to_forget(engine: Engine) -> EnginePool:
    pool = make_pool(URL, get=engine)
    await pool.start()
    await until(lambda: pool.engines[0].up)
    await learn(pool)
    return pool


def held(pool: EnginePool) -> int:
    return pool.engines[0].namespaces.get("n").planner.index.match([1, 2, 3])


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
REFUSED_TWICE = OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] failed")
SHORT = [
    *(OSError(number, os.strerror(number)) for number in (errno.EMFILE, errno.ENFILE)),
    *(OSError(number, os.strerror(number)) for number in (errno.ENOBUFS, errno.ENOMEM)),
    OSError(f"Multiple exceptions: [Errno {errno.EMFILE}] Too many, [Errno {errno.EMFILE}] x"),
]


@pytest.mark.parametrize(
    "faults",
    [
        [503],
        [500, 503],
        [TimeoutError()],
        [TimeoutError(), 502],
        [ConnectionResetError(errno.ECONNRESET, "reset")] * 2,
        [REFUSED],
        [REFUSED_TWICE],
        [503, REFUSED],
        SHORT * 5,
        [*SHORT, REFUSED, *SHORT],
    ],
    ids=lambda faults: f"{len(faults)} from {faults[0]!r:.30}",
)
def test_what_passes_is_no_death(faults: list[Health]) -> None:
    async def main() -> None:
        engine = Engine()
        pool = await with_something_to_forget(engine)
        for _ in range(3):  # in a row: what was before an answer does not count
            seen = engine.probes
            engine.goes_on([*faults, *[200] * 1000])
            await until(lambda seen=seen: engine.probes >= seen + len(faults) + 2)
            assert pool.engines[0].up is True
            assert held(pool) == 3
        await pool.close()

    run(main())


@pytest.mark.parametrize(
    ("faults", "probes"),
    [
        ([503] * 3, 3),
        ([TimeoutError()] * 3, 3),
        ([TimeoutError(), 500, ConnectionResetError()], 3),
        ([REFUSED] * 2, 2),
        ([503, REFUSED, 503], 3),
        ([REFUSED, *SHORT, REFUSED_TWICE], 2 + len(SHORT)),
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_what_lasts_is_a_death(faults: list[Health], probes: int) -> None:
    async def main() -> None:
        engine = Engine()
        pool = await with_something_to_forget(engine)
        seen = engine.probes
        engine.goes_on([*faults, *repeat(503, 1000)])
        await until(lambda: pool.engines[0].up is False)
        assert engine.probes == seen + probes
        assert held(pool) == 0
        await pool.close()

    run(main())


@pytest.mark.parametrize("fault", [503, REFUSED, TimeoutError()], ids=str)
def test_an_engine_that_never_answered_is_down_at_once(fault: Health) -> None:
    async def main() -> None:
        engine = Engine(fault, fault)
        pool = make_pool(URL, get=engine)
        await pool.start()
        await until(lambda: pool.engines[0].up is False)
        await until(lambda: pool.engines[0].up)
        await pool.close()

    run(main())


def test_our_own_lack_of_descriptors_kills_no_real_engine() -> None:
    """Every descriptor of this process is taken while a real server goes on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def main(url: str) -> None:
        pool = make_pool(url, FAST._replace(interval_s=0.01))
        await pool.start()
        await until(lambda: pool.engines[0].up)
        await learn(pool)
        assert pool._upstream is not None
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken: list[int] = []
        pool._upstream.close()  # a kept connection would need none
        await asyncio.sleep(0.1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        try:
            while True:
                try:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    break
            for _ in range(20):
                pool.hurry(pool.engines[0].name)
                await asyncio.sleep(0.01)
            assert pool.engines[0].up is True
            assert held(pool) == 3
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await pool.close()

    with serving(app) as url:
        run(main(url))


def test_metrics_are_read_while_the_engine_is_up() -> None:
    async def metrics(url: str) -> tuple[int, bytes]:
        text = "vllm:num_requests_running 2.0\nvllm:num_requests_waiting 1.0\n"
        return (200, text.encode()) if url.endswith("/metrics") else (200, b"")

    async def main() -> None:
        pool = make_pool(URL, get=metrics)
        await pool.start()
        await until(lambda: pool.engines[0].limit.value == 2)
        await pool.close()

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_real_refusal_is_known_as_one(host: str) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        pool = make_pool(f"http://{host}:{port}")
        await pool.start()
        assert pool._get is not None
        with pytest.raises(OSError) as caught:  # noqa: PT011
            await pool._get(f"http://{host}:{port}/health")
        assert is_refused(caught.value)
        assert not is_ours(caught.value)
        await pool.close()

    run(main())


@pytest.mark.parametrize(
    ("fault", "why"), [(REFUSED, "connection refused"), (503, "its /health says 503")]
)
def test_the_log_says_why_an_engine_counts_as_dead(
    fault: Health, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        pool = make_pool(URL, get=Engine(*[fault] * 1000))
        await pool.start()
        await until(lambda: pool.engines[0].up is False)
        await pool.close()

    run(main())
    assert f"engine a:1 does not answer ({why}) and counts as dead" in caplog.text
