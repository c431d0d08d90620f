"""Every arm sends every request once, with the blocks that were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.bench.arms import ARMS, Setting, make_arm
from contextpilot.bench.prompts import Piece, Prompt, Requests
from contextpilot.block import BlockReader, unique

LOCAL = [name for name in ARMS if name not in ("proxy", "synced")]
contexts = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8), min_size=1, max_size=8)


def requests_of(numbers: Sequence[Sequence[int]]) -> Requests:
    reader = BlockReader()
    texts = [[f"block {n} says {'so ' * (n + 30)}" for n in context] for context in numbers]
    return Requests([f"query {i}" for i in range(len(texts))], reader.read_batch(texts))


def prompts_of(name: str, requests: Requests, salt: str = "salt") -> list[Prompt]:
    return list(make_arm(name, Setting(seed=5)).write(requests, salt))


def is_hint(piece: Piece) -> bool:
    return isinstance(piece.key, tuple)


@pytest.mark.parametrize("name", LOCAL)
@given(numbers=contexts)
def test_arms_send_each_request_once_with_its_blocks(name: str, numbers: list[list[int]]) -> None:
    requests = requests_of(numbers)
    prompts = prompts_of(name, requests)
    assert sorted(prompt.position for prompt in prompts) == list(range(len(requests)))
    if name not in ("batch", "batch-full"):
        assert [prompt.position for prompt in prompts] == list(range(len(requests)))
    for prompt in prompts:
        blocks = requests.contexts[prompt.position]
        user = str(prompt.messages[-1]["content"])
        assert user.endswith(requests.queries[prompt.position])
        assert all(block.text in user for block in unique(blocks))
        assert "salt" in str(prompt.messages[0]["content"]).split("]")[0]
        keys = [piece.key for piece in prompt.pieces[1:-1] if not is_hint(piece)]
        expected = blocks if name in ("plain", "random", "sorted") else unique(blocks)
        assert sorted(map(str, keys)) == sorted(str(block.key) for block in expected)
        whole = "".join(piece.text for piece in prompt.pieces)
        assert whole == "".join(str(message["content"]) for message in prompt.messages)


@given(numbers=contexts)
def test_the_plain_arm_keeps_the_order_and_dedup_leaves_later_copies_out(
    numbers: list[list[int]],
) -> None:
    requests = requests_of(numbers)
    for name, kept in (("plain", list), ("dedup", unique)):
        for prompt in prompts_of(name, requests):
            keys = [piece.key for piece in prompt.pieces[1:-1]]
            assert keys == [block.key for block in kept(requests.contexts[prompt.position])]


def test_sorted_sorts_and_random_depends_on_the_seed_alone() -> None:
    requests = requests_of([[9, 1, 5, 3, 7, 2], [2, 8, 4, 6, 0, 1]])
    for prompt in prompts_of("sorted", requests):
        texts = [piece.text.partition("] ")[2] for piece in prompt.pieces[1:-1]]
        assert texts == sorted(texts)
    first = [p.pieces for p in prompts_of("random", requests, "salt")]
    assert first == [p.pieces for p in prompts_of("random", requests, "salt")]
    other = make_arm("random", Setting(seed=6)).write(requests, "salt")
    assert first != [prompt.pieces for prompt in other]
    assert first != [prompt.pieces for prompt in prompts_of("plain", requests)]


@pytest.mark.parametrize("name", ["online", "batch"])
def test_full_gain_moves_whatever_the_options_say(name: str) -> None:
    requests = requests_of([[1, 2, 3], [3, 2, 1], [2, 3, 1]])

    def orders(name: str, **options: object) -> list[list[object]]:
        prompts = list(make_arm(name, Setting(options=options)).write(requests, "salt"))
        prompts.sort(key=lambda prompt: prompt.position)
        return [[p.key for p in prompt.pieces[1:-1] if not is_hint(p)] for prompt in prompts]

    given = [[block.key for block in blocks] for blocks in requests.contexts]
    dear, free = {"displacement_cost": 10**6}, {"displacement_cost": 0, "anchor": "none"}
    assert orders(name, **dear) == given
    assert orders(name, **free) != given
    assert orders(f"{name}-full", **dear) == orders(name, **free)
    assert orders(f"{name}-full", anchor="end") == orders(name, **free)


def test_the_proxy_gets_blocks_and_is_predicted_as_online() -> None:
    requests = requests_of([[1, 2, 3], [3, 2, 4], [2, 3, 1]])
    arm = make_arm("proxy", Setting(options={"annotate": False}))
    sent = list(arm.write(requests, "salt"))
    for prompt, blocks in zip(sent, requests.contexts, strict=True):
        field = prompt.members["contextpilot"]
        assert field["contexts"] == [block.text for block in blocks]
        assert field["options"] == {"annotate": False}
        assert prompt.messages[-1]["content"] == requests.question(prompt.position)
    expected = [prompt.pieces for prompt in prompts_of("reordered", requests)]
    assert [prompt.pieces for prompt in sent] == expected


def test_every_prompt_says_where_its_question_begins() -> None:
    requests = requests_of([[1, 2, 3], [3, 2, 4], [2, 3, 1]])
    for mode in ("plain", "random", "online", "reordered", "batch", "proxy"):
        for prompt in prompts_of(mode, requests):
            text = prompt.messages[-1]["content"]
            assert text.endswith(f"Question: query {prompt.position}"), mode
            assert text.count("Question: ") == 1
    assert replace(requests, queries=["", "", ""]).question(1) == ""


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'fast' is not a mode: the modes are plain, random"):
        make_arm("fast", Setting())
