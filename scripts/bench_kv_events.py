"""Print how true belief is that rests on an engine's own KV events alone, on a real engine.

    python scripts/bench_kv_events.py vllm sglang --requests 320
    python scripts/bench_kv_events.py vllm --family gemma3 --hooks
    python scripts/bench_kv_events.py vllm --family llama --eagle
    python scripts/bench_kv_events.py sglang --family mellum --requests 30

`contextpilot serve` stands before the engine (scripts/engines sets it up; tiny random model, CPU)
and hears its KV events through a relay, which loses messages when it is told to. Prompts are sent
again and again, and share beginnings; before each, what the server was told of it last is compared
with the `cached_tokens` of the answer. After a third of the requests the relay loses messages for a
while, and the engine replays them; after another third the engine is started anew, which shows by
the numbers of its messages alone. The hooks do not report; with --hooks they do after all that, and
the events check them. Of SGLang's layers of several kinds nothing must be told.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent / "engines"))

import zmq
from bench_belief import SYSTEM, flags_for, post
from environments import environment
from families import FAMILIES, SGLANG_FAMILIES, ensure_drafts, ensure_family
from launch import MODEL_NAME, free_port, kv_events_flags, launch
from machine import machine_line
from sglang_hybrid_run import JOBS, ON_CPU

from contextpilot.named import point_below
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings
from contextpilot.sync.sources.kv_events.feed import SETTLE_S

PAGE = {"vllm": 32, "sglang": 1}
CACHE_TOKENS = 6000
FAMILY_CACHE_TOKENS = 12_000
"""Of layers of several kinds each takes its own blocks of the cache."""
PROMPTS, SHARED = 60, 6
QUIET_S = 0.25
"""Silence after which nothing more is on its way."""


class Seen(NamedTuple):
    """A prompt sent again: the most of what was told of it that can hit, and what did."""

    expected: int
    cached: int
    whole: int


class Relay:
    """Passes an engine's KV events on, or loses them."""

    def __init__(self, engine_port: int, port: int) -> None:
        self.loses = threading.Event()
        self.num_passed = self.num_lost = 0
        self.last = 0.0
        self._has_ended = False
        self._context = zmq.Context()
        self._from, self._to = self._context.socket(zmq.SUB), self._context.socket(zmq.PUB)
        self._from.setsockopt(zmq.SUBSCRIBE, b"")
        self._from.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._from.connect(f"tcp://127.0.0.1:{engine_port}")
        self._to.bind(f"tcp://127.0.0.1:{port}")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._has_ended:
            if not self._from.poll(50):
                continue
            frames = self._from.recv_multipart()
            self.last = time.monotonic()
            if self.loses.is_set():
                self.num_lost += 1
            else:
                self.num_passed += 1
                self._to.send_multipart(frames)

    def close(self) -> None:
        """End it."""
        self._has_ended = True
        self._thread.join()
        self._context.destroy(0)


class Heard:
    """What a pool's receiver was told last of each request."""

    def __init__(self, pool: Any) -> None:
        self._told: dict[str, Any] = {}
        self._page = 1
        self._dropped = 0
        self.has_points = False
        receive = pool.receiver.receive

        def heard(message: Any) -> Any:
            if message.snapshot:
                self._told.clear()
            self._told.update((event.request, event) for event in message.events)
            self.has_points = self.has_points or message.sparse
            self._page, self._dropped = message.block_size, message.dropped
            return receive(message)

        pool.receiver.receive = heard

    def reusable(self, request: str, prompt_tokens: int) -> int | None:
        """Return the most that the request's prompt can hit if sent again; None: not told."""
        event = self._told.get(request)
        if event is None or event.kind == "unfollowed":
            return None
        if event.points is not None:
            whole = (prompt_tokens - 1) // self._page * self._page
            return max(0, point_below(event.points, whole) - self._dropped)
        return min(event.tokens, prompt_tokens - 1) // self._page * self._page


class Ports(NamedTuple):
    """Where everything is."""

    engine: int
    events: int
    replay: int
    relay: int


