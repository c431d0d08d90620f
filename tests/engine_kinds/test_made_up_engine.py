"""A new engine is one file: proxy, pool, doctor and bench do as it says, with no other edit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up import Foundry
from prefix_engine import PrefixEngine, running
from runner import Runner
from scripted import scripted
from servers import Client, Scripted, Seen, send_json, serving, wait_until

from contextpilot.bench.arms import Setting, make_arm
from contextpilot.bench.prompts import Requests
from contextpilot.block import BlockReader
from contextpilot.engines.load import Load, read_load
from contextpilot.engines.registry import kind_named, register

CHAT = "/v1/chat/completions"
BLOCKS = [f"Document {name}: " + f"facts about {name}. " * 12 for name in "abcdef"]
WHO = {"i am": "a foundry", "crucibles": 3}
CHATTING = {"messages": [{"role": "user", "content": "?"}], "contextpilot": {"contexts": BLOCKS}}


async def cast(seen: Seen, send: Any) -> None:
    await send_json(send, {"seen_tokens": 900, "hit_tokens": 400, "made_tokens": 3})


@pytest.fixture
def engine(foundry: Foundry) -> Iterator[Scripted]:
    scripted = Scripted(cast, asides={"/who": WHO})
    with serving(scripted) as url:
        scripted.url = url
        yield scripted


def state(client: Client) -> Any:
    return client.get("/health").json()["engines"][0]


def test_the_proxy_speaks_to_it_as_its_file_says(
    engine: Scripted, start: Callable[..., Client]
) -> None:
    client = start(engine=(engine.url,), cache_salt=True)
    reply = client.post(CHAT, CHATTING)
    sent = engine.last.json()
    assert sent["ticket"] == reply.result["request_id"]
    assert len(sent["cache_salt"]) == 32
    metrics = client.get("/metrics").body.decode()
    assert "contextpilot_prefix_cache_queries_total 900.0\n" in metrics
    assert "contextpilot_prefix_cache_hits_total 400.0\n" in metrics
    refused = client.post("/v1/completions", {"prompt": "?", "contextpilot": {"contexts": BLOCKS}})
    assert refused.status == 400
    assert "is heeded in chats only" in refused.json()["error"]["message"]


def test_the_pool_knows_its_places_and_its_name(
    engine: Scripted, start: Callable[..., Client]
) -> None:
    client = start(engine=(engine.url,))
    wait_until(lambda: state(client)["up"])
    assert (state(client)["max_in_flight"], state(client)["kind"]) == (3, "foundry")


def test_what_it_does_not_tell_breaks_no_request(
    engine: Scripted, start: Callable[..., Client]
) -> None:
    engine.asides["/who"] = {"i am": "a foundry"}
    client = start(engine=(engine.url,))
    reply = client.post(CHAT, CHATTING)
    assert engine.last.json()["ticket"] == reply.result["request_id"]
    wait_until(lambda: state(client)["up"])
    assert (state(client)["max_in_flight"], state(client)["kind"]) == (None, "foundry")


def test_what_divides_its_cache_divides_namespaces(
    engine: Scripted, start: Callable[..., Client]
) -> None:
    client = start(engine=(engine.url,))
    live = [
        client.post(CHAT, {**CHATTING, "alloy": alloy}).result["live_blocks"] for alloy in "aabba"
    ]
    assert live == [0, len(BLOCKS), 0, len(BLOCKS), len(BLOCKS)]


def test_its_metrics_tell_of_its_load(foundry: Foundry) -> None:
    assert read_load("foundry:melting 3\nfoundry:queued 2\n") == Load(3, 2)


@pytest.mark.parametrize("told", ["1.2.3", "1e400", "1e12", "NaN", "9" * 400])
def test_counts_that_are_none_tell_nothing(foundry: Foundry, told: str) -> None:
    assert read_load(f"foundry:queued {told}\n") is None
    assert read_load(f"foundry:melting {told}\nfoundry:queued 2\n") == Load(0, 2)


def test_doctor_names_its_flags(foundry: Foundry, run: Runner) -> None:
    models = {"data": [{"id": "m", "owned_by": "foundry"}]}
    usage: dict[str, Any] = {"seen_tokens": 9}
    with scripted(
        {"/v1/models": (200, models), "/v1/completions": lambda _: (200, {"usage": usage})}
    ) as server:
        hidden = run("doctor", "--engine", server.url, "--json").json()["checks"][-1]
        usage["hit_tokens"] = 0
        cold = run("doctor", "--engine", server.url, "--json").json()["checks"][-1]
        usage["hit_tokens"] = 8
        good = run("doctor", "--engine", server.url, "--json").json()["checks"][-1]
    assert (hidden["status"], hidden["fix"]) == ("warn", "launch it with --tell-hits")
    assert "Foundry: no --no-hits" in cold["fix"]
    assert (good["status"], good["detail"][:6]) == ("ok", "8 of 9")


def test_bench_measures_it(foundry: Foundry, run: Runner, tmp_path: Path) -> None:
    contexts = [BLOCKS, BLOCKS[::-1], BLOCKS[2:]]
    lines = [json.dumps({"query": f"{i}?", "contexts": c}) for i, c in enumerate(contexts)]
    path = tmp_path / "shared.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with running(PrefixEngine(owner="foundry", reset_path="/melt")) as engine:
        shown = run("bench", "--engine", engine.url, "--workload", path, "--json", "--modes",
                    "plain,online", "--repetitions", 1)  # fmt: skip
        assert shown.status == 0, shown.err
        assert engine.resets > 0
        engine.reports = False
        told = run.refused("bench", "--engine", engine.url, "--workload", path)
    found = shown.json()["engine"]
    assert (found["kind"], found["version"]) == ("foundry", "v0.0.1")
    assert found["cache"]["block_size"] == 4
    assert "Foundry does not report cached tokens" in told
    assert "launch it with --tell-hits" in told


def test_bench_names_requests_as_it_takes_names(foundry: Foundry) -> None:
    blocks = BlockReader().read(BLOCKS)
    arm = make_arm("synced", Setting(kind=foundry))
    (prompt,) = arm.write(Requests(["?"], [blocks]), "salt")
    assert prompt.members == {"ticket": prompt.headers["X-Request-Id"]}


def test_names_are_taken_once(foundry: Foundry) -> None:
    with pytest.raises(ValueError, match="'foundry' is taken"):
        register(Foundry())
    with pytest.raises(ValueError, match="known are anthropic, foundry, llamacpp"):
        kind_named("forge")
