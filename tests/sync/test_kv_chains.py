"""What is held of requests, by the hashes in KV events: against a plain model of caches."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_publisher import CLEARED, msgspec, removed, stored

from contextpilot.sync.events import Event
from contextpilot.sync.sources.kv_events import wire as wire_module
from contextpilot.sync.sources.kv_events.chains import Chains
from contextpilot.sync.sources.kv_events.wire import (
    Cleared,
    MalformedError,
    Removed,
    Stored,
    decode,
    pack,
)

SIZE = 2


def wire(*events: Any) -> list[Any]:
    return decode(msgspec.msgpack.encode([1.0, list(events), None]))


def apply(chains: Chains, *events: Any, rank: int = 0) -> None:
    for change in wire(*events):
        if isinstance(change, Stored):
            chains.store(rank, change)
        elif isinstance(change, Removed):
            chains.remove(rank, change)
        else:
            chains.clear(rank)


def held(chains: Chains, *tokens: int, **more: Any) -> int:
    chains.follow("probe", pack(tokens), **more)
    return chains.held_tokens("probe") or 0


# -- payloads --------------------------------------------------------------------------------------


def test_lists_and_maps_say_the_same() -> None:
    maps = wire(stored([7, 8], range(8)), removed(7), CLEARED)
    lists = wire(
        ["BlockStored", [7, 8], None, list(range(8)), 4, None],
        ["BlockRemoved", [7]],
        ["AllBlocksCleared"],
    )
    assert maps == lists
    assert maps[2] == Cleared()


def test_what_divides_the_cache_is_told_apart() -> None:
    [salted] = wire(stored([1, 2], range(8), lora_name="l", extra_keys=[["l", "s"], ["l"]]))
    assert (salted.lora, salted.salt, salted.extras) == ("l", "s", ["", ""])
    [image] = wire(stored([1, 2], range(8), extra_keys=[None, [["picture", 3]]]))
    assert image.extras[0] == ""
    assert "picture" in image.extras[1]
    [old] = wire(["BlockStored", [1], None, [1, 2], 2, 9])
    assert old.lora == "#9"
    [sglang] = wire(["BlockStored", [1], None, [1, 2], 2, None, "GPU", {"cache_salt": "s"}])
    assert sglang.salt == "s"


def test_other_memories_than_the_device_are_left_out() -> None:
    assert not wire(
        stored([1], range(4), medium="CPU"),
        removed(1, medium="DISK"),
        removed(1, locality="REMOTE"),
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x00" * 100,
        b"\x91" * 4000,
        msgspec.msgpack.encode([1.0]),
        msgspec.msgpack.encode([1.0, {"type": "BlockStored"}]),
        msgspec.msgpack.encode([1.0, [{"type": "BlockMoved"}]]),
        msgspec.msgpack.encode([1.0, [[]]]),
        msgspec.msgpack.encode([1.0, [stored([1], range(3))]]),
        msgspec.msgpack.encode([1.0, [stored([[]], range(4))]]),
        msgspec.msgpack.encode([1.0, [stored([1], range(4), size=0)]]),
        msgspec.msgpack.encode([1.0, [stored([b"x" * 129], range(4))]]),
        *(msgspec.msgpack.encode([1.0, [stored([1], range(4), parent=p)]]) for p in ([1], {}, "a")),
        *(
            msgspec.msgpack.encode([1.0, [stored([1], range(4), **{name: "x" * 513})]])
            for name in ("lora_name", "cache_salt")
        ),
        msgspec.msgpack.encode([1.0, [stored([1], range(4), extra_keys=[["x" * 513]])]]),
        msgspec.msgpack.encode([1.0, [stored([1], ["a", 1, 2, 3])]]),
        msgspec.msgpack.encode([1.0, [stored([1], [2**63, 1, 2, 3])]]),
        msgspec.msgpack.encode([1.0, [stored([1], [[1, 2]] * 4)]]),
        b"\xc0" * (9 << 20),
    ],
)
def test_what_is_no_event_is_an_error(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(payload)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_events_or_an_error(payload: bytes, is_long: bool) -> None:
    with contextlib.suppress(MalformedError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire_module, "_SHORT_BYTES", 0 if is_long else 1000)
        decode(payload)


_FEW = b"\x93\x00\x91"
_NAMED = b"\xabBlockStored"


@pytest.mark.parametrize(
    "begun",
    [
        b"\x93\x00\xdd\x00\x10\x00\x00",
        _FEW + b"\xdd\x00\x10\x00\x00",
        _FEW + b"\x98" + _NAMED + b"\xdd\x00\x10\x00\x00",
        _FEW + b"\x98" + _NAMED + b"\x91\x01\xc0\xdd\x00\x10\x00\x00",
        _FEW + b"\x99" + _NAMED + b"\x91\x01\xc0\x91\x01\x01\xc0\xc0\xc0\xdd\x00\x10\x00\x00",
    ],
)
def test_a_million_empty_lists_are_not_made(begun: bytes) -> None:
    payload = begun + b"\x90" * ((1 << 20) + 8)
    tracemalloc.start()
    with pytest.raises(MalformedError):
        decode(payload)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 8 << 20


def test_long_payloads_say_the_same_as_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [
        stored([1, 2], range(8), parent=7),
        ["BlockStored", [b"a" * 32, 2**63], None, [33153] * 8, 4, None, "GPU", {"cache_salt": "a"}],
        ["BlockStored", [3], 2, list(range(4)), 4, 5, "CPU", None, [["image", 3]]],
        removed(1),
        ["BlockRemoved", [2], "GPU", 3],
        CLEARED,
    ]
    payload = msgspec.msgpack.encode([0.5, events, 0])
    told = decode(payload)
    monkeypatch.setattr(wire_module, "_SHORT_BYTES", 0)
    assert decode(payload) == told
    assert len(told) == 5


# -- chains ----------------------------------------------------------------------------------------


def test_a_request_finds_its_leading_blocks() -> None:
    chains = Chains()
    apply(chains, stored([1, 2, 3], [1, 1, 2, 2, 3, 3], size=SIZE))
    chains.follow("a", pack([1, 1, 2, 2, 3, 3, 4]))
    assert chains.changes() == [Event("cached", "a", 6, 7)]
    assert chains.settled("a") is None  # there is nothing to wait for
    assert held(chains, 1, 1, 2, 2, 9, 9) == 4
    assert held(chains, 2, 2) == 0
    apply(chains, removed(2))
    assert Event("truncated", "a", 2, 7) in chains.changes()
    apply(chains, stored([2], [2, 2], parent=1, size=SIZE))
    assert Event("cached", "a", 6, 7) in chains.changes()


def test_a_block_that_was_stored_twice_goes_with_the_second_removal() -> None:
    chains = Chains()
    apply(chains, stored([1], [1, 1], size=SIZE), stored([1], [1, 1], size=SIZE), removed(1))
    assert held(chains, 1, 1) == 2
    apply(chains, removed(1))
    assert held(chains, 1, 1) == 0


def test_nothing_is_shared_between_salts_loras_and_images() -> None:
    chains = Chains()
    apply(
        chains,
        stored([1], [1, 1], size=SIZE, extra_keys=[["s"]]),
        stored([2], [2, 2], size=SIZE, lora_name="l", extra_keys=[["l"]]),
        stored([3], [3, 3], size=SIZE, extra_keys=[[["picture", 0]]]),
    )
    assert held(chains, 1, 1, salt="s") == 2
    assert held(chains, 1, 1) == held(chains, 1, 1, salt="t") == 0
    assert held(chains, 2, 2, model="l") == 2
    assert held(chains, 2, 2, model="other") == 0
    assert held(chains, 3, 3) == 0


def test_beyond_their_bound_what_may_be_a_lora_holds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.kv_events.chains._MAX_LORAS", 2)
    chains = Chains()
    apply(chains, stored([1], [1, 1], size=SIZE))
    for number in (2, 3):
        apply(chains, stored([number], [number] * 2, size=SIZE, lora_name=f"l{number}"))
    assert held(chains, 1, 1, model="base") == 2
    apply(chains, stored([4], [4, 4], size=SIZE, lora_name="l4"))
    apply(chains, stored([3], [3, 3], size=SIZE, lora_name="l3"))
    assert held(chains, 3, 3, model="l3") == held(chains, 1, 1) == 2
    chains.follow("late", pack([1, 1]), "l4")
    assert chains.held_tokens("late") is None
    assert Event("unfollowed", "late") in chains.changes()


def test_what_is_stored_behind_an_unknown_block_is_not_believed() -> None:
    chains = Chains()
    apply(chains, stored([2], [2, 2], parent=1, size=SIZE))
    assert held(chains, 1, 1, 2, 2) == 0
    assert chains.num_unplaced == 1


def test_what_is_stored_behind_a_lost_block_shows_that_it_is_there() -> None:
    chains = Chains()
    apply(chains, stored([1, 2], [1, 1, 2, 2], size=SIZE))
    chains.clear(0)
    assert held(chains, 1, 1, 2, 2) == 0
    apply(chains, stored([3], [3, 3], parent=2, size=SIZE))
    assert held(chains, 1, 1, 2, 2, 3, 3) == 6
    apply(chains, removed(1))
    assert held(chains, 1, 1, 2, 2, 3, 3) == 0


def test_one_rank_alone_must_hold_a_whole_prefix() -> None:
    chains = Chains(ranks=2)
    apply(chains, stored([1, 2], [1, 1, 2, 2], size=SIZE), rank=0)
    apply(chains, stored([11], [1, 1], size=SIZE), rank=1)
    apply(chains, removed(1), rank=0)
    assert held(chains, 1, 1, 2, 2) == 2
    apply(chains, stored([12], [2, 2], parent=11, size=SIZE), rank=1)
    assert held(chains, 1, 1, 2, 2) == 4
    chains.restart(1)
    assert held(chains, 1, 1, 2, 2) == 0


def test_requests_go_when_there_are_too_many_those_without_anything_first() -> None:
    chains = Chains(max_requests=3)
    apply(chains, stored([1], [1, 1], size=SIZE))
    for name, token in (("kept", 1), ("empty", 2), ("new", 1)):
        chains.follow(name, pack([token, token]))
    chains.changes()
    chains.follow("last", pack([1, 1]))
    assert Event("unfollowed", "empty") in chains.changes()
    assert chains.requests() == ["kept", "new", "last"]
    chains.follow("another", pack([1, 1]))
    assert chains.requests() == ["new", "last", "another"]


def test_blocks_are_bounded_and_what_is_too_much_is_not_believed() -> None:
    chains = Chains(max_blocks=10)
    for number in range(20):
        apply(chains, stored([number], [number, number], size=SIZE))
        chains.follow(str(number), pack([number, number, 7, 7]))
        assert len(chains) <= 11
    assert chains.num_unplaced >= 9
    assert held(chains, 19, 19) == 0
    apply(chains, removed(0, 1, 2, 3))
    assert held(chains, 5, 5) == 2
    apply(chains, stored([19], [19, 19], size=SIZE))
    assert held(chains, 19, 19) == 2


def test_a_restart_may_change_the_size_of_blocks() -> None:
    chains = Chains()
    apply(chains, stored([1], [1, 1], size=SIZE))
    chains.follow("a", pack([1, 1]))
    chains.changes()
    chains.restart(0)
    assert chains.changes() == [Event("unfollowed", "a")]
    apply(chains, stored([1], [1, 1, 1], size=3))
    assert held(chains, 1, 1, 1) == 3
    assert len(chains) == 1


class Model:
    """A cache as the engines keep it: chains of blocks, each held once or more."""

    def __init__(self) -> None:
        self.held: dict[tuple[int, ...], int] = {}

    def leading(self, tokens: tuple[int, ...]) -> int:
        ends = range(SIZE, len(tokens) + 1, SIZE)
        return next((e - SIZE for e in ends if not self.held.get(tokens[:e])), len(tokens) // 2 * 2)


STEP = st.one_of(
    st.tuples(st.just("store"), st.lists(st.integers(0, 2), min_size=1, max_size=4)),
    st.tuples(st.just("remove"), st.integers(0, 100)),
    st.tuples(st.just("follow"), st.lists(st.integers(0, 2), min_size=1, max_size=4)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("tell"), st.just(0)),
)


@settings(max_examples=300)
@given(st.lists(STEP, max_size=60))
def test_what_is_told_is_what_the_cache_holds(steps: list[tuple[str, Any]]) -> None:
    chains, model = Chains(), Model()
    told: dict[str, int] = {}
    prompts: dict[str, tuple[int, ...]] = {}
    for number, (kind, value) in enumerate(steps):
        if kind == "store":
            tokens = tuple(t for token in value for t in (token, token))
            have = model.leading(tokens)  # as an engine does: what hits is not stored again
            names = [hash(tokens[:end]) for end in range(SIZE, len(tokens) + 1, SIZE)]
            if have == len(tokens):
                have = 0  # or another request computed the same at once
            first, parent = have // SIZE, names[have // SIZE - 1] if have else None
            apply(chains, stored(names[first:], tokens[have:], parent, SIZE))
            for end in range(have + SIZE, len(tokens) + 1, SIZE):
                model.held[tokens[:end]] = model.held.get(tokens[:end], 0) + 1
        elif kind == "remove" and model.held:
            block = sorted(model.held)[value % len(model.held)]
            apply(chains, removed(hash(block)))
            model.held[block] -= 1
            if not model.held[block]:
                del model.held[block]
        elif kind == "follow" and chains.block_size:
            prompts[str(number)] = tuple(t for token in value for t in (token, token))
            chains.follow(str(number), pack(prompts[str(number)]))
        elif kind == "clear":
            apply(chains, CLEARED)
            model.held.clear()
        for event in chains.changes() if kind == "tell" else ():
            told[event.request] = event.tokens
    told.update({event.request: event.tokens for event in chains.changes()})
    for request, tokens in prompts.items():
        assert told[request] == model.leading(tokens) == chains.held_tokens(request)
    assert {e.request: e.tokens for e in chains.all_held()} == {r: t for r, t in told.items() if t}


# -- layers of several kinds -----------------------------------------------------------------------

WINDOW = 5  # tokens: two blocks before a length
KINDS: list[dict[str, Any]] = [
    {"group_idx": 0, "kv_cache_spec_kind": "full_attention"},
    {
        "group_idx": 1,
        "kv_cache_spec_kind": "sliding_window",
        "kv_cache_spec_sliding_window": WINDOW,
    },
    {"group_idx": 2, "kv_cache_spec_kind": "mamba"},
]


def told_points(chains: Chains, *tokens: int) -> tuple[tuple[int, int], ...] | None:
    chains.follow("probe", pack(tokens))
    chains.changes()
    [event] = [event for event in chains.all_held() if event.request == "probe"] or [None]
    return event.points if event is not None else ()


def test_points_are_lengths_that_all_layers_can_go_on_from() -> None:
    chains = Chains()
    tokens = [n for n in range(5) for _ in range(SIZE)]
    apply(
        chains,
        stored([2, 4], tokens, size=SIZE, **KINDS[2]),  # before it is known where these stand
        stored(range(5), tokens, size=SIZE, **KINDS[0]),
        stored([0, 2, 3, 4], tokens, size=SIZE, **KINDS[1]),
    )
    assert chains.layers.is_sparse
    assert not chains.layers.refused
    assert told_points(chains, *tokens) == ((10, 10),)
    apply(chains, stored([0, 1], tokens[:4], size=SIZE, **KINDS[2]))
    assert told_points(chains, *tokens) == ((2, 2), (10, 10))
    apply(chains, stored([1], tokens[2:4], parent=0, size=SIZE, **KINDS[1]))
    assert told_points(chains, *tokens) == ((2, 6), (10, 10))
    apply(chains, removed(3, group_idx=1))
    assert told_points(chains, *tokens) == ((2, 6),)
    apply(chains, removed(0, group_idx=0))
    assert told_points(chains, *tokens) == ()
    apply(chains, CLEARED)
    apply(chains, stored([0], tokens[:2], size=SIZE, **KINDS[0]))
    assert told_points(chains, *tokens) == ()  # its window and its state went with the rest


def test_ranks_have_points_of_their_own() -> None:
    chains = Chains(ranks=2)
    for rank, states in enumerate(([1], [2])):
        apply(chains, stored([1, 2], [1, 1, 2, 2], size=SIZE, **KINDS[0]), rank=rank)
        apply(chains, stored(states, [1, 1, 2, 2], size=SIZE, **KINDS[2]), rank=rank)
    assert told_points(chains, 1, 1, 2, 2) == ((2, 4),)
    chains.restart(0)
    assert told_points(chains, 1, 1, 2, 2) == ((4, 4),)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ([{"group_idx": 1}], "not described"),
        ([{**KINDS[1], "kv_cache_spec_sliding_window": None}], "unknown length"),
        ([{**KINDS[2], "size": 2 * SIZE}], "different sizes"),
        ([{**KINDS[2], "kv_cache_spec_kind": "cross_attention"}], "cross_attention"),
        ([], ""),
    ],
)
def test_what_is_not_understood_is_refused(more: list[dict[str, Any]], why: str) -> None:
    chains = Chains()
    for kind in [KINDS[0], *more]:
        size = kind.get("size", SIZE)
        given = {name: value for name, value in kind.items() if name != "size"}
        apply(chains, stored([1], [1] * size, size=size, **given))
    assert why in chains.layers.refused
    assert bool(why) == bool(chains.layers.refused)


def test_windows_alone_do_not_say_where_blocks_stand() -> None:
    chains = Chains()
    apply(chains, stored([2], [1, 1, 2, 2], size=SIZE, **{**KINDS[1], "group_idx": 0}))
    assert "keep the whole prompt" in chains.layers.refused


def unnamed(*events: Any) -> Chains:
    chains = Chains()
    apply(chains, *events)
    return chains


def test_several_layers_show_even_where_none_are_named() -> None:
    run = stored([1, 2], [1, 1, 2, 2], size=SIZE)
    assert "do not distinguish" in unnamed(run, run).layers.refused  # each group stored it
    assert "do not distinguish" in unnamed(stored([2], [1, 1, 2, 2], size=SIZE)).layers.refused
    assert "different sizes" in unnamed(run, stored([9], [7, 7, 7], size=3)).layers.refused
    chains = unnamed(run)
    apply(chains, run)  # in another step: another request computed the same
    assert not chains.layers.refused
    assert not unnamed(run, removed(1, 2), run).layers.refused
    last = stored([3], [3, 3], parent=2, size=SIZE)  # the last block of a prompt is computed anew
    assert not unnamed(run, last, last).layers.refused


def test_what_was_removed_stays_so_where_layers_may_be_a_window() -> None:
    chains = unnamed(stored([1, 2], [1, 1, 2, 2], size=SIZE), removed(1))
    apply(chains, stored([3], [3, 3], parent=2, size=SIZE))
    assert held(chains, 1, 1, 2, 2, 3, 3) == 0
    apply(chains, stored([1], [1, 1], size=SIZE))
    assert held(chains, 1, 1, 2, 2, 3, 3) == 6
    apply(chains, removed(1))
    chains.clear(0)  # what came meanwhile is not known
    apply(chains, stored([4], [4, 4], parent=3, size=SIZE))
    assert held(chains, 1, 1, 2, 2, 3, 3, 4, 4) == 8


class Hybrid:
    """A cache with full attention, a window and states, as vLLM looks for hits in it."""

    def __init__(self) -> None:
        self.groups: list[dict[tuple[int, ...], int]] = [{}, {}, {}]

    def accepts(self, tokens: tuple[int, ...], end: int) -> bool:
        full, window, states = self.groups
        ends = range(SIZE, end + 1, SIZE)
        last = list(ends)[-2:]
        return (
            all(tokens[:one] in full for one in ends)
            and all(tokens[:one] in window for one in last)
            and tokens[:end] in states
        )

    def points(self, tokens: tuple[int, ...]) -> list[int]:
        ends = range(SIZE, len(tokens) + 1, SIZE)
        return [end for end in ends if self.accepts(tokens, end)]


PROMPT = st.lists(st.integers(0, 1), min_size=1, max_size=5)
HYBRID_STEP = st.one_of(
    st.tuples(st.just("store"), PROMPT, st.lists(st.booleans(), min_size=10, max_size=10)),
    st.tuples(st.just("remove"), st.integers(0, 2), st.integers(0, 100)),
    st.tuples(st.just("follow"), PROMPT, st.none()),
    st.tuples(st.just("clear"), st.none(), st.none()),
    st.tuples(st.just("tell"), st.none(), st.none()),
)


@settings(max_examples=300)
@given(st.lists(HYBRID_STEP, max_size=40))
def test_points_told_are_what_a_hybrid_cache_accepts(steps: list[tuple[str, Any, Any]]) -> None:
    chains, model = Chains(), Hybrid()
    told: dict[str, list[int]] = {}
    prompts: dict[str, tuple[int, ...]] = {}

    def tell() -> None:
        for event in chains.changes():
            points = event.points or ()
            told[event.request] = [n for a, b in points for n in range(a, b + 1, SIZE)]

    for kind in KINDS:  # before any request there is no belief
        apply(chains, stored([], [], size=SIZE, **kind))
    for number, (step, what, more) in enumerate(steps):
        if step == "store":
            tokens = tuple(t for token in what for t in (token, token))
            ends = range(SIZE, len(tokens) + 1, SIZE)
            for group, (kind, held) in enumerate(zip(KINDS, model.groups, strict=True)):
                chosen = [e for at, e in enumerate(ends) if not group or more[5 * (group - 1) + at]]
                names = [hash(tokens[:end]) for end in chosen]
                apply(chains, stored(names, tokens, size=SIZE, **kind))
                for end in chosen:
                    held[tokens[:end]] = held.get(tokens[:end], 0) + 1
        elif step == "remove" and model.groups[what]:
            held = model.groups[what]
            block = sorted(held)[more % len(held)]
            apply(chains, removed(hash(block), group_idx=what))
            held[block] -= 1
            if not held[block]:
                del held[block]
        elif step == "follow":
            prompts[str(number)] = tuple(t for token in what for t in (token, token))
            chains.follow(str(number), pack(prompts[str(number)]))
        elif step == "clear":
            apply(chains, CLEARED)
            model.groups = [{}, {}, {}]
        elif step == "tell":
            tell()
    tell()
    for request, tokens in prompts.items():
        assert told[request] == model.points(tokens)
