"""Images that a prompt already holds become references to them; the texts around them stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from contextpilot.block import Block, BlockKey
from contextpilot.images.image import Image
from contextpilot.images.sources import image_parts, source_in

_Name = TypeVar("_Name")
IMAGE_HINT = "(The same image as image {number} of this conversation, counted from its beginning.)"


def hints_for_images(
    blocks: Sequence[Block], messages: Sequence[Mapping[str, Any]]
) -> dict[BlockKey, str]:
    """Return hints for the blocks whose images all stand in messages that come before them."""
    images = {block.key: block.value for block in blocks if isinstance(block.value, Image)}
    return image_references(images, messages)


def image_references(
    images: Mapping[_Name, Image], messages: Sequence[Mapping[str, Any]]
) -> dict[_Name, str]:
    """Return by name what stands for the images that messages before them hold already.

    It is the block's text with the place of each image; images are counted over all messages, as
    the model reads them. One that was shown in another detail is another one.
    """
    if not images or not messages:
        return {}
    places: dict[tuple[str, str], int] = {}
    for number, part in enumerate(image_parts(messages), start=1):
        source = source_in(part)
        if source is not None:
            places.setdefault((source.digest, source.detail), number)
    found: dict[_Name, str] = {}
    for name, image in images.items():
        own = {source.digest: (source.digest, source.detail) for source in image.sources}
        if places.keys() >= {*own.values()} and len(own) == len({*image.sources}):
            hints = {each: IMAGE_HINT.format(number=places[own[each]]) for each in own}
            found[name] = image.shown(hints.__getitem__)
    return found
