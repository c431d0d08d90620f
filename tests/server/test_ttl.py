"""Sync by age: what lives on, what goes with time, and what goes when there are too many paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import Client, Scripted, Seen, send_json, wait_until

from contextpilot.index import ContextIndex
from contextpilot.namespace import Namespaces
from contextpilot.server.pool import member
from contextpilot.server.pool import sync_by_age as ttl
from contextpilot.server.pool.sync_by_age import DEFAULT_TTL_S, SyncByAge

Start = Callable[..., Client]


class Aged:
    """One upstream on a clock of our own."""

    def __init__(self, max_places: int = 1_000_000, max_blocks: int = 1_000_000) -> None:
        self.now = 0.0
        self.namespaces = Namespaces(max_blocks, 10, 10)
        self.sync = SyncByAge(self.namespaces, lambda: self.now, max_places)

    @property
    def index(self) -> ContextIndex:
        return self.namespaces.get("n").planner.index

    def send(self, keys: Iterable[Any], life_s: float = 0.0) -> None:
        path = list(keys)
        self.index.insert(path)
        self.sync.note("n", path, life_s)


def test_paths_go_when_they_were_not_used() -> None:
    upstream = Aged()
    upstream.send("abcd")
    upstream.now = 200
    upstream.send("abx")
    upstream.now = DEFAULT_TTL_S + 1
    assert upstream.sync.expire() == 2
    assert upstream.index.match(list("abcd")) == 2
    assert upstream.index.match(list("abx")) == 3
    upstream.now = 200 + DEFAULT_TTL_S + 1
    upstream.sync.expire()
    assert upstream.index.match(list("abx")) == 0
    assert len(upstream.sync) == 0


def test_time_to_live_is_learnt_from_cached_tokens() -> None:
    sync = Aged().sync
    sync.learn(5000, 5000, 100)
    assert sync.ttl_s == DEFAULT_TTL_S
    sync.learn(0, 5000, 0)
    assert sync.ttl_s > DEFAULT_TTL_S
    for _ in range(20):
        sync.learn(5000, 0, 60)
    assert 60 <= sync.ttl_s < 70
    sync.learn(500, 0, 1)
    assert sync.ttl_s >= 60


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.text("abc", max_size=4), st.sampled_from([0.0, 900.0])),
        max_size=40,
    ),
    st.integers(1, 12),
)
@settings(max_examples=300)
def test_index_and_places_are_the_recent_paths(
    sends: list[tuple[int, str, float]], max_places: int
) -> None:
    """An oracle: each place's last use by itself; the index holds exactly what is left of them."""
    upstream = Aged(max_places)
    used: dict[str, float] = {}
    lives: dict[str, float] = {}
    for pause, path, life in sends:
        upstream.now += pause * 10
        while upstream.sync.expire():
            pass
        used = {p: at for p, at in used.items() if upstream.now - at <= lives[p]}
        upstream.send(path, life)
        for place in (path[: n + 1] for n in range(len(path))):
            longest = max(life or DEFAULT_TTL_S, lives[place] if place in used else 0.0)
            used[place], lives[place] = upstream.now, longest
        held = {p for p in used if upstream.index.match(list(p)) == len(p)}
        assert len(upstream.sync) == len(held) == upstream.index.stats().num_blocks
        assert len(held) == min(len(used), max_places) or len(used) > max_places >= len(held)
        if len(path) <= max_places:
            assert upstream.index.match(list(path)) == len(path)
        gone = [at for p, at in used.items() if p not in held]
        assert all(at <= used[p] for at in gone for p in held)
        used = {p: used[p] for p in held}


