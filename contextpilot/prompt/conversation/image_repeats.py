"""Found images that stand in an earlier message already become references to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contextpilot.dedup.images import image_references
from contextpilot.dedup.shapes import with_texts
from contextpilot.prompt.extract import Arrangement, Extraction
from contextpilot.prompt.extract.extraction import at_path
from contextpilot.prompt.extract.image_group import ImagesGroup


def with_image_references(
    extraction: Extraction, messages: list[Any], arrangements: Sequence[Arrangement]
) -> tuple[list[Any], list[Arrangement]]:
    """Return arranged messages with references in their groups of images, and the arrangements.

    What becomes one depends on earlier messages alone, as they are written: images that are
    references there count no more, so that each number is one that the model can count to.
    """
    done = list(arrangements)
    for number, (group, given) in enumerate(zip(extraction.groups, arrangements, strict=False)):
        if not isinstance(group, ImagesGroup):
            continue
        before = messages[: int(group.path[0])]
        references = image_references(dict(enumerate(group.values)), before)
        done[number] = given._replace(replacements=references)
        if references:
            items = group.arranged(at_path(messages, group.path), given.order, references)
            changed: Any = {group.path: items}
            messages = with_texts(messages, changed)
    return messages, done
