"""Images found in messages: they move only where the prompt says that a search found them."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import png

import contextpilot as cp
from contextpilot.images.image import Image, ImageApi

PICTURES = [png(512, 512, number) for number in range(8)]
NAMES = ("oak", "elm", "ash", "fir", "yew", "bay", "box", "fig")
CUE = "Answer from the images that the search found.\n\nRetrieved images:"
APIS: list[ImageApi] = ["chat", "responses", "messages"]
Content = list[dict[str, Any]]


def image(number: int, api: ImageApi = "chat") -> Any:
    return Image(PICTURES[number]).items(api)[0]


def text(words: str, api: ImageApi = "chat") -> Any:
    return {"type": "input_text" if api == "responses" else "text", "text": words}


def content(
    numbers: list[int],
    api: ImageApi = "chat",
    cue: str = CUE,
    label: str = "{name}.png:",
    question: str = "What is the colour of the house?",
) -> Content:
    parts = [text(cue, api)] if cue else []
    for number in numbers:
        parts += [text(label.format(number, name=NAMES[number]), api)] if label else []
        parts.append(image(number, api))
    return [*parts, text(question, api)]


def user(parts: Content) -> dict[str, Any]:
    return {"role": "user", "content": parts}


def warmed(*prompts: Content) -> cp.ContextPilot:
    pilot = cp.ContextPilot(displacement_cost=0)
    for parts in prompts:
        pilot.rewrite([user(parts)])
    return pilot


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("label", ["{name}.png:", "Image of the {name}", ""])
def test_found_images_move_with_their_labels(api: ImageApi, label: str) -> None:
    pilot = warmed(content([0, 1], api, label=label))
    given_parts = content([2, 1, 0], api, label=label)
    done = pilot.rewrite([user(given_parts)])
    assert done.messages[0]["content"] == content([0, 1, 2], api, label=label)
    (told,) = done.found
    assert (told.form, told.blocks, told.why) == ("images", 3, "search-images")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.permutations(range(8)).flatmap(lambda p: st.integers(2, 6).map(lambda n: p[:n])),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
    st.sampled_from(APIS),
)
def test_parts_are_permuted_and_nothing_else(
    prompts: list[list[int]], labelled: bool, api: ImageApi
) -> None:
    pilot = cp.ContextPilot(displacement_cost=0)
    label = "{name}.png:" if labelled else ""
    for numbers in prompts:
        messages = [user(content(numbers, api, label=label))]
        before = copy.deepcopy(messages)
        done = pilot.rewrite(messages)
        assert messages == before
        (written,) = done.messages
        size = 2 if labelled else 1
        body = written["content"][1:-1]
        blocks = [body[at : at + size] for at in range(0, len(body), size)]
        expected = content(numbers, api, label=label)[1:-1]
        whole = [expected[at : at + size] for at in range(0, len(expected), size)]
        assert sorted(map(repr, blocks)) == sorted(map(repr, whole))
        assert written["content"][0] == messages[0]["content"][0]
        assert written["content"][-1] == messages[0]["content"][-1]
        known = {id(part) for part in messages[0]["content"]}
        assert all(id(part) in known for part in written["content"])
        assert pilot.rewrite(done.messages).messages == done.messages


def test_later_turns_keep_the_order() -> None:
    pilot = warmed(content([0, 1]))
    first = [user(content([2, 1, 0]))]
    done = pilot.rewrite(first)
    later = [
        *first,
        {"role": "assistant", "content": "Red."},
        user([text("And the roof?")]),
    ]
    again = pilot.rewrite(later)
    assert again.messages[0] == done.messages[0]
    assert again.messages[1:] == later[1:]


STAY: dict[str, Content] = {
    "one image": content([0]),
    "no cue": content([2, 1, 0], cue=""),
    "another cue": content([2, 1, 0], cue="Look at these images:"),
    "a cue that is no heading": content([2, 1, 0], cue="The search found images. Look."),
    "frames": content([2, 1, 0], cue="Frames that the search found in the video:"),
    "steps": content([2, 1, 0], cue="Relevant screenshots, step by step:"),
    "before and after": content([2, 1, 0], cue="Relevant photos, before and after:"),
    "pages in order": content([1, 2, 3], cue="Retrieved pages:", label="Page {}:"),
    "files in order": content([1, 2, 3], label="img_00{}.png"),
    "asked by letter": content([2, 1, 0], question="Compare image A to image B."),
    "times": content([1, 2, 3], label="0:0{}:"),
    "asked by position": content([2, 1, 0], question="What does the second image show?"),
    "asked by number": content([2, 1, 0], question="What is in image 2?"),
    "to be transcribed": content([2, 1, 0], question="Transcribe the document."),
    "to be read": content([2, 1, 0], question="Extract all of the text."),
    "to be translated": content([2, 1, 0], question="Übersetze das Dokument."),
    "asked for an order": content([2, 1, 0], question="Describe the images in order."),
    "a long text between": content([2, 1, 0], label="A long caption. " * 20),
    "texts that are no labels": content([2, 1, 0], label="It was {} degrees warm"),
    "captions behind": [
        text(CUE),
        *(part for n in (2, 1, 0) for part in (image(n), text(f"figure-{n}.png"))),
        text("What is the colour?"),
    ],
    "a breakpoint": [
        text(CUE),
        image(2),
        {**image(1), "cache_control": {"type": "ephemeral"}},
        image(0),
        text("What is the colour?"),
    ],
    "a broken part": [text(CUE), image(2), {"type": "image_url"}, image(0), text("Colour?")],
    "another part between": [text(CUE), image(2), {"type": "input_audio"}, image(0), text("Q?")],
}


@pytest.mark.parametrize("name", STAY)
def test_when_in_doubt_nothing_changes(name: str) -> None:
    pilot = warmed(content([0, 1]), content([0, 1], label=""), content([0, 1], label="Page {}:"))
    messages = [user(STAY[name])]
    done = pilot.rewrite(messages)
    assert not done.found
    assert done.messages[0] is messages[0]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.permutations(range(8)).flatmap(lambda p: st.integers(2, 5).map(lambda n: p[:n])),
        min_size=2,
        max_size=4,
    ),
    st.sampled_from(APIS),
)
def test_later_turns_refer_to_images_of_earlier_ones(turns: list[list[int]], api: ImageApi) -> None:
    """Each reference names the image that it stands for; each prompt begins with the last."""
    pilot = cp.ContextPilot(displacement_cost=0)
    messages: list[Any] = []
    before: list[Any] = []
    known: set[str] = set()
    for numbers in turns:
        messages.append(user(content(numbers, api)))
        written = list(pilot.rewrite(messages).messages)
        assert written[: len(before)] == before
        seen = [part for one in written for part in one["content"] if "image" in part["type"]]
        new = written[-1]["content"]
        texts = "\n".join(part.get("text", "") for part in new)
        found = re.findall(r"(\w+)\.png:\n\(The same image as image (\d+)", texts)
        assert {name for name, _ in found} == {NAMES[n] for n in numbers} & known
        for name, place in found:
            assert seen[int(place) - 1] == image(NAMES.index(name), api)
        known |= {NAMES[n] for n in numbers}
        told = {name for name in NAMES if f"{name}.png:" in json.dumps(new)}
        assert told == {NAMES[n] for n in numbers}
        before = [*written, {"role": "assistant", "content": []}]
        messages.append(before[-1])
    shown = [n for n, part in enumerate(PICTURES) if str(image(n, api)) in str(before)]
    assert {*shown} == {n for numbers in turns for n in numbers}
    assert all(str(before).count(str(image(n, api))) == 1 for n in shown)


@pytest.mark.parametrize("api", APIS)
def test_references_to_images_save_their_tokens(api: ImageApi) -> None:
    pilot = cp.ContextPilot(image_model="gemma-3")
    messages = [user(content([0, 1, 2], api))]
    assert pilot.rewrite(messages).saved_tokens == 0
    messages += [{"role": "assistant", "content": []}, user(content([1, 2, 3], api))]
    done = pilot.rewrite(messages)
    assert 2 * 256 - 100 < done.saved_tokens < 2 * 256
    assert done.messages.saved_tokens == done.saved_tokens
    messages += [{"role": "assistant", "content": []}, user(content([0, 3], api))]
    assert 4 * 256 - 200 < pilot.rewrite(messages).saved_tokens < 4 * 256


def test_results_of_a_search_tool_move_those_of_others_stay() -> None:
    def session(tool: str, numbers: list[int]) -> list[dict[str, Any]]:
        call = {"type": "tool_use", "id": "t", "name": tool, "input": {"query": "houses"}}
        found = content(numbers, "messages", cue="")[:-1]
        result = {"type": "tool_result", "tool_use_id": "t", "content": found}
        return [
            {"role": "user", "content": "What is the colour of the house?"},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ]

    pilot = cp.ContextPilot(displacement_cost=0)
    pilot.rewrite(session("image_search", [0, 1]))
    done = pilot.rewrite(session("image_search", [2, 1, 0]))
    assert done.messages == session("image_search", [0, 1, 2])
    for tool in ("take_screenshots", "read_file"):
        given_messages = session(tool, [2, 1, 0])
        assert pilot.rewrite(given_messages).messages == given_messages


def test_frames_move_where_the_caller_names_the_form() -> None:
    def frames(numbers: list[int]) -> Content:
        return content(numbers, cue="Frames of the video:", label="Frame at 0:0{}:")

    pilot = cp.ContextPilot(displacement_cost=0)
    pilot.rewrite([user(frames([2, 5]))], mode="parts")
    asked = [user(frames([1, 2, 5]))]
    assert pilot.rewrite(asked).messages == asked
    done = pilot.rewrite(asked, mode="parts")
    assert done.messages == [user(frames([2, 5, 1]))]


def test_a_request_s_model_says_what_images_weigh() -> None:
    from contextpilot.block import BlockReader

    (block,) = BlockReader().read([Image(PICTURES[0])], image_model="llava-1.5")
    assert block.weight == 576 + 3
    (block,) = BlockReader(image_model="gemma-3").read([Image(PICTURES[0])], image_model="llava")
    assert block.weight == 256 + 3


@pytest.mark.parametrize("api", APIS[:2])
@pytest.mark.parametrize(("before", "after"), [("low", "high"), (None, "high"), ("high", None)])
def test_another_detail_is_another_image(
    api: ImageApi, before: str | None, after: str | None
) -> None:
    """Who saw it coarsely has not seen it."""

    def asked(detail: str | None) -> dict[str, Any]:
        shown = [Image(PICTURES[at], detail=detail).items(api)[0] for at in range(3)]
        return user([text(CUE, api), *shown, text("What is the colour of the house?", api)])

    answered = {"role": "assistant", "content": "red"}
    for first, last in ((before, after), (after, after), (None, "auto")):
        done = cp.ContextPilot().rewrite([asked(first), answered, asked(last)])
        is_same = "same image as" in json.dumps(done.messages[-1])
        assert is_same == ((first, last) != (before, after))
