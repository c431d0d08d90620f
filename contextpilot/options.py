"""What a caller may set for an instance, and override for one call."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypedDict

from contextpilot.dedup.conversation import COPY_TEMPLATE, HINT_TEMPLATE
from contextpilot.images.image import IMAGE_APIS, ImageApi
from contextpilot.plan.bounds import Bounds
from contextpilot.prompt.annotate import RANKING_TEMPLATE, check_template

_BOUNDS = {"reorder": "enabled"} | {
    name: name for name in (each.name for each in fields(Bounds)) if name != "enabled"
}


class CallOptions(TypedDict, total=False):
    """The options by name, as calls take them: what each means stands at `Options` and `Bounds`."""

    reorder: bool
    pin_first: int
    max_shift: int | None
    min_gain_tokens: int
    displacement_cost: int
    anchor: str
    anchor_blocks: int
    annotate: bool | str
    deduplicate: bool
    hint_template: str
    copy_template: str
    image_api: ImageApi


@dataclass(frozen=True)
class Options:
    """How prompts are planned and written.

    Attributes:
        bounds: how far blocks may move.
        annotate: True writes the importance ranking after blocks that moved far, False does not; a
            string with the field {ranking} is the template to write.
        deduplicate: replace blocks that the prompt already holds with reference hints.
        hint_template: hint for a block of the history, with the field {first_line}.
        copy_template: hint for a repeat within one context, with the field {position}.
        image_api: format of the content parts for images: "chat" (OpenAI's), "responses" or
            "messages" (Anthropic's).
    """

    bounds: Bounds = field(default_factory=Bounds)
    annotate: bool | str = True
    deduplicate: bool = True
    hint_template: str = HINT_TEMPLATE
    copy_template: str = COPY_TEMPLATE
    image_api: ImageApi = "chat"

    def __post_init__(self) -> None:
        if isinstance(self.annotate, str):
            check_template("annotate", self.annotate, "ranking")
        elif not isinstance(self.annotate, bool):
            raise TypeError(f"annotate must be True, False or a template, not {self.annotate!r}")
        if not isinstance(self.deduplicate, bool):
            raise TypeError(f"deduplicate must be True or False, not {self.deduplicate!r}")
        check_template("hint_template", self.hint_template, "first_line")
        check_template("copy_template", self.copy_template, "position")
        if self.image_api not in IMAGE_APIS:
            raise ValueError(
                f"image_api must be of {', '.join(IMAGE_APIS)}, not {self.image_api!r}"
            )

    @property
    def ranking_template(self) -> str | None:
        """The template of the annotation; None when it is off."""
        if isinstance(self.annotate, str):
            return self.annotate
        return RANKING_TEMPLATE if self.annotate else None

    def override(self, **changes: Any) -> Options:
        """Return these options with some changed; `reorder` and the bounds are given by name."""
        if not changes:
            return self
        bounds = {_BOUNDS[name]: changes.pop(name) for name in list(changes) if name in _BOUNDS}
        if not isinstance(bounds.get("enabled", True), bool):
            raise TypeError(f"reorder must be True or False, not {bounds['enabled']!r}")
        known = [f.name for f in fields(self) if f.name != "bounds"]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            names = ", ".join([*_BOUNDS, *known])
            raise TypeError(f"unknown option {unknown[0]!r}: the options are {names}")
        return replace(self, bounds=replace(self.bounds, **bounds), **changes)