@pytest.mark.slow
@given(st.lists(st.tuples(st.text("abc", max_size=4), st.integers(-1, 3)), max_size=40))
@settings(max_examples=300)
def test_what_is_taken_back_is_not_believed(steps: list[tuple[str, int]]) -> None:
    """Each step sends a path, or takes back what stands behind so many of its keys."""
    upstream, held = Aged(), set[str]()
    for path, keep in steps:
        if keep < 0:
            upstream.send(path)
            held |= {path[: n + 1] for n in range(len(path))}
        elif path[: keep + 1] in held and keep < len(path):
            upstream.sync.take_back("n", list(path), keep)
            held = {p for p in held if not p.startswith(path[: keep + 1])}
        for one in held | {path}:
            believed = upstream.sync.known("n", list(one)).keys
            assert believed == upstream.index.match(list(one))
            assert believed == len(one) or one not in held
    upstream.now = DEFAULT_TTL_S + 1
    while upstream.sync.expire():
        pass
    assert len(upstream.sync) == upstream.index.stats().num_blocks == 0


@pytest.mark.parametrize("life", [0.0, 3600.0, 86_400.0])
def test_what_is_learnt_stays_within_its_bounds(life: float) -> None:
    upstream = Aged()
    upstream.send("ab", life)
    for _ in range(40):
        upstream.sync.learn(0, 5000, 0, life)
    assert upstream.sync.ttl_s == ttl.MAX_TTL_S
    for _ in range(40):
        upstream.sync.learn(5000, 0, 0, life)
    assert upstream.sync.ttl_s == ttl.MIN_TTL_S


def test_no_slice_is_long_with_several_lives() -> None:
    upstream = Aged()
    for number in range(3000):
        upstream.send([number, -number], 900.0 if number % 2 else 0.0)
    upstream.now = 1000
    slices = []
    while gone := upstream.sync.expire():
        slices.append(gone)
    assert sum(slices) == 6000
    assert max(slices) < 2000
    assert upstream.index.stats().num_blocks == 0


def test_a_longer_life_is_not_cut_by_who_asks_for_less() -> None:
    upstream = Aged()
    upstream.send("abc", 3600.0)
    upstream.now = 100
    upstream.send("abx")
    assert upstream.sync.known("n", "ab").life_s == 3600
    upstream.now = 1000
    upstream.sync.expire()
    assert upstream.index.match(list("abx")) == 2
    assert upstream.index.match(list("abc")) == 3
    upstream.sync.learn(0, 5000, 0, 3600.0)
    upstream.now = 4000
    upstream.sync.expire()
    assert upstream.index.match(list("abc")) == 3, "hours were learnt, minutes were not"
    upstream.now = 100 + 1.5 * 3600 + 1
    upstream.sync.expire()
    assert len(upstream.sync) == 0


@pytest.mark.slow
def test_beyond_the_bound_only_what_no_other_path_shares_goes() -> None:
    """One system prompt before 150,000 contexts, half of them behind a second shared block."""
    upstream = Aged(max_places=100_000, max_blocks=10_000_000)
    paths = [["system", "guide", n, -n] if n % 2 else ["system", n, -n] for n in range(1, 150_000)]
    for path in paths:
        upstream.now += 0.001
        upstream.send(path)
    assert len(upstream.sync) <= 100_000
    assert upstream.index.stats().num_blocks == len(upstream.sync)
    assert upstream.index.match(paths[0]) == 2  # the shared head, not the tail
    assert upstream.index.match(paths[1]) == 1
    assert all(upstream.index.match(path) == len(path) for path in paths[-49_000:])
    upstream.now += DEFAULT_TTL_S + 1
    held = upstream.index.stats().num_blocks
    slices = []
    while gone := upstream.sync.expire():
        slices.append(gone)
    assert sum(slices) == held
    assert max(slices) < 2000
    assert upstream.index.stats().num_blocks == 0
    assert len(upstream.sync) == 0


def test_a_path_longer_than_the_bound_keeps_the_bound() -> None:
    upstream = Aged(max_places=10)
    upstream.send(range(30))
    assert upstream.index.match(range(30)) == len(upstream.sync) <= 10


