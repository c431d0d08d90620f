"""Found images that stand in an earlier message already become references to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from contextpilot.dedup.images import image_references
from contextpilot.dedup.shapes import with_texts
from contextpilot.prompt.extract import Arrangement, Extraction
from contextpilot.prompt.extract.extraction import at_path
from contextpilot.prompt.extract.image_group import ImagesGroup
from contextpilot.tokens import text_tokens


class Referenced(NamedTuple):
    """Messages with references in their groups of images, how these are arranged, what it saved."""

    messages: list[Any]
    arrangements: list[Arrangement]
    saved_tokens: int


def with_image_references(
    extraction: Extraction, messages: list[Any], arrangements: Sequence[Arrangement], model: str
) -> Referenced:
    """Return arranged messages with references in their groups of images.

    What becomes one depends on earlier messages alone, as they are written: images that are
    references there count no more, so that each number is one that the model can count to.

    Args:
        model: the name of the one that reads them: what they weigh hangs on it.
    """
    done, saved = list(arrangements), 0
    for number, (group, given) in enumerate(zip(extraction.groups, arrangements, strict=False)):
        if not isinstance(group, ImagesGroup):
            continue
        before = messages[: int(group.path[0])]
        images = dict(enumerate(group.values))
        references = image_references(images, before)
        for rank, reference in references.items():
            saved += max(0, images[rank].weigh(model) - text_tokens(reference))
        done[number] = given._replace(replacements=references)
        if references:
            items = group.arranged(at_path(messages, group.path), given.order, references)
            changed: Any = {group.path: items}
            messages = with_texts(messages, changed)
    return Referenced(messages, done, saved)
