"""The doctor on the index and on engines: real indexes, and scripted servers for their faults."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time

import pytest
import uvicorn
from scripted import scripted

import contextpilot as cp
from contextpilot.commands.checks.cached_tokens import check_cached_tokens
from contextpilot.commands.checks.exchange import Place
from contextpilot.commands.checks.index import check_index
from contextpilot.commands.checks.request_path import NAMESPACE
from contextpilot.engines.vllm import Vllm
from contextpilot.explain import Explanation
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings


@pytest.fixture
def index(monkeypatch):
    """A real index in this process, where the variable says."""
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", pilot.index_url)
        yield pilot


@contextlib.contextmanager
def serving(settings):
    server: uvicorn.Server = make_server(settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def found(checks):
    return {each.name: each for each in checks}


def statuses(checks):
    return {each.name: each.status for each in checks}


def report(url, engine="vllm-a", seq=0, **more):
    message = {"version": 1, "engine": engine, "epoch": "e", "seq": seq, "events": []}
    assert Place.at(url).ask("/sync", message | more).status == 200


def test_a_hybrid_model_is_told_of_the_flag(index):
    told = {"version": 3, "sparse": True, "block_size": 32, "snapshot": True}
    report(index.index_url, "vllm-a", kind="vllm", **told)
    report(index.index_url, "other-b", kind="other", **told)
    report(index.index_url, "vllm-c", kind="vllm", snapshot=True)
    checks = found(check_index())
    assert "--prefix-cache-retention-interval" in checks["sharing at vllm-a"].detail
    assert checks["sharing at vllm-a"].status == "ok"
    assert not {"sharing at other-b", "sharing at vllm-c"} & set(checks)


def test_without_an_address_there_is_nothing_to_ask(monkeypatch):
    assert list(check_index()) == []
    monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", "not an address")
    assert list(check_index()) == []


def test_a_real_index_plans_and_knows_the_id(index, caplog):
    checks = found(check_index())
    assert {name: each.status for name, each in checks.items()} == {
        "index": "ok",
        "sync": "warn",
        "request ids": "ok",
    }
    assert checks["index"].detail == f"{index.index_url} answers"
    assert "CONTEXTPILOT_INDEX_URL" in checks["sync"].fix
    assert "was planned by the index, which still knows it" in checks["request ids"].detail
    assert caplog.records == []


def test_the_probe_stays_in_its_own_namespace(index):
    list(check_index())
    probed, default = (index._namespaces.find(name) for name in (NAMESPACE, "default"))
    assert probed.counts.requests == 1
    assert default.counts.requests == default.planner.index.stats().num_requests == 0


def test_sync_of_each_engine(index):
    report(index.index_url, "vllm-a", kind="vllm", engine_version="0.32.0")
    report(index.index_url, "sglang-b", seq=5)
    checks = found(check_index())
    exact, lost = checks["sync of vllm-a"], checks["sync of sglang-b"]
    assert (exact.status, lost.status) == ("ok", "warn")
    assert exact.detail.startswith("exact, last event 0")
    assert exact.detail.endswith(" s ago, vllm 0.32.0")
    assert lost.detail.startswith("approximate")
    assert lost.fix


def test_a_token_that_fits(monkeypatch):
    monkeypatch.setenv("CONTEXTPILOT_INDEX_TOKEN", "hunter2")
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", pilot.index_url)
        assert statuses(check_index())["request ids"] == "ok"


@pytest.mark.parametrize(("token", "words"), [("wrong", "different"), ("", "requires a token")])
def test_a_token_that_does_not_fit(monkeypatch, run, token, words):
    monkeypatch.setenv("CONTEXTPILOT_INDEX_TOKEN", "hunter2")
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", pilot.index_url)
        monkeypatch.setenv("CONTEXTPILOT_INDEX_TOKEN", token)
        checks = found(check_index())
        assert (checks["index"].status, checks["request ids"].status) == ("ok", "fail")
        assert words in checks["request ids"].detail
        assert "CONTEXTPILOT_INDEX_TOKEN" in checks["request ids"].fix


def test_the_server_and_its_engines(monkeypatch):
    engine = {"/health": (200, {}), "/v1/models": (200, {"data": []})}
    with scripted(engine) as up, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{taken.getsockname()[1]}"
        settings = Settings(port=0, kind="other", engine=(up.url, down), index_token="hunter2")
        with serving(settings) as url:
            monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", url)
            monkeypatch.setenv("CONTEXTPILOT_INDEX_TOKEN", "hunter2")
            deadline = time.monotonic() + 20
            while [each.get("up") for each in Place.at(url).ask("/health").content["engines"]] != [
                True,
                False,
            ]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            checks = found(check_index())
            stats = Place.at(url, "hunter2").ask(f"/stats?namespace={NAMESPACE}")
    assert checks["index"].status == "ok"
    assert checks[f"engine {up.url}"].detail.startswith("sync off")
    assert checks[f"engine {down}"].detail == "does not answer the index server"
    assert checks["request ids"].status == "ok"
    assert stats.content.get("requests", 0) == 0, "the probe was forgotten"


def test_nobody_listens(monkeypatch, run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://me:hunter2@127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", url)
        [check] = check_index()
    assert check.status == "fail"
    assert "does not answer" in check.detail
    assert "hunter2" not in str(check)
    assert "contextpilot serve" in check.fix


def test_an_index_at_its_usual_port_is_pointed_to(monkeypatch, index):
    monkeypatch.setattr(Settings, "port", Place.at(index.index_url).address.port)
    monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", "http://127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        [check] = check_index()
    assert check.fix.endswith(f"export CONTEXTPILOT_INDEX_URL={index.index_url}")


def test_a_listener_that_never_answers(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", f"http://127.0.0.1:{port}")
        [check] = check_index()
    assert (check.status, "no answer within 2 s" in check.detail) == ("fail", True)


@pytest.mark.parametrize(
    "reply", [(200, b""), (200, {"status": "ok"}), (200, [1]), (404, {}), (500, b"\xff")]
)
def test_somebody_else_listens(monkeypatch, reply):
    with scripted({"/health": reply}) as engine:
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", engine.url)
        [check] = check_index()
    assert check.status == "fail"
    assert f"answers {reply[0]}, but not as an index would" in check.detail
    assert "not at an engine" in check.fix


def test_an_index_is_not_below_v1(monkeypatch):
    with scripted({"/v1/health": (200, {"status": "ok"})}) as server:
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", server.url + "/v1/")
        [check] = check_index()
    assert (check.status, check.fix.partition(":")[0]) == (
        "fail",
        "leave /v1 out of CONTEXTPILOT_INDEX_URL",
    )


def test_a_health_that_asks_for_a_token(monkeypatch):
    with scripted({"/health": (401, {})}) as server:
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", server.url)
        [check] = check_index()
    assert (check.status, "(401)" in check.detail) == ("fail", True)


def test_a_server_whose_engines_are_down(monkeypatch):
    engines = [{"url": f"http://{up}", "up": up, "sync": "off"} for up in (False, None)]
    with scripted({"/health": (503, {"engines": engines, "sync": {}})}) as server:
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", server.url)
        checks = found(check_index())
    assert checks["index"].status == "warn"
    assert "none of its engines is up" in checks["index"].detail
    assert "does not answer" in checks["engine http://False"].detail
    assert "has not asked it yet" in checks["engine http://None"].detail


HEALTHY = {"/health": (200, {"engines": {}})}
EVICTS = {"/evict": (200, {"status": "ok", "known": 0})}
PLANS = {
    "/plan": lambda job: (
        200,
        {
            "plans": [
                [0, [0, 1], 0, dict.fromkeys(_EXPLAINED, 0) | {"request_id": "cp-1", "reason": ""}]
            ]
        },
    )
}
_EXPLAINED = [name for name in Explanation.__dataclass_fields__ if name != "first_miss"]


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ({}, "POST /evict answered 404"),
        ({"/evict": (500, b"oops")}, "POST /evict answered 500"),
        (EVICTS, "the index does not plan"),
        (EVICTS | {"/plan": (200, {"plans": []})}, "does not give one plan for each context"),
        (EVICTS | {"/plan": (200, b"garbage")}, "the index does not plan"),
        (EVICTS | PLANS, "the index planned cp-1, but no longer knows it"),
    ],
)
def test_an_index_that_breaks_the_way_of_the_request_id(monkeypatch, caplog, script, complaint):
    with scripted(HEALTHY | script) as server:
        monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", server.url)
        check = found(check_index())["request ids"]
    assert check.status == "fail"
    assert complaint in check.detail
    assert check.fix
    assert caplog.records == []
    assert logging.getLogger("contextpilot.remote").propagate


# -- engines that hide cached tokens ---------------------------------------------------------------


def engine(owner, usage, **more):
    return {
        "/v1/models": (200, {"data": [{"id": "tiny", "owned_by": owner}]}),
        "/v1/completions": (200, {"usage": usage, **more}),
    }


HIDDEN = {"prompt_tokens": 300, "prompt_tokens_details": None}
TOLD = {"prompt_tokens": 300, "prompt_tokens_details": {"cached_tokens": 288}}
COLD = {"prompt_tokens": 300, "prompt_tokens_details": {"cached_tokens": 0}}


@pytest.mark.parametrize(
    ("script", "status", "detail", "fix"),
    [
        (engine("vllm", TOLD), "ok", "288 of 300 prompt tokens cached", ""),
        (engine("vllm", HIDDEN), "warn", "does not report", "--enable-prompt-tokens-details"),
        (engine("sglang", {"prompt_tokens": 9}), "warn", "not report", "--enable-cache-report"),
        (engine("somebody", HIDDEN), "warn", "not report", "vLLM: launch with --enable-prompt"),
        (engine("llamacpp", {"prompt_tokens": 300}, timings={"cache_n": 299}), "ok", "299", ""),
        (engine("sglang", COLD), "warn", "0 of 300", "--disable-radix-cache"),
        (engine("vllm", None), "warn", "without usage", "log"),
        (engine("vllm", TOLD) | {"/v1/completions": (500, b"")}, "warn", "answers 500", "log"),
        ({"/v1/models": (401, {})}, "warn", "API key", "cached_tokens"),
        ({}, "fail", "/v1/models answers 404", "before /v1"),
        ({"/v1/models": (200, {"data": []})}, "fail", "names no model", ""),
        ({"/v1/models": (503, {})}, "fail", "still loading", "later"),
        ({"/health": (503, {"engines": []})}, "fail", "is contextpilot serve", "itself"),
        ({"/v1/models": (200, {"data": "x"})}, "fail", "names no model", ""),
    ],
)
def test_an_engine_is_asked_twice(script, status, detail, fix):
    with scripted(script) as server:
        [check] = check_cached_tokens([server.url])
        asked = [body for path, body in server.seen if path == "/v1/completions"]
    assert (check.name, check.status) == (f"engine {server.url}", status)
    assert detail in check.detail
    assert fix in check.fix
    if asked:
        first, second = asked
        assert first == second
        assert first["max_tokens"] == 1


def test_an_engine_that_is_not_there_and_one_that_is_no_address():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        down, wrong = check_cached_tokens([f"http://127.0.0.1:{taken.getsockname()[1]}", "here"])
    assert (down.status, wrong.status) == ("fail", "fail")
    assert "does not answer" in down.detail
    assert "--engine is not an http(s) address" in wrong.detail


def test_an_engine_at_a_usual_port_is_pointed_to(monkeypatch):
    with scripted(engine("vllm", TOLD)) as server, socket.socket() as taken:
        monkeypatch.setattr(Vllm, "usual_port", server.server_port)
        taken.bind(("127.0.0.1", 0))
        [check] = check_cached_tokens([f"http://127.0.0.1:{taken.getsockname()[1]}"])
    assert check.fix == f"an engine answers at {server.url}: doctor --engine {server.url}"


def test_engines_are_named_but_not_asked_unless_told(monkeypatch):
    assert list(check_cached_tokens([])) == []
    monkeypatch.setenv("CONTEXTPILOT_ENGINE", "http://a:1,http://b:2")
    [check] = check_cached_tokens([])
    assert check.status == "absent"
    assert "doctor --engine http://a:1" in check.detail
    assert "--enable-cache-report" in check.fix


def test_the_command_asks_the_engine_it_is_given(run):
    with scripted(engine("vllm", HIDDEN)) as server:
        shown = run("doctor", "--engine", server.url)
    out = " ".join(shown.out.split())
    assert f"warn engine {server.url} does not report" in out
    assert "fix: launch it with --enable-prompt-tokens-details" in out
    assert shown.status == 0
