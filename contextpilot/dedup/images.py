"""Images that a prompt already holds become references to them; the texts around them stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contextpilot.block import Block, BlockKey
from contextpilot.images.image import Image
from contextpilot.images.sources import image_parts, source_in

IMAGE_HINT = "(The same image as image {number} of this conversation, counted from its beginning.)"


def hints_for_images(
    blocks: Sequence[Block], messages: Sequence[Mapping[str, Any]]
) -> dict[BlockKey, str]:
    """Return hints for the blocks whose images all stand in messages that come before them.

    A hint is the block's text with the place of each image; images are counted over all messages,
    as the model reads them.
    """
    images = [block for block in blocks if isinstance(block.value, Image)]
    if not images or not messages:
        return {}
    places: dict[str, int] = {}
    for number, part in enumerate(image_parts(messages), start=1):
        source = source_in(part)
        if source is not None:
            places.setdefault(source.digest, number)
    return {
        block.key: block.value.shown(lambda digest: IMAGE_HINT.format(number=places[digest]))
        for block in images
        if places.keys() >= {*block.value.digests}
    }
