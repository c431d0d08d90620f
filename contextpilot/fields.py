"""Where the text of a context object stands: one table, for the library and for found JSON rows.

| table | what it holds |
|---|---|
| `TEXT_FIELDS` | members and attributes that hold a text, the fullest first |
| `HOLDER_FIELDS` | members that hold the object with the text: a scored node, a point's payload |
| `ID_FIELDS` | names of a block, never its text |
| `IMAGE_FIELDS`, `IMAGE_TYPES` | what is no text, and may not be dropped |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TEXT_FIELDS = (
    *(
        "text",
        "content",
        "page_content",
        "pageContent",
        "get_content",
        "memory",
        "markdown",
        "body",
        "chunk",
    ),
    *("passage", "document", "chunk_text", "raw_content", "fact", "snippet", "summary"),
    *("excerpt", "abstract", "description", "data"),
)
METADATA_TEXT_FIELDS = TEXT_FIELDS[: TEXT_FIELDS.index("fact")]
"""What else metadata hold tells about a text, and is none."""
HOLDER_FIELDS = (
    "node",
    "document",
    "content",
    "chunk",
    "segment",
    "payload",
    "properties",
    "entity",
    "_source",
    "fields",
    "metadata",
    "meta",
)
ID_FIELDS = ("id", "node_id", "id_", "doc_id", "_id", "uuid", "chunk_id", "file_id", "memory_id")
IMAGE_FIELDS = (
    *("image", "images", "image_url", "image_path", "image_resource", "image_base64", "blob"),
    *("input_image", "audio", "video"),
)
IMAGE_TYPES = frozenset(
    ("image", "image_url", "input_image", "input_audio", "audio", "video", "video_url")
)
_METHODS = ("text", "content", "page_content", "get_content")
"""Names that may be methods without arguments; those of others do something else."""
_TEXT_TYPES = ("text", "input_text", "output_text")
_SHOWN_FIELDS = 10


def holder_of(value: Any) -> Any:
    """Return the object that a scored node wraps, else `value` itself."""
    node = _member(value, "node")
    return value if node is None or isinstance(node, (str, int)) else node


def text_of(value: Any, name: str) -> str:
    """Return the text of a context object.

    Args:
        name: what the object is called in an error.

    Raises:
        TypeError: it has no text, or an image that a text would drop; the field is named.
    """
    holder = holder_of(value)
    _check_images(holder, name)
    found = _own_text(holder, name)
    for field in HOLDER_FIELDS if found is None else ():
        inner = _member(holder, field)
        if isinstance(inner, Mapping):
            _check_images(inner, f"{name}.{field}")
            known = METADATA_TEXT_FIELDS if field in ("metadata", "meta") else TEXT_FIELDS
            found = _own_text(inner, f"{name}.{field}", known)
        if found is not None:
            break
    if found is None:
        raise TypeError(_no_text(holder, name))
    return found


def id_of(value: Any) -> str | int | None:
    """Return the id of a context object, None when it has none."""
    holder = holder_of(value)
    found = next(filter(lambda one: one is not None, (_member(holder, f) for f in ID_FIELDS)), None)
    return found if isinstance(found, (str, int)) and not isinstance(found, bool) else None


def is_bare_id(value: Any) -> bool:
    """Return whether a mapping holds an id and nothing else."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(name in ID_FIELDS for name in value) and id_of(value) is not None


def _own_text(holder: Any, name: str, known: Sequence[str] = TEXT_FIELDS) -> str | None:
    for field in known:
        found = _member(holder, field)
        if isinstance(found, str):
            return found
        if isinstance(found, Mapping) and field == "document":  # what a reranker returns
            return text_of(found, f"{name}.{field}")
        if isinstance(found, (list, tuple)) and found and field in ("content", "text"):
            return _joined(found, f"{name}.{field}")
    return None


def _joined(parts: Any, name: str) -> str:
    """Return the texts of content parts, one a line; raise TypeError where one is no text."""
    texts = []
    for i, part in enumerate(parts):
        kind, text = _member(part, "type"), _member(part, "text")
        if kind not in (None, *_TEXT_TYPES) or not isinstance(text, str):
            what = f"of type {kind!r}" if kind else f"a {type(part).__name__}"
            raise TypeError(
                f"{name}[{i}] is {what}: only parts of type text make a block; "
                "send the others in a message of their own"
            )
        texts.append(text)
    return "\n".join(texts)


def _check_images(holder: Any, name: str) -> None:
    """Raise TypeError where an object holds what a text cannot stand for."""
    kind = _member(holder, "type")
    fields = [field for field in IMAGE_FIELDS if _holds_something(_member(holder, field))]
    if fields or (isinstance(kind, str) and kind in IMAGE_TYPES):
        field = fields[0] if fields else "type"
        raise TypeError(
            f"{name}.{field} holds an image, audio or video, which a text block would drop: "
            "pass contextpilot.Image(...) for an image; others in a message of their own"
        )


def _holds_something(value: Any) -> bool:
    return (
        value is not None and not callable(value) and not (hasattr(value, "__len__") and not value)
    )


def _no_text(holder: Any, name: str) -> str:
    known = [field for field in TEXT_FIELDS if field not in ("get_content", "data")]
    identity = next((field for field in ID_FIELDS if _member(holder, field) is not None), None)
    given = f"only the id {identity!r}, which cannot replace a text" if identity else ""
    if isinstance(holder, Mapping) and holder:
        fields = ", ".join(map(str, list(holder)[:_SHOWN_FIELDS]))
        given = f"{given + '; ' if given else ''}its fields are {fields}"
    fix = f"give it a string in one of {', '.join(known)}"
    return f"{name} has no text{f' ({given})' if given else ''}: {fix}, or pass its text itself"


def _member(value: Any, name: str) -> Any:
    """Return an item of a mapping or an attribute of an object; None when it is not there."""
    if isinstance(value, Mapping):
        return value.get(name)
    found = getattr(value, name, None)
    return found() if name in _METHODS and callable(found) else found


def check_text(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")


def check_optional_text(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a string or None."""
    if value is not None:
        check_text(name, value)
