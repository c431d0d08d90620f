"""Notices callers whose prompts begin anew with every request, so that none of them ever hits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from contextpilot.plan.online import Head
from contextpilot.prompt.conversation.pending import PendingRewrite
from contextpilot.prompt.messages import Message

TELLING = 5
"""So many requests in a row with new heads are no chance."""
_MAX_HEADS = 64
_MAX_NAMESPACES = 1000
_ANSWERS = ("assistant", "model", "tool", "function")


class Heads:
    """The recent heads of each namespace, by their hashes. For use on one thread."""

    def __init__(self, max_namespaces: int = _MAX_NAMESPACES) -> None:
        self._max = max_namespaces
        self._recent: OrderedDict[str, OrderedDict[int, None]] = OrderedDict()
        self._new_in_a_row: dict[str, int] = {}

    def told(
        self,
        namespace: str,
        rewrite: PendingRewrite,
        messages: Sequence[Message],
        do_blocks_recur: bool,
    ) -> dict[str, str]:
        """Note a planned request; return the reason why none of its caller's hits, if it is that.

        Args:
            messages: of the request; only first turns count.
            do_blocks_recur: its blocks were seen before.
        """
        if not is_first_turn(messages):
            return {}
        in_a_row = self.note(namespace, rewrite.head, do_blocks_recur)
        told = reason(in_a_row, rewrite.has_question_before)
        return {"reason": told} if told is not None else {}

    def note(self, namespace: str, head: Head, do_blocks_recur: bool) -> int:
        """Note a request's head; return how many in a row were new although blocks recurred."""
        recent = self._recent.setdefault(namespace, OrderedDict())
        self._recent.move_to_end(namespace)
        name = hash(head.keys)
        if name in recent or not head.keys:
            self._new_in_a_row[namespace] = 0
        elif do_blocks_recur:
            self._new_in_a_row[namespace] = self._new_in_a_row.get(namespace, 0) + 1
        recent[name] = None
        recent.move_to_end(name)
        if len(recent) > _MAX_HEADS:
            recent.popitem(last=False)
        if len(self._recent) > self._max:
            dropped, _ = self._recent.popitem(last=False)
            self._new_in_a_row.pop(dropped, None)
        return self._new_in_a_row.get(namespace, 0)


def is_first_turn(messages: Sequence[Message]) -> bool:
    """Return whether there is no answer yet: what later turns begin with is theirs alone anyway."""
    return not any(message.get("role") in _ANSWERS for message in messages[:-1])


def reason(in_a_row: int, has_question_before: bool) -> str | None:
    """Return what to tell a caller whose last requests all had new heads; None if it is chance."""
    if in_a_row < TELLING:
        return None
    told = (
        f"the text before the blocks was new in each of the last {in_a_row} requests, so none "
        "of their blocks could be cached"
    )
    if has_question_before:
        return f"{told}: omit contextpilot.query, so that the last message is the question"
    return f"{told}: move what changes behind the blocks"
