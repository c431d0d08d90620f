"""The whole command against a small engine whose every hit can be checked."""

from __future__ import annotations

import csv
import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from prefix_engine import PrefixEngine, running
from runner import Runner

from contextpilot.bench import events
from contextpilot.engines.registry import kind_named

ALL = "plain,random,sorted,dedup,deduplicated,reordered,online,batch"


def by_mode(report: Any) -> dict[str, Any]:
    return {each["mode"]: each for each in report["modes"]}


def bench(run: Runner, engine: PrefixEngine, workload: Path, *more: object) -> Any:
    """Run the command; return its JSON."""
    shown = run("bench", "--engine", engine.url, "--workload", workload, "--json", *more)
    assert shown.status == 0, shown.err
    return shown.json()


def salt_of(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"]).partition("]")[0]


def replayed(engine: PrefixEngine, bodies: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Run the prompts of one arm through an empty engine of the same kind, on its own."""
    alone = PrefixEngine(block_size=engine.block_size, capacity=engine.capacity)
    return [alone.run(body["messages"]) for body in bodies]


@pytest.mark.parametrize("order", ["interleaved", "sequential"])
def test_each_arm_is_as_in_an_empty_cache_of_its_own(
    run: Runner, workload: Path, order: str
) -> None:
    with running(PrefixEngine()) as engine:
        report = bench(run, engine, workload, "--modes", ALL, "--order", order,
                       "--repetitions", 2, "--slice", 3)  # fmt: skip
    modes = by_mode(report)
    runs: dict[str, list[dict[str, Any]]] = {}
    for body in engine.seen:
        runs.setdefault(salt_of(body), []).append(body)
    whole = [bodies for bodies in runs.values() if len(bodies) == 20]
    assert len(whole) == 2 * len(modes)
    counted = sorted(tuple(map(sum, zip(*replayed(engine, b), strict=True))) for b in whole)
    reported = [(m["prompt_tokens"], m["cached_tokens"]) for m in modes.values()]
    assert counted == sorted(2 * reported)
    for mode in modes.values():
        first, second = mode["hit_ratio_by_repetition"]
        assert first == second == mode["hit_ratio"]


def test_planning_raises_hits_and_the_simulation_is_close(run: Runner, workload: Path) -> None:
    with running(PrefixEngine(block_size=1)) as engine:
        modes = by_mode(
            bench(run, engine, workload, "--modes", ALL, "--repetitions", 1,
                  "--displacement-cost", 0)
        )  # fmt: skip
    assert modes["batch"]["hit_ratio"] > modes["online"]["hit_ratio"] > modes["plain"]["hit_ratio"]
    for mode in modes.values():
        # the label of a block that differs hits as well, and its first word, which all share
        per_request = (mode["hit_ratio"] - mode["expected_hit_ratio"]) * mode["prompt_tokens"] / 20
        assert -0.05 <= per_request <= 2.05
    plain = modes["plain"]
    for mode in modes.values():
        limit = (1 - plain["hit_ratio"]) / (1 - mode["hit_ratio"])
        assert mode["throughput_limit"] == pytest.approx(limit)
        computed = mode["prompt_tokens"] - mode["cached_tokens"]
        assert mode["computed_tokens"] == computed
    assert plain["speedup"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_the_proxy_is_put_before_the_engine_and_hits_as_planned(
    run: Runner, workload: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    with running(PrefixEngine(index_url=f"http://{place}")) as engine:
        names = "plain,online,proxy,synced"
        report = bench(run, engine, workload, "--modes", names, "--repetitions", 1,
                       "--listen", place)  # fmt: skip
    modes = by_mode(report)
    assert modes["proxy"]["cached_tokens"] == modes["online"]["cached_tokens"]
    assert modes["synced"]["cached_tokens"] == modes["online"]["cached_tokens"]
    assert modes["proxy"]["cached_tokens"] > modes["plain"]["cached_tokens"]


@pytest.mark.parametrize("reports", ["nowhere", "other ids"])
def test_synced_is_refused_before_measuring_when_nothing_is_told_of_its_requests(
    run: Runner, workload: Path, monkeypatch: pytest.MonkeyPatch, reports: str
) -> None:
    monkeypatch.setattr(events, "_WAIT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    url = "" if reports == "nowhere" else f"http://{place}"
    with running(PrefixEngine(index_url=url, knows_ids=False)) as engine:
        told = run.refused("bench", "--engine", engine.url, "--workload", workload,
                           "--modes", "plain,synced", "--listen", place)  # fmt: skip
        assert len(engine.seen) == 3
    if reports == "nowhere":
        assert f"CONTEXTPILOT_INDEX_URL=http://{place}" in told
        assert f"--listen {place}" in told
    else:
        assert "not under the ids that requests are sent with" in told


def test_a_cache_that_cannot_hold_all_arms_is_given_to_one_after_another(
    run: Runner, workload: Path
) -> None:
    with running(PrefixEngine(capacity=120)) as engine:
        report = bench(run, engine, workload, "--modes", "plain,batch", "--repetitions", 2)
    assert report["order"] == "sequential"
    assert "overflow the cache of 480 tokens" in report["isolation"]
    assert engine.resets == 4
    salts = [salt_of(body) for body in engine.seen if "[" in salt_of(body)]
    turns = [salt for i, salt in enumerate(salts) if i == 0 or salts[i - 1] != salt]
    assert len(turns) == len(set(turns))
    ratios = by_mode(report)["batch"]["hit_ratio_by_repetition"]
    assert ratios[0] == ratios[1] > 0


def test_without_a_reset_the_salt_isolates_and_the_report_says_so(
    run: Runner, workload: Path
) -> None:
    with running(PrefixEngine(can_reset=False)) as engine:
        report = bench(run, engine, workload, "--modes", "plain,online", "--repetitions", 2)
        reset = bench(run, engine, workload, "--modes", "plain,online", "--repetitions", 2)
    assert "could not be emptied (that needs VLLM_SERVER_DEV_MODE=1" in report["isolation"]
    assert by_mode(report)["online"]["cached_tokens"] == by_mode(reset)["online"]["cached_tokens"]


def test_cache_figures_that_the_engine_does_not_measure_are_refused(
    run: Runner, workload: Path
) -> None:
    with running(PrefixEngine(reports=False)) as engine:
        told = run.refused("bench", "--engine", engine.url, "--workload", workload)
        assert f"launch it with {kind_named('vllm').report_flag}" in told
        assert len(engine.seen) == 2
        shown = run("bench", "--engine", engine.url, "--workload", workload, "--times-only",
                    "--modes", "plain,online", "--repetitions", 1)  # fmt: skip
    assert shown.status == 0, shown.err
    assert "not measured (--times-only)" in shown.out
    assert "hit ratio" not in shown.out


def test_a_prefix_cache_that_is_off_is_told_apart(run: Runner, workload: Path) -> None:
    with running(PrefixEngine(caches=False)) as engine:
        told = run.refused("bench", "--engine", engine.url, "--workload", workload)
    assert "does not report cached tokens" in told  # vLLM leaves a zero out, too


def test_requests_that_fail_somewhere_count_nowhere(run: Runner, workload: Path) -> None:
    def refuses(messages: list[dict[str, Any]]) -> str | None:
        text = messages[-1]["content"]
        is_long = "most to least" in text and text.endswith("question 19?")
        return "maximum context length exceeded" if is_long else None

    with running(PrefixEngine(refuses=refuses)) as engine:
        shown = run("bench", "--engine", engine.url, "--workload", workload,
                    "--modes", "plain,online", "--repetitions", 1,
                    "--displacement-cost", 0)  # fmt: skip
    assert shown.status == 0, shown.err
    assert "19 requests, prefix cache" in shown.out
    assert "1 request failed" in shown.out
    assert "the first: online: 400: maximum context length exceeded" in " ".join(shown.out.split())


def test_files_are_written_and_agree(run: Runner, workload: Path, tmp_path: Path) -> None:
    with running(PrefixEngine()) as engine:
        shown = run("bench", "--engine", engine.url + "/v1/", "--workload", workload,
                    "--modes", "plain,online", "--repetitions", 2, "--concurrency", 3,
                    "--out", tmp_path / "out")  # fmt: skip
    assert shown.status == 0, shown.err
    folder = tmp_path / "out"
    report = json.loads((folder / "bench.json").read_text())
    with (folder / "bench.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 20
    for mode in report["modes"]:
        own = [row for row in rows if row["mode"] == mode["mode"]]
        assert sum(int(row["cached_tokens"]) for row in own) == 2 * mode["cached_tokens"]
        assert all(0 < float(row["ttft_s"]) <= float(row["total_s"]) for row in own)
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "bench.svg").read_text()
    assert "bench.json, bench.csv, bench.png, bench.svg" in shown.out
    assert "Passage" not in (folder / "bench.json").read_text()


def test_without_matplotlib_the_figures_are_written_all_the_same(
    run: Runner, workload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with running(PrefixEngine()) as engine:
        shown = run("bench", "--engine", engine.url, "--workload", workload,
                    "--modes", "plain", "--repetitions", 1, "--out", tmp_path)  # fmt: skip
    assert shown.status == 0, shown.err
    assert "no plots: matplotlib is not installed (pip install matplotlib)" in shown.out
    assert (tmp_path / "bench.csv").exists()
    assert not (tmp_path / "bench.png").exists()


def test_what_cannot_be_run_is_refused_with_the_fix(run: Runner, workload: Path) -> None:
    def told(*more: object) -> str:
        return run.refused("bench", "--workload", workload, *more)

    assert "is not an http(s) address" in told("--engine", "127.0.0.1:8000")
    assert "does not answer" in told("--engine", "http://127.0.0.1:9", "--wait", 0)
    with running(PrefixEngine()) as engine:
        assert "the modes are plain, random" in told("--engine", engine.url, "--modes", "fast")
        listen = told("--engine", engine.url, "--modes", "synced", "--listen", "8765")
        assert "write host:port" in listen
    assert "--requests" in run.refused("bench", "--engine", "http://h", "--workload", workload,
                                       "--requests", "0", status=2)  # fmt: skip


def test_an_engine_that_is_still_loading_is_waited_for_within_a_bound(
    run: Runner, workload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextpilot.bench.readiness._ASK_EVERY_S", 0.01)
    engine = PrefixEngine()
    engine.loading = 3
    with running(engine):
        shown = run("bench", "--engine", engine.url, "--workload", workload, "--modes", "plain",
                    "--repetitions", 1)  # fmt: skip
    assert shown.status == 0, shown.err
    assert engine.loading == 0
    assert shown.err.count("is still loading: waiting for it, 0 of at most 300 s (--wait)") == 1
    told = run.refused("bench", "--engine", "http://127.0.0.1:9", "--workload", workload,
                       "--wait", 1)  # fmt: skip
    assert "does not answer yet (connection refused): waiting for it, 0 of at most 1 s" in told
    assert told.rstrip().endswith("cannot be reached: connection refused")


@pytest.mark.parametrize("columns", [60, 200])
def test_the_report_fits_the_terminal(
    run: Runner, workload: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with running(PrefixEngine()) as engine:
        shown = run("bench", "--engine", engine.url, "--workload", workload, "--answers",
                    "--modes", "plain,online", "--repetitions", 1)  # fmt: skip
    assert shown.status == 0, shown.err
    assert max(map(len, shown.out.splitlines())) <= columns
    tables = shown.out.count("\n  online")
    assert tables > 4 if columns == 60 else tables == 4


@pytest.mark.parametrize(
    ("block", "place"),
    [('{"id": "a"}', "request 1: block a is an id"), ("7", "request 1: block 7 is an id")],
)
def test_blocks_without_a_text_are_refused(
    run: Runner, tmp_path: Path, block: str, place: str
) -> None:
    path = tmp_path / "ids.jsonl"
    path.write_text(f'{{"query": "q", "contexts": [{block}]}}\n')
    told = run.refused("bench", "--engine", "http://127.0.0.1:9", "--workload", path)
    assert place in told
