"""Prompts with images: nothing is lost or altered, labels stay, hints are right."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import png

import contextpilot as cp
from contextpilot.images.image import Image

PICTURES = [png(512, 512, number) for number in range(8)]
PARTS: list[Any] = [Image(data).items()[0] for data in PICTURES]
BY_URL = {part["image_url"]["url"]: number for number, part in enumerate(PARTS)}
Contexts = list[list[int]]
"""By number: images from 0, texts from 100."""

numbers = st.sampled_from([*range(8), *range(100, 106)])
batches = st.lists(
    st.lists(numbers, min_size=1, max_size=7, unique=True), min_size=1, max_size=6
).filter(lambda batch: any(n < 100 for context in batch for n in context))


def block(number: int) -> Any:
    if number >= 100:
        return f"text {number}, " * 30
    return Image(PICTURES[number], label=f"Figure {number}", text=f"caption {number}")


def shown(content: Any) -> list[str]:
    """A user message as pieces: texts, and images by number."""
    if isinstance(content, str):
        return [content]
    return [
        part["text"] if part["type"] == "text" else f"<{BY_URL[part['image_url']['url']]}>"
        for part in content
    ]


def whole(number: int) -> str:
    if number >= 100:
        return str(block(number))
    return f"Figure {number}\n<{number}>\ncaption {number}"


def ordered(messages: Any, context: Sequence[int]) -> str:
    """What the blocks of a prompt must read like, by the order that it tells."""
    places = enumerate(messages.order, start=1)
    return "\n\n".join(f"[{place}] {whole(context[rank])}" for place, rank in places)


@settings(max_examples=60, deadline=None)
@given(batches)
def test_a_batch_permutes_whole_blocks(batch: Contexts) -> None:
    contexts = [[block(number) for number in context] for context in batch]
    questions = [f"question {n}" for n in range(len(batch))]
    pilot = cp.ContextPilot(displacement_cost=0)
    messages, order = pilot.optimize_batch(contexts, questions)
    assert sorted(order) == list(range(len(batch)))
    for one, position in zip(messages, order, strict=True):
        assert sorted(one.order) == list(range(len(batch[position])))
        text = "".join(shown(one[-1]["content"]))
        assert text.startswith(ordered(one, batch[position]))
        assert text.endswith(questions[position])


@settings(max_examples=40, deadline=None)
@given(batches)
def test_one_by_one_as_well_and_planning_again_changes_nothing(batch: Contexts) -> None:
    pilot = cp.ContextPilot(displacement_cost=0)
    for context in batch:
        blocks = [block(number) for number in context]
        messages = pilot.optimize(blocks, "question")
        assert "".join(shown(messages[-1]["content"])).startswith(ordered(messages, context))
        again = pilot.optimize([blocks[rank] for rank in messages.order], "question")
        assert again.order == tuple(range(len(context)))
        assert messages.request_id == copy.copy(messages).request_id != ""


@settings(max_examples=40, deadline=None)
@given(st.lists(st.permutations(range(8)).map(lambda p: p[:5]), min_size=2, max_size=5))
def test_the_order_of_frames_in_time_is_told(samples: list[list[int]]) -> None:
    pilot = cp.ContextPilot(displacement_cost=0)
    for sample in samples:
        times = sorted(sample)
        frames = cp.frames([PICTURES[n] for n in times], [float(n) for n in times])
        messages = pilot.optimize(frames, "What happens?")
        text = "".join(shown(messages[-1]["content"]))
        stand = [int(n) for n in re.findall(r"<(\d)>", text)]
        told = re.search(r"in order of time: ([\d,-]+)\.", text)
        assert "important" not in text
        assert (told is None) == (stand == sorted(stand))
        if told is not None:
            assert [stand[place - 1] for place in _places(told[1])] == sorted(stand)
        for number in stand:
            assert f"Frame at 0:0{number}\n<{number}>" in text


@pytest.mark.parametrize("anchor", ["auto", "moved"])
def test_the_first_frame_is_not_taken_for_the_most_relevant(anchor: str) -> None:
    pictures = [png(512, 512, 100 + number) for number in range(12)]
    frames = cp.frames(pictures, [float(number) for number in range(12)])
    pilot = cp.ContextPilot(displacement_cost=1, anchor=anchor)
    pilot.optimize(frames[6:], "What happens?")
    messages = pilot.optimize(frames, "What happens?")
    assert messages.order[:6] == (6, 7, 8, 9, 10, 11)
    assert (messages.order[-1] == 0) == (anchor == "moved")


def _places(text: str) -> list[int]:
    found: list[int] = []
    for entry in text.split(","):
        first, _, last = entry.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def test_one_image_alone_is_unchanged() -> None:
    pilot = cp.ContextPilot()
    for _ in range(2):
        (message,) = pilot.optimize([block(0)], "question")
        assert shown(message["content"]) == ["[1] Figure 0\n", "<0>", "\ncaption 0\n\nquestion"]


def test_shared_images_move_to_the_front() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([block(0), block(1)], "first")
    messages = pilot.optimize([block(2), block(1), block(0)], "second")
    assert messages.order == (2, 1, 0)
    assert messages.live_tokens > 0


# -- repeats ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 7), max_size=6),
    st.lists(st.integers(0, 7), min_size=1, max_size=6, unique=True),
)
def test_a_hint_names_the_image_that_it_stands_for(before: list[int], asked: list[int]) -> None:
    history: list[dict[str, Any]] = [{"role": "system", "content": "Answer."}]
    for number in before:
        history += [
            {"role": "user", "content": [{"type": "text", "text": "look"}, PARTS[number]]},
            {"role": "assistant", "content": "seen"},
        ]
    messages = cp.ContextPilot().optimize([block(n) for n in asked], "question", history=history)
    assert messages[: len(history)] == history
    text = "".join(shown(messages[-1]["content"]))
    hints = dict(re.findall(r"Figure (\d)\n\(The same image as image (\d+)", text))
    assert {int(n) for n in hints} == {*before} & {*asked}
    for number, place in hints.items():
        assert before[int(place) - 1] == int(number)
        assert f"caption {number}" in text
    assert len(messages.hinted) == len(hints)


def test_images_in_results_of_tools_are_counted_as_well() -> None:
    part = Image(PICTURES[3]).items("messages")[0]
    result = {"type": "tool_result", "tool_use_id": "a", "content": [part]}
    history: list[dict[str, Any]] = [{"role": "user", "content": [result]}]
    pilot = cp.ContextPilot(image_api="messages")
    messages = pilot.optimize([Image(PICTURES[3])], "question", history=history)
    assert "same image as image 1" in messages[-1]["content"]


def test_a_repeat_within_a_context_names_its_place() -> None:
    messages = cp.ContextPilot().optimize([block(0), block(1), block(0)], "question")
    text = "".join(shown(messages[-1]["content"]))
    assert text.count("<0>") == 1
    assert "[3] Same text as [1]." in text
    plain = cp.ContextPilot(deduplicate=False).optimize([block(0), block(0)], "question")
    assert "".join(shown(plain[-1]["content"])).count("<0>") == 2


def test_conversations_never_quote_an_image() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([block(0), block(100)], "question", conversation_id="a")
    found = pilot.deduplicate([block(0), block(100)], conversation_id="a")
    assert len(found.new_blocks) == 1
    assert found.overlapping_blocks == [block(100)]


# -- around them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
def test_every_api_s_parts(api: Any) -> None:
    pilot = cp.ContextPilot(image_api=api)
    (message,) = pilot.optimize([block(0), block(100)], "question")
    kinds = [part["type"] for part in message["content"]]
    text, image = {
        "chat": ("text", "image_url"),
        "responses": ("input_text", "input_image"),
        "messages": ("text", "image"),
    }[api]
    assert kinds == [text, image, text]


def test_reorder_returns_the_images_themselves() -> None:
    images = [block(n) for n in range(4)]
    pilot = cp.ContextPilot()
    pilot.reorder(images[:2])
    ((again,), _) = pilot.reorder([images[3], images[1], images[0]])
    assert again == [images[0], images[1], images[3]]
    assert again[0] is images[0]


def test_the_id_goes_as_soon_as_the_prompt_is_another() -> None:
    messages = cp.ContextPilot().optimize([block(0), block(1)], "question")
    before = [{"role": "system", "content": "Answer."}]
    assert (before + messages).request_id == messages.request_id
    assert pickle.loads(pickle.dumps(messages)).request_id == messages.request_id
    later = [{"role": "user", "content": "and then?"}]
    assert (messages + later).request_id == ""
    assert (messages + messages).request_id == ""


def test_integers_do_not_mix_with_images() -> None:
    with pytest.raises(TypeError, match="mixes images and integers"):
        cp.ContextPilot().reorder([block(0), 7])
    with pytest.raises(TypeError, match=r"Image\(\.\.\.\)"):
        cp.ContextPilot().optimize([{"text": "a", "image_url": "b"}], "question")
    with pytest.raises(ValueError, match="image_api"):
        cp.ContextPilot(image_api="completions")  # type: ignore[arg-type]
