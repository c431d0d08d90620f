"""`contextpilot demo`: deterministic, consistent with itself, and about real docstrings."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from contextpilot.commands import demo
from contextpilot.commands.before_after import half_cached_request, render_request
from contextpilot.commands.bm25 import Bm25Index, words_of
from contextpilot.commands.corpus import TOP_K, passages, retrieve
from contextpilot.commands.questions import questions
from contextpilot.plan.replay import MODES

CHECKOUT = Path(__file__).resolve().parents[2]


class Shown(NamedTuple):
    """What two processes with different hash seeds wrote."""

    first: bytes
    second: bytes


@pytest.fixture(scope="module")
def shown():
    command = [sys.executable, "-m", "contextpilot", "demo", "--json"]
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd="/",
                    env={**environ, "PYTHONHASHSEED": seed},
                )
            )
            for seed in ("1", "2")
        ]
        written = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert [err for _, err in written] == [b"", b""]
    return Shown(*(out for out, _ in written))


@pytest.fixture(scope="module")
def texts():
    return passages()


def test_the_same_in_every_process(shown):
    assert shown.first == shown.second


def test_figures_fit_together(shown):
    found = json.loads(shown.first)
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
    request = json.loads(shown.first)["request"]
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
    explained = json.loads(shown.first)["request"]["explanation"]
    assert 0 < explained["matched_tokens"] < explained["total_tokens"]


def test_text_for_people(run, monkeypatch, texts):
    monkeypatch.setattr(demo, "passages", lambda: texts)
    monkeypatch.setenv("COLUMNS", "80")
    result = run("demo")
    assert (result.status, result.err) == (0, "")
    for heading in ("Hit ratio", "Prefill", "In words", "as given", "as planned", "Why", "Next:"):
        assert heading in result.out
    assert max(map(len, result.out.splitlines())) <= 100


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
