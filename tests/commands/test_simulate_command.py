"""`contextpilot simulate`: figures worked out by hand, options, output forms.

A block given by id only weighs 256 tokens, so that hits can be counted in blocks.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from oracles import PathCache

from contextpilot.commands.capacity import resolve
from contextpilot.plan.replay import MODES

BLOCK = 256
THREE = [[1, 2, 3], [3, 2, 1], [1, 2, 4]]
"""As given the third request finds 1 2. In the best order the second finds 1 2 3 as well, and
the spanning forest over the overlaps (3, 2 and 2 blocks) weighs 5 of the 9 blocks."""


def figures(blocks: int, hits: int) -> dict[str, float]:
    return {
        "hit_ratio": round(hits / blocks, 6),
        "hit_tokens": hits * BLOCK,
        "prefill_tokens": (blocks - hits) * BLOCK,
    }


def at(found, capacity: str):
    [row] = [row for row in found["capacities"] if row["capacity"] == capacity]
    return row


def test_hits_by_hand_without_a_bound(run, save):
    found = run("simulate", save(THREE), "--json", "--capacity", "unlimited").json()
    assert found["workload"] == "requests.jsonl"
    assert (found["requests"], found["blocks"], found["tokens"]) == (3, 4, 9 * BLOCK)
    assert found["bound"] == figures(9, 5)
    [row] = found["capacities"]
    assert row["capacity_tokens"] is None
    assert row["plain"] == figures(9, 2)
    assert {mode: row[mode]["hit_tokens"] for mode in MODES if mode != "plain"} == dict.fromkeys(
        ("online", "synced", "window", "batch"), 5 * BLOCK
    )


def test_hits_by_hand_in_a_cache_of_two_blocks(run, save):
    """After each request the cache keeps the first two blocks of it: 1 2, then 3 2, then 1 2.

    Planned with evictions known, every order starts with 1 2, which the later two find.
    """
    found = run("simulate", save(THREE), "--json", "--capacity", 2 * BLOCK).json()
    row = at(found, str(2 * BLOCK))
    assert row["capacity_tokens"] == 2 * BLOCK
    assert row["plain"] == figures(9, 0)
    assert row["synced"] == figures(9, 4)


def test_plain_order_equals_a_cache_that_spells_out_every_path(run, save):
    chance = random.Random(7)
    contexts = [chance.sample(range(12), chance.randint(0, 6)) for _ in range(60)]
    sizes = [0, 3, 8, 20, 10_000]
    found = run(
        "simulate", save(contexts), "--json", "--capacity", *(BLOCK * size for size in sizes)
    ).json()
    weights = dict.fromkeys(range(12), BLOCK)
    for size, row in zip(sizes, found["capacities"], strict=True):
        cache = PathCache(BLOCK * size)
        hits = sum(cache.request(context, weights) for context in contexts)
        assert row["plain"]["hit_tokens"] == hits
        assert row["plain"]["prefill_tokens"] == found["tokens"] - hits
        for mode in MODES:
            assert row[mode]["hit_tokens"] <= found["bound"]["hit_tokens"]


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        ("20000", 20_000),
        ("200k", 200_000),
        ("200K", 200_000),
        ("1.5M", 1_500_000),
        ("0", 0),
        ("5%", 50),
        ("0.05%", 0),
        ("100%", 1000),
        ("29%", 290),
        ("unlimited", None),
    ],
)
def test_forms_of_a_capacity(asked, tokens):
    assert resolve(asked, 1000).tokens == tokens


@pytest.mark.parametrize("asked", ["", "lots", "-1", "5 %%", "1e3", "1.k", "nan", "20G"])
def test_what_is_no_capacity(run, save, asked):
    complaint = run.refused("simulate", save(THREE), f"--capacity={asked}", status=2)
    assert "--capacity" in complaint
    assert "200k, 1.5M, 5%" in complaint


def test_a_file_after_the_capacities_is_told_where_to_go(run, save):
    complaint = run.refused("simulate", "--capacity", "5%", save(THREE), status=2)
    assert "FILE goes before --capacity" in complaint


def test_capacities_are_percent_of_the_workload_and_asked_for_once(run, save):
    found = run("simulate", save(THREE), "--json", "--capacity", "50%", "1k", "50%").json()
    assert [(row["capacity"], row["capacity_tokens"]) for row in found["capacities"]] == [
        ("50%", 9 * BLOCK // 2),
        ("1k", 1000),
    ]


def test_default_capacities(run, save):
    found = run("simulate", save(THREE), "--json").json()
    assert [row["capacity"] for row in found["capacities"]] == ["unlimited", "5%", "1%"]


def test_a_window_of_one_plans_one_at_a_time(run, save):
    contexts = [[1, 2], [3, 4], [2, 5, 1], [4, 6, 3]]
    found = run("simulate", save(contexts), "--json", "--window", 1, "--capacity", 512).json()
    assert found["window"] == 1
    assert found["capacities"][0]["window"] == found["capacities"][0]["synced"]


def test_a_window_joins_what_waits_together(run, save):
    """Room for one request: only those that follow each other at once can share."""
    contexts = [[1, 2], [3, 4]] * 4
    path = save(contexts)
    row = at(run("simulate", path, "--json", "--window", 8, "--capacity", 512).json(), "512")
    assert row["synced"] == figures(16, 0)
    assert row["window"] == figures(16, 12)
    row = at(run("simulate", path, "--json", "--window", 4, "--capacity", 512).json(), "512")
    assert row["window"]["hit_tokens"] >= 8 * BLOCK


def test_pinned_blocks_stay(run, save):
    contexts = [[1, 2, 3], [3, 2, 1], [2, 3, 1]]
    free = run("simulate", save(contexts), "--json", "--capacity", "unlimited").json()
    found = run(
        "simulate", save(contexts), "--json", "--pin-first", 3, "--capacity", "unlimited"
    ).json()
    assert found["pin_first"] == 3
    assert free["capacities"][0]["online"] == figures(9, 6)
    assert found["capacities"][0]["online"] == found["capacities"][0]["plain"] == figures(9, 0)


def test_shifts_are_bounded(run, save):
    """In 4 1 2 3 no block may move: the prefix 1 2 3 of the first stays out of reach."""
    contexts = [[1, 2, 3, 4], [4, 1, 2, 3]]
    path = save(contexts)
    moved = run("simulate", path, "--json", "--max-shift", 3, "--capacity", "unlimited").json()
    assert moved["max_shift"] == 3
    assert moved["capacities"][0]["online"] == figures(8, 4)
    held = run("simulate", path, "--json", "--max-shift", 0, "--capacity", "unlimited").json()
    assert held["capacities"][0]["online"] == figures(8, 0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--window", "0"),
        ("--window", "-3"),
        ("--window", "many"),
        ("--pin-first", "-1"),
        ("--pin-first", "1.5"),
        ("--max-shift", "²"),
        ("--plot", "hits.pdf"),
    ],
)
def test_wrong_usage_names_the_option(run, save, option, value):
    complaint = run.refused("simulate", save(THREE), f"{option}={value}", status=2)
    assert f"argument {option}" in complaint


def test_the_table_says_what_the_json_says(run, save):
    shown = run("simulate", save(THREE), "--capacity", "unlimited", str(2 * BLOCK))
    assert (shown.status, shown.err) == (0, "")
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert lines[0] == "requests.jsonl: 3 requests, 4 different blocks, 2,304 block tokens"
    assert "cache size in tokens unlimited 512" in lines
    assert "as given 22.2 % 0.0 %" in lines
    assert "as given 1,792 2,304" in lines
    assert "no order exceeds 55.6 % 55.6 %" in lines
    assert "no order goes below 1,024 1,024" in lines
    assert "batch, all at once 1,024 1,280" in lines
    assert "Token counts are estimates" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100


def test_words_give_the_savings(run, save):
    out = " ".join(run("simulate", save(THREE), "--capacity", "unlimited").out.split())
    assert "no limit: the engine computes 1,792 tokens for the order as given" in out
    assert "all requests together 42.9 % fewer" in out


def test_requests_without_blocks(run, save):
    found = run("simulate", save([[], []]), "--json").json()
    assert (found["requests"], found["blocks"], found["tokens"]) == (2, 0, 0)
    assert found["bound"]["hit_ratio"] == 0.0
    assert run("simulate", save([[], []])).status == 0


def test_copies_within_a_request_count_once(run, save):
    found = run("simulate", save([[1, 1, 2], [1, 2, 2]]), "--json").json()
    assert found["tokens"] == 4 * BLOCK
    assert found["bound"] == figures(4, 2)


def test_a_plot_is_an_image(run, save, tmp_path):
    pytest.importorskip("matplotlib", reason="pip install matplotlib")
    for name, magic in (("hits.png", b"\x89PNG"), ("hits.SVG", b"<?xml")):
        image = tmp_path / name
        shown = run("simulate", save(THREE), "--plot", image)
        assert shown.status == 0, shown.err
        assert shown.out.rstrip().endswith(f"Figure: {image}")
        assert image.read_bytes().startswith(magic)


def test_without_matplotlib_the_extra_is_named_before_any_work(run, tmp_path, monkeypatch):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    image = tmp_path / "hits.png"
    complaint = run.refused("simulate", tmp_path / "not there.jsonl", "--plot", image)
    assert "--plot needs matplotlib" in complaint
    assert "pip install matplotlib" in complaint
    assert not image.exists()


def test_a_plot_into_no_folder(run, save, tmp_path):
    complaint = run.refused("simulate", save(THREE), "--plot", tmp_path / "none" / "hits.png")
    assert "--plot" in complaint
    assert str(tmp_path / "none") in complaint


def test_the_same_figures_every_time(run, save):
    chance = random.Random(11)
    path = save([[chance.randint(0, 30) for _ in range(8)] for _ in range(80)])
    first = run("simulate", path, "--json").out
    assert run("simulate", path, "--json").out == first
    assert json.loads(first)["requests"] == 80


def test_the_file_that_is_meant(run, save, tmp_path, monkeypatch):
    save(THREE)
    monkeypatch.chdir(tmp_path)
    assert run("simulate", Path("requests.jsonl"), "--json").json()["requests"] == 3


def test_a_hybrid_cache_by_hand(run, save):
    """The third request finds 1 2, which the first two share, and the fourth as well."""
    file = save([[1, 2, 3], [1, 2, 4], [1, 2, 5], [1, 2, 3]])
    options = ("--json", "--capacity", "unlimited")
    full = run("simulate", file, *options).json()
    hybrid = run("simulate", file, *options, "--cache", "hybrid").json()
    assert (full["cache"], hybrid["cache"]) == ("full", "hybrid")
    assert at(full, "unlimited")["plain"] == figures(12, 7)
    assert at(hybrid, "unlimited")["plain"] == figures(12, 4)
    assert at(hybrid, "unlimited")["synced"]["hit_tokens"] >= 4 * BLOCK


def test_the_hybrid_cache_is_explained(run, save):
    assert "hybrid model" in run("simulate", save(THREE), "--cache", "hybrid").out
