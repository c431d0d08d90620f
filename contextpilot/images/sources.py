"""Where an image comes from, and what identifies it: its bytes, or else its address. No network."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from contextpilot.images.headers import image_size, media_type_of

IMAGE_PARTS = ("image_url", "input_image", "image")
"""Types of content parts that hold one: of Chat Completions, Responses, Anthropic."""
_DIGEST_CHARS = 32
_MAX_DEPTH = 4
"""Of content within content: a message, a tool's result, a part."""


class Source(NamedTuple):
    """One image.

    Attributes:
        digest: identifies it: 32 hexadecimal digits.
        size: width and height in pixels; None where they are not known.
        data, media_type: its bytes, and what they are.
        url, file_id: where it is instead, for the engine to fetch.
        detail: in which the model sees it, where that is not its own choice: "low", "high".
    """

    digest: str
    size: tuple[int, int] | None = None
    data: bytes | None = None
    media_type: str = ""
    url: str = ""
    file_id: str = ""
    detail: str = ""

    def as_url(self) -> str:
        """Return its address; its bytes as one, where it has none."""
        if self.data is None:
            return self.url
        encoded = base64.b64encode(self.data).decode("ascii")
        return f"data:{self.media_type};base64,{encoded}"


def source_of(given: Any, uuid: str | None = None, media_type: str | None = None) -> Source:
    """Return the source of a file's path, an address, or bytes. A file is read, once.

    Args:
        uuid: identifies the image instead of its content.

    Raises:
        TypeError: it is something else.
        ValueError: the bytes are no image of a known kind, and `media_type` does not say which.
        OSError: the file cannot be read.
    """
    if isinstance(given, str) and given.startswith(("http://", "https://", "data:")):
        found = _at_url(given)
    elif isinstance(given, (bytes, bytearray, memoryview)):
        found = _of_bytes(bytes(given), media_type, "image")
    elif isinstance(given, (str, os.PathLike)):
        path = Path(given)
        found = _of_bytes(path.read_bytes(), media_type, str(path))
    else:
        kind = type(given).__name__
        raise TypeError(
            f"an image is a path, an http(s) or data address, bytes, a content part or a list of "
            f"them, not {kind}"
        )
    return found if uuid is None else found._replace(digest=_digest(b"uuid\0", uuid.encode()))


def image_parts(messages: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield the image parts of messages of any API, in prompt order."""
    if isinstance(messages, (list, tuple)):
        for item in messages:
            yield from image_parts(item, depth)
    elif isinstance(messages, Mapping) and depth <= _MAX_DEPTH:
        content = messages.get("content", messages.get("output"))
        if messages.get("type") in IMAGE_PARTS:
            yield messages
        elif not isinstance(content, str):
            yield from image_parts(content, depth + 1)


def source_in(part: Any) -> Source | None:
    """Return the source of an image part of any API; None for any other part."""
    if not isinstance(part, Mapping) or part.get("type") not in IMAGE_PARTS:
        return None
    found = _source_in(part)
    if found is None:
        return None
    found = found._replace(detail=_detail_in(part))
    uuid = part.get("uuid")
    if not isinstance(uuid, str):
        return found
    return found._replace(digest=_digest(b"uuid\0", uuid.encode("utf-8", "surrogatepass")))


def _detail_in(part: Mapping[str, Any]) -> str:
    """Return what a part says of the detail: beside the image in Responses, else within it."""
    given = part.get("image_url")
    said = (given if isinstance(given, Mapping) else part).get("detail")
    return said if isinstance(said, str) and said != "auto" else ""


def _source_in(part: Mapping[str, Any]) -> Source | None:
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, Mapping) else given
    if isinstance(url, str) and url:
        return _at_url(url)
    holder = part.get("source", part)
    if not isinstance(holder, Mapping):
        return None
    data, url, file_id = (holder.get(name) for name in ("data", "url", "file_id"))
    if isinstance(data, str) and data:
        return _of_base64(data, str(holder.get("media_type") or ""))
    if isinstance(url, str) and url:
        return _at_url(url)
    if isinstance(file_id, str) and file_id:
        return Source(_digest(b"file\0", file_id.encode("utf-8", "surrogatepass")), file_id=file_id)
    return None


def _at_url(url: str) -> Source:
    head, comma, data = url.partition(",")
    if url.startswith("data:") and comma and head.endswith(";base64"):
        return _of_base64(data, head[len("data:") : -len(";base64")])
    return Source(_digest(b"url\0", url.encode("utf-8", "surrogatepass")), url=url)


def _of_base64(text: str, media_type: str) -> Source:
    """Return the source of encoded bytes; where they are none, the text identifies it."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return Source(_digest(b"text\0", text.encode("utf-8", "surrogatepass")))
    return Source(_digest(b"", data), image_size(data), data, media_type)


def _of_bytes(data: bytes, media_type: str | None, name: str) -> Source:
    kind = media_type or media_type_of(data)
    if not kind:
        raise ValueError(
            f"{name} is not a PNG, JPEG, GIF, WebP or BMP: give its media_type ('image/...')"
        )
    return Source(_digest(b"", data), image_size(data), data, kind)


def _digest(kind: bytes, content: bytes) -> str:
    return hashlib.sha256(kind + content).hexdigest()[:_DIGEST_CHARS]
