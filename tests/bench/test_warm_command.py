"""`contextpilot warm` against an engine with a cache: what is spent, what it brings, its waits."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path

import pytest
import requests
from prefix_engine import PrefixEngine, running

from contextpilot.bench.server import serving
from contextpilot.cli import main
from contextpilot.pilot import ContextPilot
from contextpilot.warming import warm_prompts

WORDS = {name: " ".join(f"{name}{i}" for i in range(40)) for name in "abcdefgh"}
LOG = [["a", "b", "c"], ["b", "a", "d"], ["a", "e", "b"], ["f", "g"], ["g", "f", "h"], ["h"]]
SYSTEM = "be brief"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl.gz"
    lines = [
        json.dumps({"query": "q", "contexts": [WORDS[name] for name in names]}) for names in LOG
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert main(["warm", "--json", "--budget", "100%", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_dry_run_shows_the_plan_and_sends_nothing(log, capsys) -> None:
    with running(PrefixEngine()) as engine:
        found = told(capsys, "--log", log, "--engine", engine.url, "--dry-run")
        assert engine.seen == []
    assert found["sent"] is None
    assert found["requests"] == len(LOG)
    assert [one["blocks"] for one in found["prefixes"]] == [2, 2]
    assert found["spent_tokens"] == sum(one["tokens"] for one in found["prefixes"])
    assert found["cache_tokens"] == 4_000_000


def test_the_budget_and_the_cache_bound_what_is_sent(log, capsys) -> None:
    plain = told(capsys, "--log", log, "--dry-run")
    half = plain["spent_tokens"] // 2
    assert 0 < told(capsys, "--log", log, "--dry-run", "--budget", half)["spent_tokens"] <= half
    small = ("--dry-run", "--cache-tokens", half)
    assert told(capsys, "--log", log, *small)["spent_tokens"] <= half


def test_what_is_warmed_hits_for_a_pilot_that_warmed_it(log) -> None:
    with running(PrefixEngine()) as engine:
        pilot = ContextPilot(index_url="")
        yesterday = [[WORDS[name] for name in names] for names in LOG]
        sent = list(warm_prompts(pilot, yesterday, 10_000, system_instruction=SYSTEM))
        for messages in sent:
            engine.run(messages)
        today = pilot.optimize([WORDS[name] for name in "hdba"], "why?", system_instruction=SYSTEM)
        assert today.order[:2] in ((2, 3), (3, 2))
        _, hits = engine.run(today)
        assert hits >= 80
        assert today.live_tokens > 0


def test_prompts_that_were_not_sent_are_taken_back() -> None:
    pilot = ContextPilot(index_url="")
    yesterday = [[WORDS[name] for name in names] for names in LOG]
    for messages in warm_prompts(pilot, yesterday, 10_000):
        pilot.unsent(messages.request_id)
    assert pilot.optimize([WORDS[name] for name in "hba"], "why?").live_tokens == 0


def test_a_budget_that_the_system_message_uses_up_buys_nothing() -> None:
    pilot = ContextPilot(index_url="")
    yesterday = [[WORDS[name] for name in names] for names in LOG]
    assert list(warm_prompts(pilot, yesterday, 30, system_instruction="word " * 100)) == []


def test_an_engine_is_sent_one_token_each_and_the_rest_stays_unsent_after_a_failure(
    log, capsys
) -> None:
    with running(PrefixEngine()) as engine:
        found = told(capsys, "--log", log, "--engine", engine.url, "--system", SYSTEM)
        assert found["sent"]["num_sent"] == len(engine.seen) == 2
        assert all(body["max_tokens"] == 1 for body in engine.seen)
        assert all(body["messages"][0]["content"] == SYSTEM for body in engine.seen)
        assert found["sent"]["prompt_tokens"] > 160
        engine.refuses = lambda messages: "too long" if len(engine.seen) > 3 else None
        assert main(["warm", "--log", str(log), "--engine", engine.url, "--budget", "100%"]) == 1
        assert "1 of 2" in capsys.readouterr().out


def test_nothing_is_sent_while_others_wait(log, capsys, monkeypatch) -> None:
    engine = PrefixEngine()
    load = {"busy": 1}
    metrics = "vllm:num_requests_running {0}\nvllm:num_requests_waiting {0}\n"
    monkeypatch.setattr(
        "prefix_engine.PrefixEngine.metrics", lambda _: metrics.format(load["busy"])
    )
    with running(engine):
        arguments = ["warm", "--log", str(log), "--engine", engine.url, "--budget", "100%"]
        assert main([*arguments, "--patience", "0"]) == 1
        assert "--patience" in capsys.readouterr().out
        assert engine.seen == []
        engine.refuses = lambda messages: "others run" if load["busy"] else None
        idle = threading.Timer(0.5, lambda: load.update(busy=0))
        idle.start()
        assert main(arguments) == 0
        idle.join()
        assert len(engine.seen) == 2


def test_what_goes_through_the_server_is_known_there(log, capsys) -> None:
    with running(PrefixEngine()) as engine, serving(engine.url, "vllm", None) as server:
        found = told(capsys, "--log", log, "--engine", server, "--system", SYSTEM)
        assert found["cache_tokens"] == 4_000_000, "of the engine behind it"
        assert found["sent"]["num_sent"] == 2
        body = {
            "model": "words",
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": "why?"},
            ],
            "contextpilot": {"contexts": [WORDS[name] for name in "hdba"]},
        }
        with requests.post(f"{server}/v1/chat/completions", json=body, timeout=60) as answer:
            result = json.loads(answer.headers["x-contextpilot-result"])
        assert result["live_tokens"] > 0, result
        text = engine.seen[-1]["messages"][-1]["content"]
        assert text.index(WORDS["a"]) < text.index(WORDS["h"])
        words, hits = engine.run(engine.seen[-1]["messages"])
        assert words >= hits > 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "lots", "--dry-run"], "--budget"),
        ([], "--engine"),
        (["--dry-run", "--system", "a", "--system-file", "b"], "not both"),
    ],
)
def test_wrong_usage_is_told(log, capsys, arguments, said) -> None:
    assert main(["warm", "--log", str(log), *arguments]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("log.jsonl", b"\n", "log.jsonl contains no request"),
        ("log.jsonl", b'{"contexts": [null]}', "log.jsonl, line 1: contexts[0]"),
        ("log.jsonl", b'{"contexts": ["a"]}\nno', "line 2 is not JSON"),
        ("log.jsonl.gz", gzip.compress(b'{"contexts": ["a"]}' * 9, mtime=0)[:-12], "gzip"),
        ("log.json", b"[]", "an object"),
    ],
)
def test_a_log_that_cannot_be_read_is_told(tmp_path, capsys, name, content, said) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["warm", "--log", str(tmp_path / name), "--dry-run"]) == 1
    assert said in capsys.readouterr().err


def test_a_system_message_that_is_no_text_is_told(log, tmp_path, capsys) -> None:
    (tmp_path / "system.txt").write_bytes(b"caf\xe9")
    arguments = ["--dry-run", "--system-file", str(tmp_path / "system.txt")]
    assert main(["warm", "--log", str(log), *arguments]) == 1
    assert "system.txt is not UTF-8 text" in capsys.readouterr().err