def test_a_head_that_is_live_is_no_news_of_a_longer_life(upstream: Scripted, start: Start) -> None:
    """A long system prompt before ever new blocks hits each time: that is what was expected."""

    async def answer(seen: Seen, send: Any) -> None:
        cached = 0 if len(upstream.seen) == 1 else 2000
        details = {"prompt_tokens_details": {"cached_tokens": cached}}
        await send_json(send, {"usage": {"prompt_tokens": 2100, **details}})

    upstream.answer = answer
    client = start(engine=(upstream.url,), kind="openai")
    for number in range(4):
        messages = [
            {"role": "system", "content": "Be brief, please. " * 450},
            {"role": "user", "content": "Why?"},
        ]
        blocks = [f"Document {number} {name}: " + "facts " * 30 for name in "ab"]
        client.post(
            "/v1/chat/completions", {"messages": messages, "contextpilot": {"contexts": blocks}}
        )
        (engine,) = client.get("/health").json()["engines"]
        assert engine["ttl_s"] == DEFAULT_TTL_S


@pytest.mark.parametrize("status", [200, 429])
def test_a_refused_request_prolongs_nothing(
    upstream: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    now = [0.0]
    monkeypatch.setattr(member, "SyncByAge", lambda spaces: ttl.SyncByAge(spaces, lambda: now[0]))
    client = start(engine=(upstream.url,), kind="openai")
    blocks = [f"Document {name}: " + "facts " * 30 for name in "ab"]
    body = {"messages": [{"role": "user", "content": "q"}], "contextpilot": {"contexts": blocks}}

    def live() -> Any:
        return client.post("/v1/chat/completions", body).result["live_blocks"]

    assert live() == 0
    now[0] = 200

    async def answer(seen: Seen, send: Any) -> None:
        await send_json(send, {}, status)

    upstream.answer = answer
    assert live() == 2
    now[0] = 400
    assert live() == (2 if status == 200 else 0)


def test_what_was_only_planned_for_a_cloud_ages_too(
    upstream: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index API plans, and its caller sends the prompt."""
    now = [0.0]
    monkeypatch.setattr(member, "SyncByAge", lambda spaces: ttl.SyncByAge(spaces, lambda: now[0]))
    client = start(engine=(upstream.url,), kind="anthropic")
    blocks = [f"Document {name}: " + "facts " * 30 for name in "ab"]
    body = {"contexts": blocks, "query": "q"}

    def live() -> Any:
        reply = client.post("/optimize", body)
        assert reply.status == 200, reply.body
        return client.get("/explain/" + reply.json()["request_id"]).json()["matched_blocks"]

    assert live() == 0
    now[0] = 200
    assert live() == 2
    now[0] = 200 + DEFAULT_TTL_S + 1
    assert live() == 0


def test_what_is_due_goes_without_any_request(
    upstream: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ttl, "DEFAULT_TTL_S", 0.2)
    client = start(engine=(upstream.url,), kind="openai")
    contexts = [f"Document {name}: " + "facts " * 30 for name in "ab"]
    body = {"messages": [{"role": "user", "content": "q"}], "contextpilot": {"contexts": contexts}}
    client.post("/v1/chat/completions", body)
    wait_until(lambda: client.get("/stats").json()["num_blocks"] == 0)


def test_what_comes_again_while_its_old_tails_are_still_due_stays() -> None:
    upstream = Aged()
    for number in range(3000):
        upstream.send(["system", number])
    upstream.now = DEFAULT_TTL_S + 1
    upstream.sync.expire()  # one slice: the system prompt goes with the first tail
    assert upstream.index.match(["system"]) == 0
    upstream.send(["system", "new"])
    while upstream.sync.expire():
        pass
    assert upstream.index.match(["system", "new"]) == 2
    assert len(upstream.sync) == upstream.index.stats().num_blocks == 2


def test_the_index_of_a_namespace_that_is_gone_is_not_made_anew() -> None:
    upstream = Aged()
    upstream.send("ab")
    upstream.namespaces.reset("n")
    upstream.now = DEFAULT_TTL_S + 1
    assert upstream.sync.expire() == 2
    assert upstream.namespaces.find("n") is None
