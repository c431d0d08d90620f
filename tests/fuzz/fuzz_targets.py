"""What any bytes must not break: one function a room that reads what strangers send.

Each takes bytes, makes of them what the room reads, and raises AssertionError, or whatever escaped,
where a promise does not hold. `scripts/fuzz.py` feeds them; the seeds beside them are kept inputs.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from fuzz_http import answer_of, requests_of

from contextpilot.dedup.messages import rewrite_messages
from contextpilot.index import ContextIndex
from contextpilot.namespace import Namespaces
from contextpilot.prompt.apis.splice import splice
from contextpilot.prompt.extract import LABELS, MODES, Arrangement, Extraction, look
from contextpilot.sync.events import parse_message
from contextpilot.sync.receiver import Owner, SyncReceiver

ROLES = ("user", "tool", "system", "assistant")
_SEARCH = {"id": "c", "type": "function", "function": {"name": "search", "arguments": "{}"}}
_MISFITS = (TypeError, ValueError)
"""What callers of the library are told of messages that are none."""
_NUM_REQUESTS = 12


# -- extraction and deduplication ----------------------------------------------------------------


def extraction(data: bytes) -> None:
    """Nothing raises, nothing is lost or invented, and what is not moved stays as it was."""
    messages, mode, labels = _conversation(data)
    before = copy.deepcopy(messages)
    found = look(messages, mode, labels=labels).extraction
    if found is not None:
        _check_extraction(found)
    try:
        rewritten, report = rewrite_messages(messages)
    except _MISFITS:
        pass
    else:
        assert report.expand() == messages
        assert len(rewritten) == len(messages)
    assert messages == before


def _check_extraction(found: Extraction) -> None:
    same = [Arrangement(range(len(group.texts))) for group in found.groups]
    assert found.arrange(same) == list(found.messages)
    back = [Arrangement(range(len(group.texts))[::-1]) for group in found.groups]
    turned = found.arrange(back)
    for was, now in zip(found.messages, turned, strict=True):
        assert Counter(_characters(was)) == Counter(_characters(now))
    found.head(back[:-1])
    assert found.tail_tokens() >= 0
    found.legend(back[-1].order)


def _conversation(data: bytes) -> tuple[list[Any], str, str]:
    """Two bytes choose how to look and whose text it is; the rest is JSON messages, or a text."""
    mode, who = (data + b"\0\0")[:2]
    text = data[2:].decode(errors="replace")
    how = MODES[mode % len(MODES)], LABELS[who // 8 % len(LABELS)]
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError):
        messages = None
    if isinstance(messages, list):
        return messages, *how
    pieces = text.split("\x1e")  # the record separator begins another message
    conversation: list[Any] = []
    for at, piece in enumerate(pieces):
        role = ROLES[(who + at) % len(ROLES)]
        if role == "tool":
            conversation.append({"role": "assistant", "content": None, "tool_calls": [_SEARCH]})
        named = {"tool_call_id": "c"} if role == "tool" else {}
        conversation.append({"role": role, "content": piece, **named})
    return conversation, *how


def _characters(message: Any) -> Iterator[str]:
    """Yield the characters of all texts of a message, wherever they stand."""
    if isinstance(message, str):
        yield from message
    elif isinstance(message, dict):
        for value in message.values():
            yield from _characters(value)
    elif isinstance(message, list):
        for value in message:
            yield from _characters(value)
    else:
        yield from repr(message)


# -- splice --------------------------------------------------------------------------------------


def splicing(data: bytes) -> None:
    """What is written means what was asked for; what did not change keeps its bytes."""
    steps, text = (data + b"\0\0\0\0")[:4], data[4:].decode(errors="replace")
    try:
        old = json.loads(text)
    except (ValueError, RecursionError):
        return
    assert splice(text, old, copy.deepcopy(old)) == text or "NaN" in json.dumps(old)
    new = _changed(copy.deepcopy(old), list(steps))
    written = splice(text, old, new)
    assert _plain(json.loads(written)) == _plain(new)
    written.encode(errors="surrogatepass")


def _changed(value: Any, steps: list[int]) -> Any:
    """Return a value with one thing changed, at a place that the steps lead to."""
    step = steps.pop() if steps else 255
    if step >= 128 or not isinstance(value, (list, dict)) or not value:
        return [None, step, "é\ud800", {"a": [step]}, [], {}, 1.0, value][step % 8]
    if isinstance(value, list):
        at = step % (len(value) + 1)
        if at == len(value):
            return [*value, step]
        return [*value[:at], _changed(value[at], steps), *value[at + 1 :]]
    at = step % (len(value) + 2)
    if at == len(value):
        return {**value, "new\n": step}
    key = list(value)[min(at, len(value) - 1)]
    if at > len(value):
        return {name: one for name, one in value.items() if name != key}
    return {**value, key: _changed(value[key], steps)}


def _plain(value: Any) -> str:
    """Return a value as a text that tells true from 1, and is equal where there is NaN."""
    return json.dumps(value, sort_keys=True)


# -- sync ----------------------------------------------------------------------------------------


def sync(data: bytes) -> None:
    """Messages are applied or refused by name; the index keeps its invariants and its bound."""
    spaces = Namespaces(60, 64, 8)
    space = spaces.get("a")
    now = [0.0]
    for number in range(_NUM_REQUESTS):
        keys = tuple(("doc", number // 2, at) for at in range(1 + number % 4)) or ("x",)
        name, ends = f"r{number}", tuple(range(8, 8 * len(keys) + 1, 8))
        space.index.insert(keys, name, ends, ends[-1] + 3)
        spaces.own(name, space)

    def owner(request: str) -> Owner | None:
        found = spaces.owner(request)
        return Owner.of(found) if found is not None else None

    receiver = SyncReceiver(
        owner, lambda: now[0], lambda: [Owner.of(one) for _, one in spaces.items()]
    )
    for line in data.split(b"\n"):
        now[0] += 1 + len(line) % 40
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        _deliver(receiver, content)
        check_tree(space.index)
        assert space.index.stats().num_blocks <= 60
    for state in receiver.engines().values():
        assert state["sync"] in ("exact", "approximate", "off")
        json.dumps(state)


def _deliver(receiver: SyncReceiver, content: Any) -> None:
    try:
        answer = receiver.take(content)
    except ValueError:
        return
    assert answer in ("ok", "resync")
    message = parse_message(content)
    for event in message.events:
        receiver.told_tokens(event.request)


def check_tree(index: ContextIndex) -> None:
    """Check that the counts of a tree are those of its nodes, and who holds them."""
    num_blocks = num_nodes = num_anchors = 0
    stack = [index._root]
    while stack:
        node = stack.pop()
        for first, child in node.children.items():
            assert child.parent is node
            assert child.keys[0] == first
            num_nodes += 1
            num_blocks += len(child.keys)
            num_anchors += child.anchors
            assert child.anchors >= 0
            stack.append(child)
    stats = index.stats()
    assert (stats.num_blocks, stats.num_nodes) == (num_blocks, num_nodes)
    held = [index._anchor(request) for request in index.requests()]
    assert num_anchors == sum(node is not None for node in held)


# -- HTTP ----------------------------------------------------------------------------------------


def http_requests(data: bytes) -> None:
    """However the bytes are cut, the application gets the same requests, and nothing escapes."""
    size, stream = 1 + (data + b"\0")[0], data[1:]
    whole, in_pieces = requests_of([stream]), requests_of(_cut(stream, size))
    same = min(len(whole.requests), len(in_pieces.requests))
    if not (whole.is_closed or in_pieces.is_closed):  # else some may not have been begun
        assert len(whole.requests) == len(in_pieces.requests), (whole, in_pieces)
    assert whole.requests[:same] == in_pieces.requests[:same], (whole, in_pieces)


def http_answers(data: bytes) -> None:
    """However the bytes are cut, an engine's answer is the same, and nothing escapes."""
    size, head, stream = 1 + (data + b"\0")[0], (data + b"\0\0")[1] % 4 == 3, data[2:]
    whole, in_pieces = answer_of([stream], head), answer_of(_cut(stream, size), head)
    assert whole == in_pieces, (whole, in_pieces)


def _cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "extraction": extraction,
    "splice": splicing,
    "sync": sync,
    "http_requests": http_requests,
    "http_answers": http_answers,
}
