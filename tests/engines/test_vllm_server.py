"""A real vLLM server, launched unchanged, under a cache that is far too small for its requests."""

from __future__ import annotations

import logging
import random
import socket
import sys
import threading
from collections import Counter
from pathlib import Path

import launch
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "hooks"))

from receiver import Receiver, eventually

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

logger = logging.getLogger("tests.vllm")

BLOCK = 32
REQUESTS = 300
SMALL_CACHE = ("--num-gpu-blocks-override", "200")  # 6,368 tokens
SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo")


class Workload:
    """Prompts of shared blocks: few blocks are in many prompts (Zipf), leading ones most often."""

    def __init__(self, seed: int, blocks: int = 60) -> None:
        self.random = random.Random(seed)
        self.blocks = [self._text(self.random.randint(30, 160)) for _ in range(blocks)]
        self.weights = [1 / (rank + 1) for rank in range(blocks)]
        self.sent: dict[str, str] = {}

    def _text(self, words: int) -> str:
        return " ".join("".join(self.random.choices(SYLLABLES, k=2)) for _ in range(words))

    def prompt(self) -> str:
        """Up to eight blocks, the popular ones first, and a question of its own."""
        chosen = self.random.choices(range(len(self.blocks)), self.weights, k=8)
        count = self.random.randint(1, 8)
        return " ".join(self.blocks[i] for i in sorted(set(chosen[:count]))) + self._text(6)

    def request(self) -> str:
        """A request id of ours and a new prompt, or one that was sent before under another id."""
        again = self.sent and self.random.random() < 0.2
        text = self.random.choice(list(self.sent.values())) if again else self.prompt()
        name = f"cp-{self.random.getrandbits(96):024x}"
        self.sent[name] = text
        return name


def send(server, text, name=None, outputs=1):
    """One chat request; returns (text, prompt tokens, cached tokens)."""
    body = {
        "model": launch.MODEL_NAME,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": outputs,
        "temperature": 0,
        "ignore_eos": True,
    }
    headers = {"X_Request_Id": name} if name else {}
    reply = server.post("/v1/chat/completions", body, **headers)
    usage = reply["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"] or 0
    return reply["choices"][0]["message"]["content"], usage["prompt_tokens"], cached


