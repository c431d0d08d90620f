"""The scripts around the command: a workload without overlap, and the page of results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from prefix_engine import PrefixEngine, running
from runner import Runner

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
sys.path.insert(0, str(SCRIPTS / "engines"))

import bench_engines  # noqa: E402
from bench_costs import Times, fit  # noqa: E402
from bench_figures import AGAIN  # noqa: E402
from bench_page import render_page  # noqa: E402

from contextpilot.commands.workload import read_workload  # noqa: E402
from contextpilot.plan.replay import hit_bound  # noqa: E402

pytestmark = pytest.mark.slow


def test_the_made_workload_has_no_overlap_and_is_the_same_each_time(tmp_path: Path) -> None:
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path in paths:
        bench_engines.make_no_overlap(path, num_requests=10)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    contexts = read_workload(str(paths[0])).contexts
    assert [len(context) for context in contexts] == [20] * 10
    assert hit_bound(contexts).hits == 0


def test_caps_hold_for_one_workload_or_all_others() -> None:
    case = bench_engines.Case("vllm", "large", "", repetitions=3)
    options = bench_engines.Options(2, {"": 40, "nq": 60})
    assert options.of(case, "nq") == ["--repetitions", "2", "--requests", "60"]
    assert options.of(case, "mtrag") == ["--repetitions", "2", "--requests", "40"]
    assert bench_engines.Options(None, {}).of(case, "nq") == ["--repetitions", "3"]


def test_every_launch_has_a_name_of_its_own() -> None:
    names = [case.name for case in bench_engines.cases(None)]
    assert len(set(names)) == len(names)
    assert {"vllm-large", "vllm-small", "sglang-large-lpm", "llamacpp-large-again"} <= {*names}


def measured(run: Runner, workload: Path, folder: Path, variant: str, repetitions: int) -> Path:
    """Measure as bench_engines does; return the folder of the figures."""
    name = "vllm-large" + (f"-{variant}" if variant else "")
    target = folder / "results" / name / "locomo0-top100"
    named = workload.rename(workload.with_name("locomo0-top100.jsonl"))
    target.mkdir(parents=True)
    with running(PrefixEngine()) as engine:
        command = ["bench", "--engine", engine.url, "--workload", named, "--out", target]
        command += ["--repetitions", repetitions, "--modes", "plain,online,batch,proxy"]
        shown = run(*command)
    assert shown.status == 0, shown.err
    case = {"case": name, "engine": "vllm", "cache": "large", "variant": variant, "flags": "",
            "command": "contextpilot bench", "machine": "here", "model": "words",
            "seconds": 1}  # fmt: skip
    (target / "case.json").write_text(json.dumps(case))
    return target


def test_the_page_holds_the_figures_and_no_text_of_the_workload(
    run: Runner, workload: Path, tmp_path: Path
) -> None:
    target = measured(run, workload, tmp_path, "", 1)
    page = tmp_path / "benchmarks.md"
    render_page(tmp_path / "results", page)
    text = page.read_text()
    modes = json.loads((target / "bench.json").read_text())["modes"]
    hits = " / ".join(f"{100 * mode['hit_ratio']:.1f}" for mode in modes)
    assert f"| vLLM | large | `locomo0-top100` | 20 | {hits} |" in text
    assert all(f"| {mode['computed_tokens']:,.0f} |" in text for mode in modes)
    assert "Passage" not in text
    assert "answer" not in text.partition("## What a random model")[0]
    assert (tmp_path / "benchmarks-overview.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "benchmarks-overview.svg").read_text()


def test_the_page_shows_each_repetition_of_what_was_run_again(
    run: Runner, workload: Path, tmp_path: Path
) -> None:
    target = measured(run, workload, tmp_path, AGAIN, 2)
    render_page(tmp_path / "results", tmp_path / "benchmarks.md")
    section = (tmp_path / "benchmarks.md").read_text().partition("## Repeated runs")[2]
    for mode in json.loads((target / "bench.json").read_text())["modes"]:
        hits = " / ".join(f"{100 * hit:.2f}" for hit in mode["hit_ratio_by_repetition"])
        walls = " / ".join(f"{wall:,.1f}" for wall in mode["wall_s_by_repetition"])
        assert f"| {mode['mode']} | {hits} | {walls} |" in section


def test_costs_are_found_again_in_times_that_were_made_of_them() -> None:
    chance = np.random.default_rng(0)
    prompt = chance.uniform(1000, 8000, 200)
    cached = prompt * chance.uniform(0, 0.9, 200)
    times = Times(prompt, cached, np.zeros(200))
    made = np.array([0.02, 1e-4, 4e-6])
    found, explained = fit([times._replace(seconds=times.work @ made)])
    assert found == pytest.approx(made)
    assert explained == pytest.approx(1)
