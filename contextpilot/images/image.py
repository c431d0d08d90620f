"""`Image`: one block that holds an image, with the text that belongs to it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

from contextpilot.fields import check_text
from contextpilot.images.sources import Source, source_in, source_of
from contextpilot.images.weights import image_tokens
from contextpilot.tokens import text_tokens

Part: TypeAlias = "dict[str, Any]"
ImageApi: TypeAlias = Literal["chat", "responses", "messages"]
IMAGE_APIS: tuple[ImageApi, ...] = get_args(ImageApi)
"""Whose content parts are written: OpenAI's Chat Completions and Responses, Anthropic's."""

_OWN_TYPES: dict[str, ImageApi] = {
    "image_url": "chat",
    "input_image": "responses",
    "input_text": "responses",
    "image": "messages",
}
_TEXT_TYPES = ("text", "input_text")


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """An image as a block of context: planned, written and deduplicated as one.

    Attributes:
        source: a file path, an http(s) or data URL (never fetched here), bytes, or content parts
            as an API takes them: one, or a list of an image and its texts.
        label: written before the image, and moves with it.
        text: written after the image, for example a caption.
        time: for a frame, seconds from the start of the video.
        uuid: identifies the image instead of its content; vLLM uses it as the cache key.
        detail: as the API takes it: "low", "high", "auto".
        media_type: "image/png" and so on, if the bytes do not tell.
        size: width and height in pixels, if the bytes do not tell.
        tokens: the image's weight, if you know it.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind; it is named.
        OSError: its file cannot be read.
    """

    source: str | bytes | os.PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]
    _: KW_ONLY
    label: str = ""
    text: str = ""
    time: float | None = None
    uuid: str | None = None
    detail: str | None = None
    media_type: str | None = None
    size: tuple[int, int] | None = None
    tokens: int | None = None
    _sources: dict[int, Source] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        check_text("label", self.label)
        check_text("text", self.text)
        if self.time is not None and not (_is_number(self.time) and 0 <= self.time < math.inf):
            raise ValueError(f"time must be at least 0 seconds, not {self.time!r}")
        if self.tokens is not None and not (_is_number(self.tokens) and self.tokens > 0):
            raise ValueError(f"tokens must be a number above 0, not {self.tokens!r}")
        self._read()

    def __repr__(self) -> str:
        return f"<Image {self.label or self.sources[0].digest}>"

    def _read(self) -> None:
        if self.given is None:
            detail = self.detail if self.detail and self.detail != "auto" else ""
            only = source_of(self.source, self.uuid, self.media_type)
            self._sources[0] = only._replace(detail=detail)
            return
        for at, part in enumerate(self.given):
            found = source_in(part)
            if found is not None:
                self._sources[at] = found
            elif not _is_text(part):
                kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
                raise TypeError(f"source[{at}] is a part of type {kind!r}: pass images and texts")
        if not self._sources:
            raise ValueError("source holds no image: pass the text itself as a block")

    @cached_property
    def given(self) -> list[Mapping[str, Any]] | None:
        """The content parts that `source` is; None where it is no part."""
        if isinstance(self.source, Mapping):
            return [self.source]
        is_list = isinstance(self.source, (list, tuple))
        return list(self.source) if is_list else None  # type: ignore[arg-type]

    @property
    def address(self) -> str:
        """The http(s) or data address of an image that was given as no part."""
        return self._sources[0].as_url()

    @property
    def sources(self) -> list[Source]:
        """Its images, without the texts around them."""
        return list(self._sources.values())

    @cached_property
    def identity(self) -> str:
        """What identifies the block: its texts, with each image as its digest."""
        told = "".join(f" {source.detail}" for source in self.sources if source.detail)
        return self.shown(lambda digest: f"<image {digest}{told}>")

    def shown(self, image: Callable[[str], str]) -> str:
        """Return the block as a text, with what `image` makes of the digest of each image."""
        if self.given is None:
            items = [image(self._sources[0].digest)]
        else:
            items = [
                image(self._sources[at].digest) if at in self._sources else part["text"]
                for at, part in enumerate(self.given)
            ]
        return "\n".join(filter(None, [self.full_label, *items, self.text]))

    @cached_property
    def full_label(self) -> str:
        """The label, with the time of a frame."""
        if self.time is None:
            return self.label
        minutes, seconds = divmod(round(self.time, 3), 60)
        at = f"at {int(minutes)}:{seconds:06.3f}".rstrip("0").rstrip(".")
        return f"{self.label} ({at})" if self.label else f"Frame {at}"

    def weigh(self, model: str = "") -> int:
        """Return its tokens, for a model of this name."""
        words = text_tokens(self.shown(lambda _: ""))
        if self.tokens is not None:
            return int(self.tokens) + words
        return words + sum(
            image_tokens(model, self.size or source.size, source.detail) for source in self.sources
        )

    def items(self, api: ImageApi = "chat") -> list[str | Part]:
        """Return its own texts and its content parts; those that were given are the same objects.

        Raises:
            ValueError: parts were given of another API, or this one does not take the source.
        """
        own: list[Any] = self.given if self.given is not None else [self._part(api)]
        for part in own:
            written = _OWN_TYPES.get(part.get("type", ""), api)
            if written != api:
                raise ValueError(
                    f"an image is given as a part of {written!r}: pass image_api={written!r}"
                )
        before, after = self.full_label, self.text
        return [*([f"{before}\n"] if before else []), *own, *([f"\n{after}"] if after else [])]

    def _part(self, api: ImageApi) -> Part:
        source = self._sources[0]
        detail = {"detail": self.detail} if self.detail else {}
        if api == "messages":
            return {"type": "image", "source": _anthropic_source(source)}
        if api == "responses":
            return {"type": "input_image", "image_url": source.as_url(), **detail}
        uuid = {"uuid": self.uuid} if self.uuid else {}
        return {"type": "image_url", "image_url": {"url": source.as_url(), **detail}, **uuid}


def frames(
    sources: Iterable[Any], times: Iterable[float] | None = None, *, fps: float | None = None
) -> list[Image]:
    """Return the frames of a video as images with times.

    Args:
        sources: as `Image` takes them, in order of time.
        times: seconds of each; or give `fps`, the frames per second.

    Raises:
        TypeError, ValueError: there is not one time for each, or neither was given.
    """
    found = list(sources)
    if times is None:
        if fps is None or not fps > 0:
            raise ValueError("give the times of the frames, or fps, a number above 0")
        seconds = [number / fps for number in range(len(found))]
    else:
        seconds = list(times)
    if len(seconds) != len(found):
        raise ValueError(f"times must be one for each frame: {len(seconds)} for {len(found)}")
    return [Image(source, time=time) for source, time in zip(found, seconds, strict=True)]


def text_part(text: str, api: ImageApi) -> Part:
    """Return a text as a content part."""
    return {"type": "input_text" if api == "responses" else "text", "text": text}


def _anthropic_source(source: Source) -> Part:
    if source.data is None:
        return {"type": "url", "url": source.url}
    kind, _, data = source.as_url().partition(",")
    media_type = kind[len("data:") : -len(";base64")]
    return {"type": "base64", "media_type": media_type, "data": data}


def _is_text(part: Any) -> bool:
    is_text = isinstance(part, Mapping) and part.get("type") in _TEXT_TYPES
    return is_text and isinstance(part.get("text"), str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
