"""What an image weighs in tokens, by the family of the model that reads it.

Families are found by the model's name. Those of engines are computed as their processors do with
default settings; those of clouds as their documents said on 2026-11-26 (each function names its
own). No cloud was asked. What the engine counts corrects both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial

from contextpilot.images.headers import Size

Weigh = Callable[[Size, str], int]
"""Tokens of an image of this size, and of a detail: "low", "high", "auto" or ""."""

UNKNOWN_SIZE: Size = (1024, 768)
"""Taken for images whose size is not known: those at an address, say."""


def image_tokens(model: str, size: Size | None, detail: str = "") -> int:
    """Return the tokens of one image.

    Args:
        model: its name, with or without an owner's ("Qwen/Qwen2.5-VL-7B"); "" for any.
        size: width and height in pixels; None where they are not known.
    """
    return max(1, _family(model)(size or UNKNOWN_SIZE, detail))


GUESS_TOKENS = 1049
"""Of an image of which nothing is looked at: `image_tokens` of `UNKNOWN_SIZE`."""


def is_known(model: str) -> bool:
    """Return whether the table has a family of its own for a model."""
    return _family(model) is not _by_area


def _family(model: str) -> Weigh:
    name = model.rsplit("/", 1)[-1].lower()
    return next((weigh for pattern, weigh in _FAMILIES if pattern.search(name)), _by_area)


def _by_area(size: Size, detail: str) -> int:  # noqa: ARG001
    """Of no known family: pixels / 750, after fitting into 1568 by 1568."""
    width, height = _fit(size, 1568)
    return min(1600, math.ceil(width * height / 750))


def _claude(size: Size, detail: str, *, side: int, most: int) -> int:  # noqa: ARG001
    """Patches of 28 pixels: "Vision" in Anthropic's documents (platform.claude.com).

    `side` and `most` bound what is not shrunk: 1568 pixels and some 1,600 tokens, 2576 and 4,784
    from Opus 4.7 on; the latter by reports of counts, the page that was at hand left them out.
    """
    width, height = _fit(size, side)
    patches = math.ceil(width / 28) * math.ceil(height / 28)
    return min(most, patches)


def _patches(
    size: Size,
    detail: str,  # noqa: ARG001
    *,
    patch: int,
    least: int,
    most: int,
) -> int:
    """As Qwen's processors: sides rounded to patches, within bounds of patches; and two marks."""
    width, height = size
    rows, columns = max(1, round(height / patch)), max(1, round(width / patch))
    scale = width * height / patch**2
    if rows * columns > most:
        shrink = math.sqrt(scale / most)
        rows = max(1, math.floor(height / shrink / patch))
        columns = max(1, math.floor(width / shrink / patch))
    elif rows * columns < least:
        grow = math.sqrt(least / scale)
        rows, columns = math.ceil(height * grow / patch), math.ceil(width * grow / patch)
    return rows * columns + 2


def _tiles(size: Size, detail: str, *, base: int, tile: int) -> int:
    """Tiles of 512 pixels: "Images and vision" in OpenAI's documents (developers.openai.com)."""
    if detail == "low":
        return base
    width, height = _fit(size, 2048)
    shrink = min(1.0, 768 / max(1, min(width, height)))
    tiles = math.ceil(width * shrink / 512) * math.ceil(height * shrink / 512)
    return base + tile * tiles


def _capped_patches(
    size: Size,
    detail: str,  # noqa: ARG001
    *,
    factor: float,
    most: int = 1536,
) -> int:
    """Patches of 32 pixels: "Images and vision" in OpenAI's documents (developers.openai.com).

    There 1800 by 2400 pixels are 1,452 patches. Factors of GPT-5's small models and of those from
    5.2 on are what users were billed; the documents say 1.62 and 2.46 of the small ones.
    """
    width, height = size[0] / 32, size[1] / 32
    patches = math.ceil(width) * math.ceil(height)
    if patches > most:
        shrink = math.sqrt(most / (width * height))
        width, height = width * shrink, height * shrink
        whole = min(math.floor(side) / side for side in (width, height) if side >= 1)
        patches = math.ceil(width * whole - 1e-6) * math.ceil(height * whole - 1e-6)
    return math.ceil(min(most, patches) * factor)


def _gemini(size: Size, detail: str) -> int:  # noqa: ARG001
    """Tiles of 768 pixels: "Image understanding" in Google's documents (ai.google.dev)."""
    width, height = size
    small = max(width, height) <= 384
    return 258 * (1 if small else math.ceil(width / 768) * math.ceil(height / 768))


def _gemini_3(size: Size, detail: str) -> int:  # noqa: ARG001
    """Of any size: "Media resolution" in Google's documents (ai.google.dev)."""
    return 280 if detail == "low" else 1120


def _pixtral(size: Size, detail: str) -> int:  # noqa: ARG001
    width, height = _fit(size, 1024)
    columns, rows = math.ceil(width / 16), math.ceil(height / 16)
    return rows * (columns + 1)


def _same(size: Size, detail: str, *, tokens: int) -> int:  # noqa: ARG001
    return tokens


def _fit(size: Size, most: int) -> tuple[float, float]:
    """Return a size with its longer side shrunk to `most` pixels."""
    shrink = min(1.0, most / max(size))
    return size[0] * shrink, size[1] * shrink


_QWEN2 = partial(_patches, patch=28, least=4, most=16_384)
_FAMILIES: tuple[tuple[re.Pattern[str], Weigh], ...] = tuple(
    (re.compile(pattern), weigh)
    for pattern, weigh in (
        (r"qwen3.*vl|qwen3\.5", partial(_patches, patch=32, least=64, most=16_384)),
        (r"qwen2.*vl|qwen2.*omni|qwen-vl", _QWEN2),
        (r"llava.*(1\.6|next|onevision)", partial(_same, tokens=2880)),
        (r"llava", partial(_same, tokens=576)),
        (r"gemma-?3|paligemma", partial(_same, tokens=256)),
        (r"pixtral|mistral-(small|medium)", _pixtral),
        (r"gemini-([3-9]|\d\d)", _gemini_3),
        (r"gemini", _gemini),
        (r"claude-(opus|sonnet)-(4-[7-9]|[5-9])", partial(_claude, side=2576, most=4784)),
        (r"claude", partial(_claude, side=1568, most=1600)),
        (r"gpt-4o-mini", partial(_tiles, base=2833, tile=5667)),
        (r"gpt-4\.1-mini", partial(_capped_patches, factor=1.62)),
        (r"gpt-4\.1-nano", partial(_capped_patches, factor=2.46)),
        (r"o4-mini", partial(_capped_patches, factor=1.72)),
        (r"gpt-5(-|\.1-)mini", partial(_capped_patches, factor=1.2)),
        (r"gpt-5(-|\.1-)nano", partial(_capped_patches, factor=1.5)),
        (r"gpt-5\.\d.*(mini|nano)", partial(_capped_patches, factor=1.2)),
        (r"gpt-(5\.[2-9]|[6-9])", partial(_capped_patches, factor=1.2, most=2500)),
        (r"gpt-5", partial(_tiles, base=70, tile=140)),
        (r"^o[13]\b", partial(_tiles, base=75, tile=150)),
        (r"gpt-4", partial(_tiles, base=85, tile=170)),
    )
)