def burst(server, work, names):
    """Several requests at once, with outputs of different lengths."""
    lengths = [work.random.randint(1, 20) for _ in names]
    threads = [
        threading.Thread(target=send, args=(server, work.sent[name], name, length))
        for name, length in zip(names, lengths, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def settle(server, receiver):
    """Wait until everything up to now has arrived: events come in order, so a marker's is last."""
    marker = f"cp-{random.getrandbits(96):024x}"
    send(server, "a marker that fills more than one block of the cache " * 5, marker)
    receiver.wait(lambda: receiver.tokens(marker) > 0)
    threading.Event().wait(0.05)  # one change of many messages


def check_one(server, receiver, work, seen):
    """Re-send a prompt under a foreign id; its cached tokens are the truth."""
    name = work.random.choice(list(work.sent))
    settle(server, receiver)
    told = receiver.tokens(name)
    _, prompt_tokens, cached = send(server, work.sent[name])
    most = (prompt_tokens - 1) // BLOCK * BLOCK
    expected = min(told, most)
    seen["none" if not cached else "part" if cached < most else "all"] += 1
    seen["checks"] += 1
    seen["off by more than a block"] += abs(expected - cached) > BLOCK
    seen["off at all"] += expected != cached
    seen["missed evictions"] += expected > cached
    if expected != cached:
        about = [
            (message["seq"], event)
            for message in receiver.messages
            for event in message["events"]
            if event.get("request") == name
        ]
        text = "%s: told %d, cached %d of %d; %s"
        logger.warning(text, name, told, cached, prompt_tokens, about[-5:])


def exercise(server, receiver, work, requests=REQUESTS, checks=1):
    """Bursts of requests and, between them, checks against the truth."""
    seen: Counter[str] = Counter()
    while seen["requests"] < requests:
        names = [work.request() for _ in range(work.random.randint(1, 4))]
        seen["requests"] += len(names)
        burst(server, work, names)
        for _ in range(checks):
            check_one(server, receiver, work, seen)
    return seen


@pytest.fixture(scope="module")
def port():
    """The index's own port, kept over its restarts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def index(port):
    """The receiver of the moment; `index.restart()` replaces it by an empty one."""

    class Index:
        def __init__(self):
            self.receiver = Receiver(port)

        def stop(self):
            self.receiver.close()

        def restart(self):
            self.receiver = Receiver(port)

    running = Index()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def server(engine, index):
    engine("vllm")
    environ = {"CONTEXTPILOT_INDEX_URL": index.receiver.url}
    with launch.launch("vllm", env=environ, extra_flags=SMALL_CACHE) as running:
        yield running


def test_every_request_is_known_exactly(server, index):
    work = Workload(1)
    assert eventually(lambda: index.receiver.messages), "the hook does not report"
    assert index.receiver.messages[0]["block_size"] == BLOCK
    seen = exercise(server, index.receiver, work, checks=3)
    logger.info("%s", dict(seen))
    assert seen["requests"] >= REQUESTS
    assert seen["none"] > 5
    assert seen["part"] > 5
    assert seen["off by more than a block"] == 0
    assert seen["missed evictions"] == 0
    (name,) = index.receiver.state
    assert name.startswith("vllm-")
    assert name.endswith(server.base_url.rpartition(":")[2])


@pytest.mark.parametrize("fault", ["hang", "500", "garbage", "not-json", "drop"])
def test_a_faulty_index_changes_nothing_for_the_engine(server, index, fault):
    work, receiver = Workload(2), index.receiver
    texts = [work.prompt() for _ in range(6)]
    healthy = [send(server, text, outputs=8)[0] for text in texts]
    receiver.fault = fault
    seen = receiver.faults_seen
    for _ in texts:
        name = work.request()
        send(server, work.sent[name], name)
    faulty = [send(server, text, outputs=8)[0] for text in texts]
    assert eventually(lambda: receiver.faults_seen > seen, 10)
    receiver.fault = None
    assert faulty == healthy
    delivered = len(receiver.messages)
    assert eventually(lambda: len(receiver.messages) > delivered, 30)
    after = exercise(server, receiver, work, requests=10)
    assert after["off by more than a block"] == after["missed evictions"] == 0


def test_an_index_restarted_under_load_is_exact_again(server, index):
    work = Workload(3)
    for _ in range(5):
        name = work.request()
        send(server, work.sent[name], name)
    index.stop()
    for _ in range(10):
        name = work.request()
        send(server, work.sent[name], name)
    index.restart()
    assert eventually(lambda: index.receiver.state, 30)
    seen = exercise(server, index.receiver, work, requests=30)
    assert any(message["snapshot"] for message in index.receiver.messages)
    assert seen["off by more than a block"] == seen["missed evictions"] == 0


def test_an_absent_index_and_no_index_give_the_same_outputs(engine, port, server):
    engine("vllm")
    work = Workload(4)
    texts = [work.prompt() for _ in range(10)]
    hooked = [send(server, text, outputs=8)[0] for text in texts]
    environ = {"CONTEXTPILOT_INDEX_URL": f"http://127.0.0.1:{launch.free_port()}"}
    with launch.launch("vllm", env=environ, extra_flags=SMALL_CACHE) as absent:
        assert [send(absent, text, outputs=8)[0] for text in texts] == hooked
        log = absent.log.read_text(errors="replace")
    assert "Traceback" not in log
    assert log.count("contextpilot: ") == log.count("contextpilot: index at 127.0.0.1") == 1
    with launch.launch("vllm", extra_flags=SMALL_CACHE) as unhooked:
        assert [send(unhooked, text, outputs=8)[0] for text in texts] == hooked
        assert "contextpilot:" not in unhooked.log.read_text(errors="replace")
