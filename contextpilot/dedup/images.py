"""Images that a prompt already holds become references to them; the texts around them stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from contextpilot.block import Block, BlockKey
from contextpilot.images.image import Image
from contextpilot.images.sources import source_in

IMAGE_HINT = "(The same image as image {number} of this conversation, counted from its beginning.)"
_MAX_DEPTH = 4
"""Of content within content: a message, a tool's result, a part."""


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
    for number, digest in enumerate(_digests(messages), start=1):
        places.setdefault(digest, number)
    return {
        block.key: block.value.shown(lambda digest: IMAGE_HINT.format(number=places[digest]))
        for block in images
        if places.keys() >= {*block.value.digests}
    }


def _digests(node: Any, depth: int = 0) -> Iterator[str]:
    """Yield what identifies each image of messages, in prompt order."""
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _digests(item, depth)
    elif isinstance(node, Mapping) and depth <= _MAX_DEPTH:
        found = source_in(node)
        if found is not None:
            yield found.digest
        elif not isinstance(node.get("content"), str):
            yield from _digests(node.get("content", node.get("output")), depth + 1)
