"""Images among the blocks of a JSON request: parts, or objects with one. No file is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contextpilot.images.image import Image
from contextpilot.images.sources import IMAGE_PARTS, source_in

_FIELD = "image"
_ADDRESSES = ("http://", "https://", "data:")
_OTHERS = ("label", "text", "time", "uuid", "detail", "media_type", "size", "tokens")


def with_images(context: Sequence[Any], name: str) -> Sequence[Any]:
    """Return a context in which objects that hold an image are images; `context` if none does.

    Args:
        name: what the context is called in an error.

    Raises:
        TypeError, ValueError: an object that holds an image is not as it must be; it is named.
    """
    if dict not in {*map(type, context)} or not any(map(_holds_image, context)):
        return context
    return [
        _image(value, f"{name}[{at}]") if _holds_image(value) else value
        for at, value in enumerate(context)
    ]


def as_json(image: Image) -> dict[str, Any]:
    """Return the object that `with_images` makes this image of: a file's bytes go with it."""
    source: Any = image.given if image.given is not None else image.address
    others = {name: getattr(image, name) for name in _OTHERS}
    return {_FIELD: source, **{name: one for name, one in others.items() if one not in (None, "")}}


def _holds_image(value: Any) -> bool:
    return isinstance(value, Mapping) and (value.get("type") in IMAGE_PARTS or _FIELD in value)


def _image(value: Mapping[str, Any], name: str) -> Image:
    is_part = value.get("type") in IMAGE_PARTS
    source: Any = value if is_part else value[_FIELD]
    others = {} if is_part else {each: one for each, one in value.items() if each != _FIELD}
    unknown = sorted(others.keys() - {*_OTHERS})
    if unknown:
        raise TypeError(f"{name}.{unknown[0]} is unknown: an image has {', '.join(_OTHERS)}")
    is_address = isinstance(source, str) and source.startswith(_ADDRESSES)
    parts = [source] if isinstance(source, Mapping) else source
    if not is_address and not (isinstance(parts, list) and any(map(source_in, parts))):
        where = name if is_part else f"{name}.{_FIELD}"
        raise TypeError(
            f"{where} must be a content part with an image, a list with one, or an http(s) or data "
            "address: files are not read here"
        )
    size = others.get("size")
    if isinstance(size, list):
        others["size"] = tuple(size)
    try:
        return Image(source, **others)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
