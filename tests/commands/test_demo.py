"""`contextpilot demo`: deterministic, consistent with itself, and about real docstrings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from contextpilot.block import BlockReader
from contextpilot.commands import demo
from contextpilot.commands.before_after import half_cached_request, render_request
from contextpilot.commands.bm25 import Bm25Index, words_of
from contextpilot.commands.comparison import compare
from contextpilot.commands.corpus import TOP_K, passages, retrieve
from contextpilot.commands.questions import questions
from contextpilot.plan.replay import MODES

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def texts():
    return passages()


@pytest.fixture(scope="module")
def comparison(texts):
    found = retrieve(texts, questions())
    return compare(BlockReader().read_batch([[texts[i] for i in each] for each in found]))


@pytest.fixture
def known(monkeypatch, texts, comparison):
    """The demo with the costly parts done before."""
    monkeypatch.setattr(demo, "passages", lambda: texts)
    monkeypatch.setattr(demo, "compare", lambda contexts: comparison)


@pytest.fixture(scope="module")
def shown():
    """What a process with a fixed hash seed writes."""
    done = subprocess.run(
        [sys.executable, "-m", "contextpilot", "demo", "--json"],
        capture_output=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONHASHSEED": "1"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_the_same_in_every_process(run, known, shown):
    assert run("demo", "--json").out == shown


def test_figures_fit_together(shown):
    found = json.loads(shown)
    assert found["requests"] == len(questions())
    bound = found["bound"]["hit_tokens"]
    unlimited = found["capacities"][0]
    for row in found["capacities"]:
        for mode in MODES:
            figures = row[mode]
            assert figures["hit_tokens"] + figures["prefill_tokens"] == found["tokens"]
            assert figures["hit_tokens"] <= min(bound, unlimited[mode]["hit_tokens"])
        assert row["plain"]["hit_ratio"] < row["synced"]["hit_ratio"] < row["batch"]["hit_ratio"]


def test_before_and_after_are_the_same_blocks_in_another_order(shown, texts):
    request = json.loads(shown)["request"]
    before, after = request["before"], request["after"]
    order = request["order"]
    assert sorted(order) == list(range(len(order)))
    assert order != sorted(order)
    [context] = retrieve(texts, [request["query"]])
    blocks = [texts[i] for i in context]
    assert before[0] == after[0]
    was, now = before[-1]["content"], after[-1]["content"]
    assert all(was.count(block) == now.count(block) == 1 for block in blocks)
    assert sorted(blocks, key=was.index) == blocks
    assert sorted(blocks, key=now.index) == [blocks[rank] for rank in order]
    assert request["query"] in was
    assert request["query"] in now


def test_the_shown_request_finds_part_of_its_prompt_in_the_cache(shown):
    explained = json.loads(shown)["request"]["explanation"]
    assert 0 < explained["matched_tokens"] < explained["total_tokens"]


def test_text_for_people(run, monkeypatch, known):
    monkeypatch.setenv("COLUMNS", "80")
    result = run("demo", "--details")
    assert (result.status, result.err) == (0, "")
    for heading in ("Hit ratio", "Prefill", "In words", "as given", "as planned", "Why"):
        assert heading in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_one_screen_that_ends_with_time_and_money(run, monkeypatch, known, comparison):
    monkeypatch.setenv("COLUMNS", "60")
    lines = run("demo").out.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 60
    plain, batch = (comparison.totals[mode][0].prefill_tokens for mode in ("plain", "batch"))
    saved = f"{60 * (1 - batch / plain):.0f} minutes and ${100 * (1 - batch / plain):.0f}"
    last = " ".join(" ".join(lines).rpartition("Of every hour")[2].split())
    assert f"{saved} all at once" in last


def test_a_request_is_shown_within_the_width():
    contexts = [["a" * 300, "b"], ["c", "a" * 300, "b"], ["b", "d", "a" * 300]]
    request = half_cached_request(contexts, ["one?", "two?", "three?"])
    for width in (72, 110):
        text = render_request(request, width)
        assert max(map(len, text.splitlines())) <= width
    assert ", cached" in text


def test_a_python_without_sources_is_told(run, monkeypatch):
    monkeypatch.setattr(demo, "passages", list)
    assert "without the sources of its standard library" in run.refused("demo")


def test_bm25_ranks_by_rare_words_and_keeps_ties_in_order():
    index = Bm25Index(["the apple pie", "apple apple tart", "the plum pie", "the plum pie"])
    assert index.search("apple", 4) == [1, 0]
    assert index.search("plum", 1) == [2]
    assert index.search("quince the", 4) == []
    assert words_of("Read a JSON_file the 2nd time") == ["read", "json", "file", "nd", "time"]


def test_every_question_finds_passages(texts):
    assert len(set(texts)) == len(texts) > 500
    found = retrieve(texts, questions())
    assert all(len(set(positions)) == len(positions) > 1 for positions in found)
    full = [positions for positions in found if len(positions) == TOP_K]
    assert len(full) > 0.9 * len(found)
