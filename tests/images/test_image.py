"""`cp.Image`: what identifies it, how it is written, what it weighs."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from pictures import png

import contextpilot as cp
from contextpilot.images.headers import image_size, media_type_of
from contextpilot.images.image import Image, frames
from contextpilot.images.weights import GUESS_TOKENS, image_tokens, is_known
from contextpilot.prompt.extract.places import count_tokens
from contextpilot.prompt.turn import head_of

DATA = png(8, 6)
ENCODED = base64.b64encode(DATA).decode()
URL = f"data:image/png;base64,{ENCODED}"
CHAT = {"type": "image_url", "image_url": {"url": URL}}
RESPONSES = {"type": "input_image", "image_url": URL}
ANTHROPIC = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": ENCODED},
}


def test_equal_bytes_are_one_image_however_they_are_given(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(DATA)
    forms: list[Any] = [DATA, bytearray(DATA), path, str(path), URL, CHAT, RESPONSES, ANTHROPIC]
    assert len({Image(form).identity for form in forms}) == 1
    assert Image(png(8, 6, 1)).identity != Image(DATA).identity


def test_all_that_is_written_is_part_of_the_identity() -> None:
    images = [
        Image(DATA),
        Image(DATA, label="Figure 1"),
        Image(DATA, text="Figure 1"),
        Image(DATA, time=1.5),
        Image(DATA, detail="low"),
        Image({**CHAT, "image_url": {"url": URL, "detail": "{0}"}}),
        Image("https://example.org/a.png"),
        Image("https://example.org/b.png"),
        Image([{"type": "text", "text": "a"}, CHAT]),
        Image([CHAT, {"type": "text", "text": "a"}]),
    ]
    assert len({image.identity for image in images}) == len(images)
    named = Image("https://example.org/a.png", uuid="a"), Image(DATA, uuid="a")
    assert named[0].identity == named[1].identity != Image("a" * 0 or DATA).identity


def test_each_api_gets_its_own_parts() -> None:
    assert Image(DATA).items("chat") == [CHAT]
    assert Image(DATA).items("responses") == [RESPONSES]
    assert Image(DATA).items("messages") == [ANTHROPIC]
    address = "https://example.org/a.png"
    linked = {"type": "image", "source": {"type": "url", "url": address}}
    assert Image(address).items("messages") == [linked]
    (part,) = Image(address, uuid="a", detail="low").items()
    assert part == {
        "type": "image_url",
        "image_url": {"url": address, "detail": "low"},
        "uuid": "a",
    }


def test_parts_that_were_given_are_the_same_objects() -> None:
    odd = {**CHAT, "unknown": [1], "uuid": "x"}
    caption = {"type": "text", "text": "caption"}
    items = Image([odd, caption], label="Figure 1", text="end").items()
    assert items == ["Figure 1\n", odd, caption, "\nend"]
    assert items[1] is odd
    assert items[2] is caption


@pytest.mark.parametrize("part", [RESPONSES, ANTHROPIC], ids=["responses", "messages"])
def test_parts_of_another_api_are_an_error_that_says_what_to_pass(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="image_api="):
        cp.ContextPilot().optimize([Image(part), "text"], "question")


@pytest.mark.parametrize(
    ("given", "error", "named"),
    [
        (7, TypeError, "int"),
        (b"no image", ValueError, "media_type"),
        ({"type": "input_audio"}, TypeError, "input_audio"),
        ([{"type": "text", "text": "a"}], ValueError, "no image"),
        ([], ValueError, "no image"),
        ({"type": "image_url", "image_url": {}}, TypeError, "image_url"),
    ],
)
def test_what_is_no_image_is_named(given: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        Image(given)


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"label": 7},
        {"text": None},
        {"time": -1},
        {"time": float("nan")},
        {"tokens": 0},
    ]
    for arguments in wrong:
        (name,) = arguments
        with pytest.raises((TypeError, ValueError), match=name):
            Image(DATA, **arguments)
    with pytest.raises(OSError, match="missing"):
        Image(tmp_path / "missing.png")


def test_no_address_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    images = [Image(f"https://127.0.0.1:9/{n}.png") for n in range(3)]
    pilot = cp.ContextPilot()
    messages = pilot.optimize([*images, "text"], "question", history=[_shows(images[0])])
    assert "https://127.0.0.1:9/1.png" in json.dumps(messages)


def _shows(image: Image) -> dict[str, Any]:
    return {"role": "user", "content": image.items()}


# -- size and weight -------------------------------------------------------------------------------

GIF = b"GIF89a" + b"\x07\x00\x05\x00" + b"\0" * 8
BMP = b"BM" + b"\0" * 16 + (7).to_bytes(4, "little") + (-5).to_bytes(4, "little", signed=True)
JPEG = b"\xff\xd8\xff\xe0\x00\x04\x00\x00\xff\xff\xc0\x00\x11\x08\x00\x05\x00\x07\x03" + b"\0" * 20
WEBP_LOSSY = b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 10 + b"\x07\x00\x05\x00"
WEBP_LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L" + b"\0" * 5 + (6 | 4 << 14).to_bytes(4, "little")
WEBP_WIDE = b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + b"\x06\x00\x00" + b"\x04\x00\x00"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(7, 5), "image/png"),
        (GIF, "image/gif"),
        (BMP, "image/bmp"),
        (JPEG, "image/jpeg"),
        (WEBP_LOSSY, "image/webp"),
        (WEBP_LOSSLESS, "image/webp"),
        (WEBP_WIDE, "image/webp"),
    ],
    ids=["png", "gif", "bmp", "jpeg", "webp", "webp-lossless", "webp-wide"],
)
def test_kind_and_size_are_read_from_the_first_bytes(data: bytes, kind: str) -> None:
    assert (media_type_of(data), image_size(data)) == (kind, (7, 5))
    for end in range(len(data)):
        image_size(data[:end])  # half an image is no error


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("Qwen/Qwen2-VL-2B-Instruct", (280, 140), 52),
        ("qwen2.5-vl-7b", (28, 28), 4 + 2),
        ("llava-1.5-7b-hf", (9, 9), 576),
        ("gpt-4o-2024-11-20", (1024, 1024), 765),
        ("gpt-4.1-mini", (1800, 2400), 2353),
        ("gpt-5-mini", (1024, 1024), 1229),
        ("gpt-5.4", (1920, 1080), 2448),
        ("gpt-5", (1024, 1024), 630),
        ("claude-sonnet-4-5", (1092, 1092), 1521),
        ("claude-haiku-4-5", (256, 256), 100),
        ("claude-opus-4-7", (2560, 1440), 4784),
        ("claude-sonnet-4-5", (2560, 1440), 1600),
        ("gemini-2.5-pro", (300, 300), 258),
        ("gemini-3-flash", (4032, 3024), 1120),
    ],
)
def test_tokens_of_families(model: str, size: tuple[int, int], tokens: int) -> None:
    assert image_tokens(model, size) == tokens
    assert is_known(model)
    assert not is_known("a-model-of-mine")


def test_a_huge_image_stays_within_its_family_s_bounds() -> None:
    for model in ("qwen2-vl", "qwen3-vl", "gpt-4o", "gpt-4.1-mini", "gpt-5.5", "claude", "pixtral"):
        assert 0 < image_tokens(model, (30_000, 20_000)) <= 16_386
        assert 0 < image_tokens(model, (1, 20_000)) <= 16_386


def test_weights_reach_the_plan() -> None:
    block = Image(png(280, 140))
    messages = [
        cp.ContextPilot(image_model=model).optimize([block, Image(DATA, tokens=90)], "question")
        for model in ("qwen2-vl", "llava-1.5")
    ]
    assert [one.total_tokens for one in messages] == [52 + 90 + 6, 576 + 90 + 6]


def test_images_before_the_blocks_weigh_as_well() -> None:
    shown = [{"role": "user", "content": [{"type": "text", "text": "look"}, CHAT, CHAT]}]
    assert head_of(shown).tokens - head_of([{"role": "user", "content": "look"}]).tokens == (
        2 * GUESS_TOKENS
    )
    assert count_tokens(shown) > 2 * GUESS_TOKENS == 2 * image_tokens("", None)


def test_frames_have_times() -> None:
    sources = [png(4, 4, n) for n in range(3)]
    assert [one.time for one in frames(sources, fps=2)] == [0, 0.5, 1]
    labels = [one.full_label for one in frames(sources, [0, 59.9999, 3661.25])]
    assert labels == ["Frame at 0:00", "Frame at 1:00", "Frame at 61:01.25"]
    for wrong in ({}, {"fps": 0}, {"times": [1]}):
        with pytest.raises(ValueError, match="times"):
            frames(sources, **wrong)
