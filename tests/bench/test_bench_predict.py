"""The prediction beside the measured hit ratio."""

from __future__ import annotations

from contextpilot.bench.arms import Setting, make_arm
from contextpilot.bench.engine import Cache
from contextpilot.bench.predict import (
    SlotCache,
    estimated,
    fitted,
    predict,
    texts_to_weigh,
)
from contextpilot.bench.prompts import Requests
from contextpilot.block import BlockReader


def prompts_and_counts() -> tuple[list, dict[int, int], dict]:  # type: ignore[type-arg]
    texts = [["a b c", "d e f"], ["a b c", "g h"], ["d e f", "a b c"]]
    requests = Requests(["one", "two", "three"], BlockReader().read_batch(texts), "Be brief.")
    prompts = list(make_arm("plain", Setting()).write(requests, "salt"))
    counts = {p.position: sum(len(piece.text.split()) for piece in p.pieces) + 3 for p in prompts}
    texts_by_key = texts_to_weigh(prompts)
    words = {key: len(text.split()) for key, text in texts_by_key.items()}
    messages = [len(str(message["content"]).split()) for message in prompts[0].messages]
    return prompts, counts, fitted(words, prompts, messages, counts[0])


def test_heads_and_shared_first_blocks_are_expected_to_hit() -> None:
    prompts, counts, weights = prompts_and_counts()
    head = 3 + 3  # the salt and two words, and what the template adds
    assert predict(prompts, counts, weights, Cache()) == {0: 0, 1: head + 4, 2: head}


def test_hits_are_whole_blocks_of_the_engine_and_fit_its_cache() -> None:
    prompts, counts, weights = prompts_and_counts()
    assert predict(prompts, counts, weights, Cache(None, 4)) == {0: 0, 1: 8, 2: 4}
    assert predict(prompts, counts, weights, Cache(0)) == {0: 0, 1: 0, 2: 0}


def test_the_last_token_of_a_known_prompt_is_computed_all_the_same() -> None:
    prompts, counts, weights = prompts_and_counts()
    again = [prompts[0], prompts[0]]
    assert predict(again, counts, weights, Cache()) == {0: counts[0] - 1}


def test_without_a_tokenizer_lengths_are_scaled_to_the_engines_counts() -> None:
    prompts, counts, _ = prompts_and_counts()
    texts = texts_to_weigh(prompts)
    weights = estimated(texts, prompts, counts)
    chars = sum(len(piece.text) for prompt in prompts for piece in prompt.pieces)
    rate = sum(counts.values()) / chars
    assert weights == {key: max(1, round(len(text) * rate)) for key, text in texts.items()}


def test_slots_hold_one_prompt_each_and_the_oldest_goes() -> None:
    weights = {"a": 10, "b": 10, "c": 10, "x": 10, "y": 10}
    slots = SlotCache(2)
    assert slots.request(["a", "b"], weights) == 0
    assert slots.request(["x"], weights) == 0
    assert slots.request(["a", "c"], weights) == 10
    assert slots.request(["y"], weights) == 0  # takes the slot of x
    assert slots.request(["x"], weights) == 0  # takes the slot of a, c
    assert slots.request(["y"], weights) == 10


def test_prompts_that_leave_a_slot_come_back_from_the_hosts_memory() -> None:
    weights = dict.fromkeys("abcdxy", 10)
    slots = SlotCache(1, host_tokens=50)
    assert slots.request("ab", weights) == 0
    assert slots.request("xy", weights) == 0
    assert slots.request("abc", weights) == 20
    assert slots.request("xyd", weights) == 20


def test_the_hosts_memory_drops_the_oldest_prompt_first() -> None:
    weights = dict.fromkeys("abcdxy", 10)
    slots = SlotCache(1, host_tokens=20)
    for prompt in ("ab", "xy", "cd"):
        slots.request(prompt, weights)
    assert slots.request("xy", weights) == 20
    assert slots.request("ab", weights) == 0


def test_a_saved_prompt_of_which_little_would_be_used_stays_saved() -> None:
    weights = dict.fromkeys("abcdefxyz", 10)
    slots = SlotCache(1, host_tokens=1000)
    slots.request("abcdef", weights)
    slots.request("xy", weights)
    assert slots.request("ayz", weights) == 0
    assert slots.request("abcdef", weights) == 60
