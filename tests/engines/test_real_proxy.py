"""The official clients through the proxy to real engines: the same as direct, and it hits."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from launch import MODEL_NAME, Server, free_port, kv_events_flags, launch
from proxy_calls import CALLS, CHAT, GREEDY, QUESTION, chat, openai_client, result, shape, streamed
from servers import Client, serving, wait_until

from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

PLACES = 4
FLAGS = {
    "vllm": (
        *("--max-num-seqs", str(PLACES), "--enable-auto-tool-choice"),
        *("--tool-call-parser", "pythonic"),
        *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    ),
    "sglang": (
        *("--max-running-requests", str(PLACES), "--enable-metrics"),
        *("--tool-call-parser", "pythonic", "--constrained-json-disable-any-whitespace"),
    ),
}
RUNNING = {"vllm": "vllm:num_requests_running", "sglang": "sglang:num_running_reqs"}
BLOCKS = [
    f"Report {i}: the {word} was counted {i * 7} times in the valley, and {i} times on the hill."
    for i, word in enumerate(("heron", "otter", "beetle", "willow", "fox", "carp", "newt", "owl"))
]


@dataclass(frozen=True)
class Pair:
    """An engine, and our server in front of it."""

    engine: Server
    proxy: Client
    kv_events: str

    def state(self) -> Any:
        """Return what our server knows of the engine."""
        return self.proxy.get("/health").json()["engines"][0]

    def num_running(self) -> float:
        """Return how many requests the engine runs."""
        name = RUNNING[self.engine.engine]
        lines = str(self.engine.get("/metrics")).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def pair(request: pytest.FixtureRequest, engine: Callable[[str], Any]) -> Iterator[Pair]:
    engine(request.param)
    ports = [free_port() for _ in range(4)]
    url = f"http://127.0.0.1:{ports[0]}"
    events = f"tcp://127.0.0.1:{ports[2]},replay=tcp://127.0.0.1:{ports[3]}"
    with contextlib.ExitStack() as stack:
        server = make_server(Settings(engine=(url,), port=ports[1], kv_events=(events,)))
        ours = stack.enter_context(serving(server))
        env = {"CONTEXTPILOT_INDEX_URL": ours}
        flags = [*FLAGS[request.param], *kv_events_flags(*ports[2:])]
        running = launch(request.param, port=ports[0], env=env, extra_flags=flags)
        yield Pair(stack.enter_context(running), Client(ours), events)


# -- the same as direct ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_a_call_gives_the_same_as_direct(pair: Pair, name: str) -> None:
    call, engine = CALLS[name], pair.engine.base_url
    direct, proxied = result(call, engine), result(call, pair.proxy.url)
    if proxied != direct:
        again = result(call, engine)
        if again != direct != proxied != again:  # the engine itself varies
            direct, proxied = shape(direct), shape(proxied)
        else:
            direct = again
    assert proxied == direct


@pytest.mark.parametrize("name", ["any tool", "named tool"])
def test_tools_are_called(pair: Pair, name: str) -> None:
    client = openai_client(pair.proxy.url)
    [call] = chat(client, CHAT[name]).choices[0].message.tool_calls
    assert call.function.name == "mayor" or name == "any tool"
    assert json.loads(call.function.arguments)["town"] in ("Bonn", "Trier")
    [choice] = streamed(client, CHAT[name])["choices"].values()
    assert choice["names"] == {0: call.function.name}
    assert json.loads(choice["arguments"][0]) == json.loads(call.function.arguments)


def test_a_schema_is_followed(pair: Pair) -> None:
    reply = chat(openai_client(pair.proxy.url), CHAT["schema"])
    assert set(json.loads(reply.choices[0].message.content)) == {"answer", "sure"}


# -- cache and index -------------------------------------------------------------------------------


def cached(url: str, question: str, key: str = "none", **more: Any) -> tuple[int, str]:
    """Ask; return the tokens that the engine had cached, and our id of the request."""
    raw = (
        openai_client(url)
        .with_options(api_key=key)
        .chat.completions.with_raw_response.create(
            model=MODEL_NAME,
            max_tokens=2,
            messages=[{"role": "user", "content": question}],
            extra_body=more,
        )
    )
    usage = raw.parse().usage
    details = usage.prompt_tokens_details if usage else None
    told = json.loads(raw.headers["x-contextpilot-result"])
    return (details.cached_tokens or 0) if details else 0, told.get("request_id", "")


def test_reordered_blocks_hit_and_the_engine_reports_it(pair: Pair) -> None:
    url = pair.proxy.url
    free = {"options": {"displacement_cost": 0}}
    _, first = cached(url, "Which animal is rare?", contextpilot={"contexts": BLOCKS, **free})
    backwards = {"contexts": BLOCKS[::-1], **free}
    hits, second = cached(url, "Which animal is common?", contextpilot=backwards)
    assert hits >= 128
    for request_id in (first, second):
        assert pair.proxy.get(f"/explain/{request_id}").json()["status"] == 200
    told = pair.proxy.get(f"/explain/{second}").json()
    assert told["cached_tokens"] == hits
    assert told["matched_blocks"] == len(BLOCKS)

    def num_reported() -> int:
        known = pair.proxy.get("/health").json()["sync"].values()
        return sum(reporter["num_requests"] for reporter in known)

    wait_until(lambda: num_reported() >= 2, 60)
    assert pair.state()["sync"] == "exact"


@pytest.mark.parametrize("planned", [False, True])
def test_a_cache_salt_divides_the_engines_cache(pair: Pair, planned: bool) -> None:
    text = " ".join(BLOCKS) if not planned else "Which animal is sweet?"
    more = {"contextpilot": {"contexts": [f"Salted. {b}" for b in BLOCKS]}} if planned else {}
    settings = Settings(engine=(pair.engine.base_url,), port=0, cache_salt=True, salt_secret="x")
    with serving(make_server(settings)) as url:
        hits = [cached(url, text, key, **more)[0] for key in ("ann", "ben", "ann", "ben")]
        assert max(hits[:2]) < 32 <= 128 <= min(hits[2:])
        own = [cached(url, text, "ann", **more, cache_salt=salt)[0] for salt in "aab"]
        assert max(own[0], own[2]) < 32 <= 128 <= own[1]


# -- KV events -------------------------------------------------------------------------------------


def kv_state(client: Client) -> Any:
    """Return what our server knows by KV events."""
    return client.get("/health").json()["engines"][0]["kv_events"]


def test_kv_events_check_the_hooks(pair: Pair) -> None:
    contexts = {"contexts": [f"Checked. {block}" for block in BLOCKS]}
    for number in range(6):
        cached(pair.proxy.url, f"Which animal is number {number}?", contextpilot=contexts)
    wait_until(lambda: kv_state(pair.proxy)["num_agreed"] >= 6, 60)
    state = kv_state(pair.proxy)
    assert (state["role"], state["state"], state["num_differing"]) == ("checks", "exact", 0)


def test_kv_events_alone_tell_what_the_engine_finds(pair: Pair) -> None:
    """Another server, which the hooks do not know, joins late: it replays what was before."""
    engine = pair.engine
    settings = Settings(
        engine=(engine.base_url,), port=0, kv_events=(pair.kv_events,), reorder=False
    )
    server = make_server(settings)
    told = server.config.app.state.service.pool.receiver.told_tokens  # type: ignore[union-attr]
    block = {"vllm": 32, "sglang": 1}[engine.engine]
    with serving(server) as url:
        wait_until(lambda: kv_state(Client(url))["state"] == "exact")
        for number in range(8):
            blocks = [f"Alone {number // 2}. {block}" for block in BLOCKS[: 3 + number % 3]]
            question, more = f"Which is number {number}?", {"contextpilot": {"contexts": blocks}}
            _, request = cached(url, question, **more)
            wait_until(lambda request=request: told(request))
            hits, _ = cached(url, question, **more)
            assert 0 <= (told(request) or 0) - hits <= block
        health = Client(url).get("/health").json()["engines"][0]
        assert (health["sync"], health["kv_events"]["role"]) == ("exact", "tells")


# -- load ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def asked(pair: Pair, count: int, stream: bool) -> Iterator[None]:
    """Ask for so many endless answers; hang up at the end."""
    more = {"stream": stream, "max_tokens": 3000, "ignore_eos": True}
    body = json.dumps({**GREEDY, "messages": QUESTION, **more})
    host = pair.proxy.url.removeprefix("http://")
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(contextlib.closing(HTTPConnection(host)))
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", body, headers)
        yield


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_the_engine(pair: Pair, stream: bool) -> None:
    wait_until(lambda: pair.num_running() == 0)
    with asked(pair, 8 * PLACES, stream):  # left alone, they run for much longer than a minute
        wait_until(lambda: pair.num_running() == PLACES, 60)
    wait_until(lambda: pair.num_running() == 0, 60)
    wait_until(lambda: pair.state()["in_flight"] == 0)


def test_saturation_is_learnt_from_the_engines_queue(pair: Pair) -> None:
    # a queue of minutes: while vLLM computes a thousand tokens a second on a CPU, it may take a
    # minute to answer what is scraped, and a thousand pieces a second would keep it from that
    with asked(pair, 24 * PLACES, stream=False):
        wait_until(lambda: pair.state()["max_in_flight"] == PLACES, 300)
        with asked(pair, 1, stream=False):
            wait_until(lambda: pair.state()["waiting"] == 1)
    wait_until(lambda: pair.state()["in_flight"] == 0)
    assert pair.state()["waiting"] == 0
