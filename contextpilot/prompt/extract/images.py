"""Runs of images in a message's content list, each with its label: `[cue] [label] [image] ...`.

They move only where the prompt says that a search found them; frames of a video only where the
caller names the form, since their order is time. A label that stands before its image is one with
it. Where it is not sure which text belongs to which image, nothing is a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from contextpilot.images.sources import IMAGE_PARTS

_TEXT_TYPES = ("text", "input_text")
_NOUNS = (
    r"(?:images?|pictures?|photos?|photographs?|figures?|diagrams?|charts?|screenshots?|slides?|"
    r"scans?|pages?|documents?|results?|hits|matches)"
)
_FOUND = (
    r"(?:retrieved|found|returned|relevant|matching|similar|nearest|closest|search(?:ed)?|"
    r"top[- ]?(?:k\b|\d+))"
)
_CUE = re.compile(
    rf"\b(?:{_FOUND}\b[^.\n]{{0,60}}\b{_NOUNS}|{_NOUNS}\b[^.\n]{{0,60}}\b{_FOUND})\b"
    rf"[^.\n]{{0,80}}[:：]\s*$",
    re.IGNORECASE,
)
_SEQUENCE = re.compile(
    r"\b(?:frames?|video|clip|steps?|stages?|before|after|timeline|sequence|in order|order|"
    r"chronological\w*|history|conversation|storyboard|panels?)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"[\s(\[<*#]*(?:image|figure|fig|photo|picture|page|document|doc|source|file|result|screenshot|"
    r"slide|scan|frame|id|title|name)\b",
    re.IGNORECASE,
)
_FILE = re.compile(r"\s*\S+\.(?:png|jpe?g|webp|gif|bmp|tiff?|pdf|svg)\S*\s*", re.IGNORECASE)
_MAX_LABEL = 200
_NUMBERED = re.compile(
    r"\b(?:images?|pictures?|pics?|photos?|figures?|fig\.|frames?|slides?|screenshots?|pages?|"
    r"bild(?:er)?|foto|imagen|imagem|immagine|afbeelding)"
    r"(?:[ \t]*(?:#|no\.?|number|nr\.?)?[ \t]*\d|"
    r"[ \t]+(?:[A-Z]|one|two|three|four|five|six)\b(?!'))|[图図][\d一二三四五六]",
    re.IGNORECASE,
)
"""A letter too: "image A"; "images I took" is one more that stays."""

_READ_THROUGH = re.compile(
    r"\b(?:transcri\w+|transkri\w+|ocr|verbatim|word for word|read\w* (?:out|aloud)|translat\w+|"
    r"übersetz\w+|tradu\w+|(?:extract|copy|type)\b[^.\n]{0,40}\btext)\b",
    re.IGNORECASE,
)


class ImageRun(NamedTuple):
    """Images of one content list.

    Attributes:
        pieces: first and last item, exclusive, of each block: a label and an image, or an image.
        intro: the text right before the first; "" where none is.
        cited: a breakpoint of a cache marks one.
    """

    pieces: tuple[tuple[int, int], ...]
    intro: str
    cited: bool

    @property
    def begin(self) -> int:
        """The first item."""
        return self.pieces[0][0]

    @property
    def end(self) -> int:
        """The item behind the last."""
        return self.pieces[-1][1]

    @property
    def is_found(self) -> bool:
        """Whether what stands before them says that a search found them."""
        line = self.intro.rstrip().rsplit("\n", 1)[-1]
        return _CUE.search(line) is not None and _SEQUENCE.search(line) is None


def numbers_images(text: str) -> bool:
    """Return whether a text speaks of images by number or letter."""
    return _NUMBERED.search(text) is not None


def reads_images_through(text: str) -> bool:
    """Return whether a text asks for what images hold, which is told one after the other."""
    return _READ_THROUGH.search(text) is not None


def image_runs(items: Sequence[Any]) -> Iterator[ImageRun]:
    """Yield the runs of at least two images in a content list."""
    at = 0
    while at < len(items):
        end = at
        while end < len(items) and (_is_text(items[end]) or _is_image(items[end])):
            end += 1
        run = _run(items, at, end)
        if run is not None:
            yield run
        at = end + 1


def _run(items: Sequence[Any], begin: int, end: int) -> ImageRun | None:
    images = [at for at in range(begin, end) if _is_image(items[at])]
    step = images[1] - images[0] if len(images) > 1 else 0
    if step not in (1, 2) or any(b - a != step for a, b in pairwise(images)):
        return None
    pieces = tuple((at - step + 1, at + 1) for at in images)
    first = pieces[0][0]
    if first < begin or (step == 2 and not _are_labels([items[at]["text"] for at, _ in pieces])):
        return None
    intro = items[first - 1]["text"] if first > begin else ""
    cited = any("cache_control" in part for part in items[first : images[-1] + 1])
    return ImageRun(pieces, intro, cited)


def _are_labels(texts: Sequence[str]) -> bool:
    """Return whether texts are labels of what follows them, all in the same way."""
    bare = [text.strip() for text in texts]
    if any(not text or "\n" in text or len(text) > _MAX_LABEL for text in bare):
        return False
    ways = (lambda text: text.endswith((":", "：")), _LABEL.match, _FILE.fullmatch)
    return any(all(map(way, bare)) for way in ways)


def _is_text(part: Any) -> bool:
    is_text = isinstance(part, Mapping) and part.get("type") in _TEXT_TYPES
    return is_text and isinstance(part.get("text"), str)


def _is_image(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in IMAGE_PARTS
