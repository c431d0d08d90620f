"""An engine with a prefix cache that tells of it, as a hook would, so that belief can be checked.

A token is a word. Full blocks of words are cached by the words before and in them; the least
recently used go first, from the ends of prompts.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from servers import Seen, send_json

BLOCK = 16
"""Words that are cached as a whole."""
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class CachingEngine:
    """What the engine holds, and what it does with the next request.

    Attributes:
        capacity: blocks that the cache holds.
        max_followed: requests that are followed; the oldest is told as unfollowed.
        index_url: where it tells of its cache.
        next: what becomes of the next request: "ok"; "refused" and "ignored" before it is read,
            "read" and then no answer.
        hits: words of each request's prompt that were cached when it came.
    """

    capacity: int
    max_followed: int = 1_000_000
    index_url: str = ""
    next: str = "ok"
    hits: list[int] = field(default_factory=list)
    epoch: int = 0
    has_told: bool = False
    _seq: int = 0
    _held: OrderedDict[int, None] = field(default_factory=OrderedDict)
    _followed: OrderedDict[str, tuple[list[int], int]] = field(default_factory=OrderedDict)
    _told: dict[str, int] = field(default_factory=dict)

    async def answer(self, seen: Seen, send: Any) -> None:
        """Answer one request."""
        words = words_of(seen.json()["messages"])
        marks = marks_of(words)
        self.hits.append(BLOCK * self._num_held(marks))
        self.has_told = False
        if self.next == "refused":
            await send_json(send, {"error": {"message": "no"}}, 401)
            return
        if self.next == "ignored":
            await asyncio.sleep(60)
        self._run(seen.headers.get("x-request-id", ""), marks, len(words))
        await asyncio.to_thread(self.tell)
        self.has_told = True
        if self.next == "read":
            await asyncio.sleep(60)
        await send_json(send, {"usage": {"prompt_tokens": len(words)}})

    def restart(self) -> None:
        """Begin with an empty cache, and tell so."""
        self.epoch, self._seq = self.epoch + 1, 0
        for known in (self._held, self._followed, self._told):
            known.clear()
        self.tell()

    def tell(self) -> None:
        """Tell what has changed since."""
        if self._post(self._changes()) == "resync":
            self._told.clear()
            assert self._post(self._changes(), snapshot=True) == "ok"

    def _run(self, request: str, marks: list[int], num_words: int) -> None:
        for mark in reversed(marks):  # the head of a prompt goes last
            self._held[mark] = None
            self._held.move_to_end(mark)
        while len(self._held) > self.capacity:
            self._held.popitem(last=False)
        self._followed[request] = marks, num_words

    def _num_held(self, marks: list[int]) -> int:
        for number, mark in enumerate(marks):
            if mark not in self._held:
                return number
        return len(marks)

    def _changes(self) -> list[dict[str, Any]]:
        events = []
        while len(self._followed) > self.max_followed:
            request, _ = self._followed.popitem(last=False)
            self._told.pop(request, None)
            events.append({"event": "unfollowed", "request": request})
        for request, (marks, num_words) in self._followed.items():
            tokens = BLOCK * self._num_held(marks)
            before = self._told.get(request, 0)
            if tokens != before:
                kind = "cached" if tokens > before else "truncated"
                event = {"event": kind, "request": request, "tokens": tokens}
                events.append({**event, "prompt_tokens": num_words})
                self._told[request] = tokens
        return events

    def _post(self, events: list[dict[str, Any]], snapshot: bool = False) -> str:
        message = {"version": 1, "engine": "e", "epoch": str(self.epoch), "seq": self._seq}
        more = {"kind": "vllm", "block_size": BLOCK, "snapshot": snapshot, "events": events}
        data = json.dumps({**message, **more}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.index_url + "/sync", data, headers)
        with _DIRECT.open(request, timeout=120) as reply:
            status: str = json.load(reply)["status"]
        self._seq += 1
        return status


def words_of(messages: list[dict[str, Any]]) -> list[str]:
    """Return the tokens of a prompt."""
    return " ".join(message["content"] for message in messages).split()


def marks_of(words: list[str]) -> list[int]:
    """Return for each full block what names it and all before it."""
    mark, marks = 0, []
    for end in range(BLOCK, len(words) + 1, BLOCK):
        mark = hash((mark, *words[end - BLOCK : end]))
        marks.append(mark)
    return marks


def held_within(messages: list[dict[str, Any]], blocks: list[str], num_words: int) -> int:
    """Return how many leading blocks of a prompt lie within its first words."""
    text = " ".join(message["content"] for message in messages)
    ends = sorted(text.index(block) + len(block) for block in blocks)
    within: Callable[[int], bool] = lambda end: len(text[:end].split()) <= num_words  # noqa: E731
    return sum(map(within, ends))
