"""Blocks: identity, text and weight of one unit of context.

A block is identified by its content, so that equal text is equal in every process and on every
machine; integers (and, where only an order is asked for, bare ids) are identified by themselves.
"""

from __future__ import annotations

import hashlib
import operator
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from contextpilot.fields import id_of, is_bare_id, text_of
from contextpilot.images.image import Image
from contextpilot.tokens import text_tokens
from contextpilot.whose import whose

CHARS_PER_TOKEN = 4
"""Of English; what a text weighs is estimated by `tokens`."""
OVERHEAD_TOKENS = 3
"""Tokens that the label and the separator around a block take."""
MAX_ID_CHARS = 512
"""A longer id is kept as its hash."""
UNKNOWN_TOKENS = 256
"""Weight of a block whose text is not known (an integer or a bare id)."""

BlockKey: TypeAlias = Hashable
Tokenizer: TypeAlias = Callable[[str], int]

_MEMO_CHARS = 1 << 25
_MEMO_ENTRY_CHARS = 256
"""What an entry costs besides its text, so that many tiny texts are bounded too."""
_MAX_WEIGHTS = 100_000


class Block(NamedTuple):
    """One unit of context. `value` is what the caller passed, untouched."""

    key: BlockKey
    text: str
    weight: int
    value: Any


def content_key(text: str) -> bytes:
    """Return 16 bytes that identify `text`: the head of its SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def estimate_tokens(text: str) -> int:
    """Estimate a block's tokens from its characters, with its label."""
    return max(1, text_tokens(text)) + OVERHEAD_TOKENS