@contextlib.contextmanager
def listening(engine: str, ports: Ports, has_replay: bool) -> Iterator[tuple[str, Any]]:
    """Our server before the engine, in this process; yields its URL and its pool."""
    events = f"tcp://127.0.0.1:{ports.relay}"
    if has_replay:
        events += f",replay=tcp://127.0.0.1:{ports.replay}"
    settings = Settings(
        engine=(f"http://127.0.0.1:{ports.engine}",),
        kv_events=(events,),
        kind=engine,
        port=free_port(),
        reorder=False,
        log_level="warning",
    )
    server = make_server(settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    app: Any = server.config.app
    try:
        yield f"http://127.0.0.1:{settings.port}", app.state.service.pool
    finally:
        server.should_exit = True
        thread.join(20)


def texts() -> list[list[str]]:
    """Prompts as lists of documents; many begin with the same ones."""
    chance = random.Random(3)
    words = ["amber", "basil", "cedar", "delta", "ember", "fable", "grove", "harbor", "island"]

    def document(number: int, length: int) -> str:
        return f"{number:04d} " + " ".join(chance.choices(words, k=length))

    shared = [[document(n, 60), document(100 + n, 80)] for n in range(SHARED)]
    prompts = []
    for number in range(PROMPTS):
        own = [document(1000 + 10 * number + i, chance.randint(10, 120)) for i in range(3)]
        prompts.append((chance.choice(shared) if chance.random() < 0.6 else []) + own)
    return prompts


class Driver:
    """Sends prompts through our server, and compares."""

    def __init__(self, url: str, pool: Any, relay: Relay) -> None:
        self._url, self._pool, self._relay = url, pool, relay
        self.heard = Heard(pool)
        self._prompts = texts()
        self._ids: dict[int, tuple[str, int]] = {}
        self._chance = random.Random(8)

    def send(self, count: int) -> list[Seen]:
        """Send so many prompts; return those that were sent before."""
        seen = []
        for _ in range(count):
            one = self._send(self._chance.randrange(PROMPTS))
            seen += [one] if one is not None else []
        return seen

    def forget(self) -> None:
        """Compare only what is sent from now on."""
        self._ids.clear()

    def _send(self, number: int) -> Seen | None:
        before = self._ids.get(number)
        expected = None
        if before is not None:
            self._rest()
            expected = self.heard.reusable(*before)
        body = {
            "model": MODEL_NAME,
            "messages": [SYSTEM, {"role": "user", "content": "q"}],
            "max_tokens": 1 + number % 7,
            "temperature": 0,
            "contextpilot": {"contexts": self._prompts[number], "query": f"{number} why?"},
        }
        with post(f"{self._url}/v1/chat/completions", body) as reply:
            request = json.loads(reply.headers["X-ContextPilot-Result"])["request_id"]
            usage: Any = json.loads(reply.read())["usage"]
        self._ids[number] = request, usage["prompt_tokens"]
        if expected is None:
            return None
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Seen(expected, cached, usage["prompt_tokens"])

    def _rest(self) -> None:
        """Wait until nothing is on its way."""
        follower = self._pool.engines[0].kv_events
        while time.monotonic() - self._relay.last < QUIET_S or follower.state()["num_waiting"]:
            time.sleep(0.02)
        time.sleep(0.1)


def show(name: str, seen: list[Seen], page: int) -> None:
    """Print one part of a run."""
    apart = [abs(one.expected - one.cached) for one in seen]
    exact = sum(gap == 0 for gap in apart)
    within = sum(gap <= page for gap in apart)
    above = sum(one.expected > one.cached for one in seen)
    nothing = sum(not one.cached for one in seen)
    part = sum(0 < one.cached < one.whole - 2 * page for one in seen)
    print(
        f"  {name}: {len(seen)} prompts sent again, of which the cache held nothing {nothing}, a "
        f"part {part}; told as cached {exact}, within a block {within}, too much {above}, furthest "
        f"{max(apart, default=0)} tokens",
        flush=True,
    )


def gap(relay: Relay, driver: Driver, messages: int = 12) -> None:
    """Lose messages, while prompts are sent that nobody compares."""
    relay.loses.set()
    lost = relay.num_lost
    while relay.num_lost < lost + messages:
        driver.send(1)
    relay.loses.clear()
    driver.send(1)
    time.sleep(2 * SETTLE_S)  # what was lost last shows once all has been quiet


def bench(engine: str, options: argparse.Namespace) -> None:
    """All parts on one engine."""
    count, family, with_hooks = options.requests, options.family, options.hooks
    ports = Ports(*(free_port() for _ in Ports._fields))
    size = FAMILY_CACHE_TOKENS if family else CACHE_TOKENS
    flags = [*flags_for(engine, size, 0), *kv_events_flags(ports.events, ports.replay)]
    if engine == "sglang":
        flags[flags.index("--page-size") + 1] = "1"
    model = ensure_family(environment(engine).python, family) if family else None
    flags += ["--load-format", "dummy"] if family else []
    if options.eagle:
        flags += ["--speculative-config", json.dumps(ensure_drafts(environment(engine).python))]
    is_odd = engine == "sglang" and family in JOBS
    flags += JOBS[family].get("flags", ()) if is_odd else ()
    env = ON_CPU if is_odd else {}
    relay, part = Relay(ports.events, ports.relay), count // 3
    started = time.monotonic()
    print(f"{engine} {family}, cache of {size:,} tokens, {count} prompts", flush=True)
    with contextlib.ExitStack() as ours:
        ours.callback(relay.close)
        with launch(engine, port=ports.engine, extra_flags=flags, model=model, env=env):
            url, pool = ours.enter_context(listening(engine, ports, has_replay=True))
            ready(pool)
            driver = Driver(url, pool, relay)
            show("before", driver.send(part), PAGE[engine])
            gap(relay, driver)
            show("after a gap that was replayed", driver.send(part), PAGE[engine])
        with launch(engine, port=ports.engine, extra_flags=flags, model=model, env=env):
            ready(pool)
            driver.forget()
            show("after a restart", driver.send(count - 2 * part), PAGE[engine])
            print(f"  points: {driver.heard.has_points}; {pool.engines[0].kv_events.state()}")
        if with_hooks:
            telling = {**env, "CONTEXTPILOT_INDEX_URL": url}
            with launch(engine, port=ports.engine, extra_flags=flags, model=model, env=telling):
                ready(pool)
                driver.forget()
                show("by the hooks", driver.send(part), PAGE[engine])
                time.sleep(6)  # the events are compared every two seconds, twice
                print(f"  {pool.engines[0].kv_events.state()}")
        print(f"  {time.monotonic() - started:.0f} s")


def ready(pool: Any) -> None:
    """Wait until our server hears the engine, and knows that it is up."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = pool.engines[0].kv_events
        known = state.state() if state is not None else {"state": "off", "refused": ""}
        is_refused = known["refused"] and "not known yet" not in known["refused"]
        if pool.engines[0].up and (known["state"] != "off" or is_refused):
            time.sleep(1.5)
            return
        time.sleep(0.1)
    raise RuntimeError("the server hears nothing of the engine")


def main() -> None:
    """Run the engines asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engines", nargs="+", choices=sorted(PAGE))
    parser.add_argument("--requests", type=int, default=320)
    parser.add_argument(
        "--family", default="", choices=sorted(FAMILIES | SGLANG_FAMILIES), help="model"
    )
    parser.add_argument("--hooks", action="store_true", help="then with the hooks, too")
    parser.add_argument(
        "--eagle", action="store_true", help="vLLM, with --family llama: drafts, too"
    )
    arguments = parser.parse_args()
    print(machine_line("pyzmq", "msgspec"))
    for engine in arguments.engines:
        bench(engine, arguments)


if __name__ == "__main__":
    import plainly

    plainly.run(main)
