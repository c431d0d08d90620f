"""A real SGLang server, launched unchanged, with a pool far too small for its requests."""

from __future__ import annotations

import logging
import random
import sys
import threading
from collections import Counter
from pathlib import Path

import launch
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "hooks"))

from receiver import Receiver, eventually
from test_vllm_server import Workload

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

logger = logging.getLogger("tests.sglang")

REQUESTS = 300
SMALL_POOL = ("--max-total-tokens", "6000", "--context-length", "4096")


class Client:
    """Chat requests to one server, and the truth about its cache.

    `receiver` is the index, None while it is absent; `before` holds what was asked until then, and
    what was answered.
    """

    def __init__(self, server: launch.Server, page_size: int) -> None:
        self.server = server
        self.receiver: Receiver = None
        self.page_size = page_size
        self.before: dict[str, tuple[str, str]] = {}

    def send(self, text: str, name: str | None = None, outputs: int = 1) -> tuple[str, int, int]:
        """One chat request; returns text, prompt tokens and cached tokens."""
        body = {
            "model": launch.MODEL_NAME,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": outputs,
            "temperature": 0,
            "ignore_eos": True,
            **({"rid": name} if name else {}),
        }
        reply = self.server.post("/v1/chat/completions", body)
        usage = reply["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"] or 0
        return reply["choices"][0]["message"]["content"], usage["prompt_tokens"], cached

    def burst(self, work: Workload, names: list[str]) -> None:
        """Several requests at once, with outputs of different lengths."""
        lengths = [work.random.randint(1, 20) for _ in names]
        threads = [
            threading.Thread(target=self.send, args=(work.sent[name], name, length))
            for name, length in zip(names, lengths, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def settle(self) -> None:
        """Wait until everything up to now has arrived: events come in order, a marker's last."""
        marker = f"cp-{random.getrandbits(96):024x}"
        self.send("a marker that fills more than one page of the cache " * 2, marker)
        self.receiver.wait(lambda: self.receiver.tokens(marker) > 0, 60)

    def check(self, text: str, name: str, seen: Counter[str]) -> None:
        """Re-send a prompt under a foreign id; its cached tokens are the truth."""
        self.settle()
        told = self.receiver.tokens(name)
        _, prompt_tokens, cached = self.send(text)
        # The last token is always computed, so that there is something to sample from.
        most = (prompt_tokens - 1) // self.page_size * self.page_size
        expected = min(told, most)
        seen["all" if cached == most else "part" if cached else "none"] += 1
        seen["checks"] += 1
        seen["off by more than a page"] += abs(expected - cached) > self.page_size
        seen["off at all"] += expected != cached
        seen["missed evictions"] += expected > cached
        if expected != cached:
            logger.warning("%s: told %d, cached %d of %d", name, told, cached, prompt_tokens)

    def exercise(self, work: Workload, requests: int) -> Counter[str]:
        """Bursts of requests and, between them, checks against the truth."""
        seen: Counter[str] = Counter()
        while seen["requests"] < requests:
            names = [work.request() for _ in range(work.random.randint(1, 4))]
            seen["requests"] += len(names)
            self.burst(work, names)
            name = work.random.choice(list(work.sent))
            self.check(work.sent[name], name, seen)
        return seen


@pytest.fixture(scope="module", params=["rust-1", "python-16"])
def client(request, engine):
    """A server on each tree core, with pages of 1 and of 16 tokens; the index stays up."""
    installed = engine("sglang")
    core, page_size = request.param.split("-")
    port = launch.free_port()
    environ = {
        "CONTEXTPILOT_INDEX_URL": f"http://127.0.0.1:{port}",
        "SGLANG_UNIFIED_RADIX_TREE_CORE_BACKEND": core,
    }
    flags = (*SMALL_POOL, "--page-size", page_size)
    model = launch.ensure_model(installed.python, hidden=128, layers=2)
    with launch.launch("sglang", env=environ, extra_flags=flags, model=model) as server:
        client, work = Client(server, int(page_size)), Workload(5)
        for name in [work.request() for _ in range(8)]:
            client.before[name] = work.sent[name], client.send(work.sent[name], name, 8)[0]
        with Receiver(port) as client.receiver:
            yield client


def test_an_index_absent_from_the_start_is_exact_once_it_is_there(client):
    assert eventually(lambda: client.receiver.messages, 60), "the hook does not report"
    seen: Counter[str] = Counter()
    for name, (text, answer) in client.before.items():
        client.check(text, name, seen)
        assert client.send(text, outputs=8)[0] == answer
    assert seen["off by more than a page"] == seen["missed evictions"] == 0


def test_every_request_is_known_exactly(client):
    work, receiver = Workload(1), client.receiver
    assert eventually(lambda: receiver.messages), "the hook does not report"
    assert receiver.messages[0]["block_size"] == client.page_size
    seen = client.exercise(work, REQUESTS)
    for name, text in work.sent.items():
        client.check(text, name, seen)
    sys.stdout.write(f"\n{dict(seen)}\n")
    assert seen["requests"] >= REQUESTS
    assert seen["all"] > 5
    assert seen["part"] + seen["none"] > 100
    assert seen["off by more than a page"] == 0
    assert seen["missed evictions"] == 0
    (name,) = receiver.state
    assert name.startswith("sglang-")
    assert name.endswith(client.server.base_url.rpartition(":")[2])


def test_a_flushed_cache_is_reported(client):
    work, receiver = Workload(4), client.receiver
    name = work.request()
    client.send(work.sent[name], name)
    assert eventually(lambda: receiver.tokens(name) > 0)
    client.server.get("/flush_cache")
    assert eventually(lambda: not any(receiver.state.values()), 10)
    assert client.exercise(work, 10)["off by more than a page"] == 0


@pytest.mark.parametrize("fault", ["hang", "500", "garbage", "not-json", "drop"])
def test_a_faulty_index_changes_nothing_for_the_engine(client, fault):
    work, receiver = Workload(2), client.receiver
    texts = [work.prompt() for _ in range(6)]
    healthy = [client.send(text, outputs=8)[0] for text in texts]
    receiver.fault = fault
    seen = receiver.faults_seen
    for _ in texts:
        name = work.request()
        client.send(work.sent[name], name)
    faulty = [client.send(text, outputs=8)[0] for text in texts]
    assert eventually(lambda: receiver.faults_seen > seen, 10)
    receiver.fault = None
    assert faulty == healthy
    delivered = len(receiver.messages)
    assert eventually(lambda: len(receiver.messages) > delivered, 30)
    after = client.exercise(work, 10)
    assert after["off by more than a page"] == after["missed evictions"] == 0


def test_an_index_restarted_under_load_is_exact_again(client):
    work, old = Workload(3), client.receiver
    client.exercise(work, 10)
    old.close()
    for _ in range(10):
        name = work.request()
        client.send(work.sent[name], name)
    with Receiver(old.port) as restarted:
        client.receiver = restarted
        for _ in range(5):
            name = work.request()
            client.send(work.sent[name], name)
        assert eventually(lambda: any(restarted.state.values()), 30)
        after = client.exercise(work, 20)
        assert after["off by more than a page"] == after["missed evictions"] == 0