class BlockReader:
    """Turns what callers pass into blocks. Thread-safe; remembers the weights of recent texts.

    Args:
        tokenizer: returns the number of tokens of a text; without it weights are estimates.
        keeps_texts: remember recent texts themselves, so that none is hashed twice; else only
            their keys are kept.
        image_model: name of the model that reads images: what they weigh hangs on it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        *,
        keeps_texts: bool = True,
        image_model: str = "",
    ) -> None:
        if tokenizer is not None and not callable(tokenizer):
            raise TypeError("tokenizer must be a callable text -> number of tokens, or None")
        self._tokenizer = tokenizer
        self._keeps_texts = keeps_texts
        self.image_model = image_model
        self._memo: dict[str, Block] = {}
        self._memo_chars = 0
        self._weights: dict[tuple[str, bytes], int] = {}
        self._lock = threading.Lock()

    def read(
        self,
        context: Any,
        name: str = "contexts",
        *,
        bare_ids: bool = False,
        image_model: str = "",
    ) -> list[Block]:
        """Return the blocks of one context, in order.

        Args:
            bare_ids: take objects that hold an id alone; for callers that write no texts.
            image_model: name of the model that reads images, where the reader was told none.

        Raises:
            TypeError: `context` is no list of blocks, a block has no text, or kinds mix.
        """
        is_sequence = type(context) is list or isinstance(context, Sequence)
        if not is_sequence or isinstance(context, (str, bytes)):
            raise TypeError(
                f"{name} must be a list of blocks (strings, integers or objects with a text), "
                f"not {type(context).__name__}{_list_within(context)}"
            )
        kinds = {*map(type, context)}
        if kinds <= {str}:
            found = map(self._memo.get, context)
            return [block or self._read_text(text) for block, text in zip(found, context)]  # noqa: B905
        if kinds <= {int}:
            return [Block(value, str(value), UNKNOWN_TOKENS, value) for value in context]
        return self._read_objects(context, name, bare_ids, self.image_model or image_model)

    def read_batch(
        self, contexts: Any, name: str = "all_contexts", *, bare_ids: bool = False
    ) -> list[list[Block]]:
        """Return the blocks of every context of a batch. Raises TypeError as `read` does."""
        if isinstance(contexts, (str, bytes, Mapping)) or not isinstance(contexts, Sequence):
            raise TypeError(
                f"{name} must be a list of contexts, each a list of blocks, "
                f"not {type(contexts).__name__}"
            )
        return [
            self.read(context, f"{name}[{i}]", bare_ids=bare_ids)
            for i, context in enumerate(contexts)
        ]

    def read_one_or_batch(self, contexts: Any, name: str = "contexts") -> list[list[Block]]:
        """Return the blocks of a batch, or of one context as a batch of one; ids may be bare."""
        is_batch = isinstance(contexts, (list, tuple)) and (
            not contexts or any(isinstance(context, (list, tuple)) for context in contexts)
        )
        if is_batch:
            return self.read_batch(contexts, name, bare_ids=True)
        return [self.read(contexts, name, bare_ids=True)]

    def _read_text(self, text: str) -> Block:
        known = self._memo.get(text)
        if known is not None:
            return known
        key = content_key(text)
        if not self._keeps_texts:
            return Block(key, text, self._known_weight(key, text), text)
        block = Block(key, text, self._weigh(text), text)
        with self._lock:
            cost = len(text) + _MEMO_ENTRY_CHARS
            self._memo_chars += cost
            if self._memo_chars > _MEMO_CHARS:
                self._memo = {}
                self._memo_chars = cost
            self._memo[text] = block
        return block

    def _known_weight(self, key: bytes, text: str) -> int:
        owned = whose(), key
        weight = self._weights.get(owned)
        if weight is None:
            weight = self._weigh(text)
            if len(self._weights) >= _MAX_WEIGHTS:
                self._weights = {}
            self._weights[owned] = weight
        return weight

    def _weigh(self, text: str) -> int:
        if self._tokenizer is None:
            return estimate_tokens(text)
        tokens = self._tokenizer(text)
        try:
            return max(1, int(tokens)) + OVERHEAD_TOKENS
        except (TypeError, ValueError):
            raise TypeError(
                f"tokenizer must return the number of tokens, not {type(tokens).__name__}: "
                "for example len(encode(text))"
            ) from None

    def _read_objects(
        self, context: Sequence[Any], name: str, bare_ids: bool, image_model: str
    ) -> list[Block]:
        kinds = {_kind(value, f"{name}[{i}]") for i, value in enumerate(context)}
        if len(kinds - {"images"}) > 1 or {"images", "integers"} <= kinds:
            raise TypeError(
                f"{name} mixes {' and '.join(sorted(kinds))}: pass blocks of one kind in a context"
            )
        if kinds == {"integers"}:
            return [Block(int(v), str(int(v)), UNKNOWN_TOKENS, v) for v in context]
        if kinds == {"strings"}:
            return [self._read_text(str.__str__(v))._replace(value=v) for v in context]
        return [
            self._read_object(value, f"{name}[{i}]", bare_ids, image_model)
            for i, value in enumerate(context)
        ]

    def _read_object(self, value: Any, name: str, bare_ids: bool, image_model: str) -> Block:
        if isinstance(value, Image):
            weight = value.weigh(image_model) + OVERHEAD_TOKENS
            return Block(content_key(value.identity), value.identity, weight, value)
        if isinstance(value, str):
            return self._read_text(str.__str__(value))._replace(value=value)
        if bare_ids and is_bare_id(value):
            return _bare(value)
        return self._read_text(text_of(value, name))._replace(value=value)


def block_id(value: Any) -> str | int | None:
    """Return the id that the caller gave a block, or None when it has none of its own."""
    if isinstance(value, (str, bytes)):
        return None
    if isinstance(value, int):
        return value
    return id_of(value)


def _bare(value: Any) -> Block:
    identity = id_of(value)
    known = identity
    if isinstance(identity, str) and len(identity) > MAX_ID_CHARS:
        known = content_key(identity).hex()
    return Block(("id", known), str(identity), UNKNOWN_TOKENS, value)


def unique(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks without later copies of the same key, in order."""
    first: dict[BlockKey, Block] = {}
    for block in blocks:
        first.setdefault(block.key, block)
    return list(first.values())


def _list_within(context: Any) -> str:
    """Say which member of an answer, of a search or a store, holds a list, if one does."""
    members = context.items() if isinstance(context, Mapping) else ()
    held = [name for name, value in members if value and isinstance(value, list)]
    return f": pass its {held[0]!r}" if len(held) == 1 else ""


def _kind(value: Any, name: str) -> str:
    if isinstance(value, str):
        return "strings"
    if isinstance(value, Image):
        return "images"
    is_numpy_bool = getattr(getattr(value, "dtype", None), "kind", "") == "b"
    if value is None or is_numpy_bool or isinstance(value, (bool, bytes, float)):
        raise TypeError(
            f"{name} is {value!r}: a block is a string, an integer or an object with a text"
        )
    if _is_integer(value):
        return "integers"
    if isinstance(value, (list, tuple, set)):
        raise TypeError(f"{name} is a {type(value).__name__}: contexts are nested too deeply here")
    return "objects"


def _is_integer(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:  # arrays have __index__ too
        return False
    return True
