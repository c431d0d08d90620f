"""Blocks to chat messages, byte for byte the same for the same blocks in the same order."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, SupportsIndex, overload

from contextpilot.block import content_key
from contextpilot.images.image import ImageApi, Part, text_part
from contextpilot.prompt.citations import Citation, citations

Message = dict[str, Any]

_CACHE_MARK = "cache_control"
_ENCODER = json.JSONEncoder(sort_keys=True, default=str)


class Messages(list[Any]):
    """Messages for the OpenAI and Anthropic clients that know how they were planned.

    Lists derived from them (`[system] + messages`, slices, copies) know it, too.

    Attributes:
        order: for each position in the prompt the original rank of its block.
        hinted: original ranks of the blocks that became reference hints.
        live_tokens, total_tokens: tokens of the planned blocks that were believed to be cached
            at planning time, and of all blocks.
        saved_tokens: tokens that reference hints removed from the prompt, an estimate.
    """

    _blocks: Sequence[Any] = ()

    def __init__(
        self,
        messages: Iterable[Any] = (),
        *,
        request_id: str = "",
        order: Sequence[int] = (),
        hinted: Sequence[int] = (),
        live_tokens: int = 0,
        total_tokens: int = 0,
        saved_tokens: int = 0,
        blocks: Sequence[Any] = (),
    ) -> None:
        super().__init__(messages)
        self.plan_id = request_id
        self.order = tuple(order)
        self.hinted = tuple(hinted)
        self.live_tokens = live_tokens
        self.total_tokens = total_tokens
        self.saved_tokens = saved_tokens
        self._blocks = blocks
        self._planned = next(iter(_user_texts(self, last=True)), None)
        last = self[-1] if self else None
        content = last.get("content") if isinstance(last, Mapping) else None
        self._planned_parts = content if isinstance(content, list) else None

    @property
    def num_moved(self) -> int:
        """Blocks that are not at their original rank."""
        return sum(rank != position for position, rank in enumerate(self.order))

    def citations(self, answer: str) -> list[Citation]:
        """Return the blocks that an answer cites by the numbers of this prompt (`[3]`, `[1, 2]`).

        Raises:
            TypeError: `answer` is not a string, or these are messages of `rewrite`, in which a
                note asks the model to cite the caller's own numbers.
        """
        if not isinstance(answer, str):
            raise TypeError(f"answer must be a string, not {type(answer).__name__}")
        return citations(answer, self.order, self._blocks)

    @property
    def request_id(self) -> str:
        """The request's id for engine and index (`cp-` and 24 hex digits).

        Empty if these messages are not the planned prompt: the planned message is gone, appears
        twice, or is no longer the last user message. `plan_id` stays.
        """
        planned = self._planned
        if planned is None or not self.plan_id:
            return self.plan_id
        if self._planned_parts is not None:
            contents = [one.get("content") for one in self if _is_users(one)]
            is_last = contents[-1:] == [self._planned_parts]
            return self.plan_id if is_last and contents.count(self._planned_parts) == 1 else ""
        last = _user_texts(self, last=True)
        is_last = any(text is planned or text.startswith(planned) for text in last)
        is_once = sum(text == planned for text in _user_texts(self)) <= 1
        return self.plan_id if is_last and is_once else ""

    def _derive(self, messages: Iterable[Any]) -> Messages:
        made = type(self)(messages)
        made.__dict__.update(self.__dict__)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_blocks": ()}  # the caller's objects may be bound to a process

    def copy(self) -> Messages:
        return self._derive(self)

    __copy__ = copy

    def __add__(self, other: list[Any]) -> Messages:
        return self._derive(super().__add__(other)) if isinstance(other, list) else NotImplemented

    def __radd__(self, other: list[Any]) -> Messages:
        return self._derive([*other, *self]) if isinstance(other, list) else NotImplemented

    def __mul__(self, count: SupportsIndex) -> Messages:
        return self._derive(super().__mul__(count))

    def __rmul__(self, count: SupportsIndex) -> Messages:
        return self._derive(super().__rmul__(count))

    @overload
    def __getitem__(self, at: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> Messages: ...
    def __getitem__(self, at: SupportsIndex | slice) -> Any:
        if isinstance(at, slice):
            return self._derive(super().__getitem__(at))
        return super().__getitem__(at)


class RewrittenMessages(Messages):
    """A whole conversation that was planned: the id is that of exactly these messages.

    `request_id` is empty once the last message is a different one: that is a different prompt.
    """

    def __init__(self, messages: Iterable[Any] = (), **known: Any) -> None:
        super().__init__(messages, **known)
        self._last = _last_of(self)

    @property
    def request_id(self) -> str:
        return self.plan_id if _last_of(self) == self._last else ""

    def citations(self, answer: str) -> list[Citation]:  # noqa: ARG002
        raise TypeError("numbers that an answer to rewritten messages cites are the caller's own")


def _last_of(messages: list[Any]) -> list[Any]:
    return list.__getitem__(messages, slice(-1, None))


def _is_users(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "user"


def _user_texts(messages: Iterable[Any], *, last: bool = False) -> list[str]:
    """Return the texts of all user messages, or of the last one."""
    texts: list[str] = []
    for message in messages:
        is_mapping = isinstance(message, Mapping)
        role = message.get("role") if is_mapping else getattr(message, "role", None)
        if role == "user":
            own = message_texts([message]) if is_mapping else ()
            texts = [*own] if last else [*texts, *own]
    return texts


def new_request_id() -> str:
    """Return a self-delimiting request id, found again inside whatever an engine adds."""
    return "cp-" + secrets.token_hex(12)


def render_blocks(texts: Sequence[str]) -> str:
    """Return numbered blocks; a longer list begins with exactly the text of a shorter one."""
    return render_user(texts, "", "")


def render_parts(
    blocks: Sequence[str | Sequence[str | Part]], annotation: str, query: str, api: ImageApi
) -> list[Part]:
    """Return the user message as content parts: texts that follow each other are one part.

    Args:
        blocks: each a text, or an image's texts and content parts; the parts stay what they are.
    """
    items: list[str | Part] = []
    for label, block in zip(_numbers(len(blocks)), blocks, strict=False):
        items += [label, block] if isinstance(block, str) else [label, *block]
    items += [_numbers(len(blocks))[-1], annotation and annotation + "\n\n", query]
    parts: list[Part] = []
    texts: list[str] = []
    for item in items:
        if isinstance(item, str):
            texts.append(item)
        else:
            parts += [text_part("".join(texts), api)] if any(texts) else []
            parts.append(item)
            texts = []
    return [*parts, *([text_part("".join(texts), api)] if any(texts) else [])]


def render_user(texts: Sequence[str], annotation: str, query: str) -> str:
    """Return the user message: blocks, annotation, question."""
    parts = [""] * (2 * len(texts) + 3)
    parts[: 2 * len(texts) + 1 : 2] = _numbers(len(texts))
    parts[1 : 2 * len(texts) : 2] = texts
    parts[-2:] = annotation and annotation + "\n\n", query
    return "".join(parts)  # once: these texts are most of what a request has


@lru_cache(maxsize=64)
def _numbers(count: int) -> list[str]:
    """Return what stands before, between and after so many blocks."""
    if not count:
        return [""]
    return ["[1] ", *[f"\n\n[{number}] " for number in range(2, count + 1)], "\n\n"]


def check_history(history: Any) -> list[Message]:
    """Return `history` as a list of chat messages, or raise TypeError."""
    if history is None:
        return []
    if isinstance(history, (str, bytes, Mapping)) or not isinstance(history, Sequence):
        raise TypeError("history must be a list of chat messages (dictionaries with a role)")
    for i, message in enumerate(history):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise TypeError(f"history[{i}] must be a chat message: a dictionary with a role")
    return [dict(message) for message in history]


def message_texts(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield every text of the messages: string contents, and the text parts of lists."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, (list, tuple)):
            for part in content:
                if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                    yield part["text"]


def messages_key(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the identity of a run of messages; marks for caches are no part of it."""
    text = _ENCODER.encode(list(messages))
    if f'"{_CACHE_MARK}"' in text:  # clients move it to the newest message each turn
        text = _ENCODER.encode(_unmarked(list(messages)))
    return content_key(text)


def _unmarked(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {name: _unmarked(item) for name, item in node.items() if name != _CACHE_MARK}
    if isinstance(node, list | tuple):
        return [_unmarked(item) for item in node]
    return node
