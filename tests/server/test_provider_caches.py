"""What clouds keep: learnt from the usage that they tell, by providers with a clock of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import pytest
from servers import Client, Scripted, Seen, Start, send_json, wait_until

from contextpilot.server.pool import member
from contextpilot.server.pool import sync_by_age as ttl

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
MINUTE, HOUR = 60.0, 3600.0
BLOCKS = [f"Document {name}: " + f"facts about {name}. " * 300 for name in "ab"]
MIN_TOKENS = 1024


@dataclass
class Provider:
    """A prefix cache: texts with the time when they go. A token is four characters.

    Attributes:
        lives: seconds that a prefix lives, by what was asked for.
        keeps: whether it writes anything.
        gives_hours: whether it heeds what is asked for.
    """

    now: float = 0.0
    lives: dict[str, float] = field(default_factory=dict)
    keeps: bool = True
    gives_hours: bool = True
    held: dict[str, tuple[float, str]] = field(default_factory=dict)

    def hit(self, prefixes: list[str]) -> int:
        """Return the tokens of the longest prefix that is there, and refresh it."""
        found = 0
        for prefix in prefixes:
            end, asked = self.held.get(prefix, (0.0, ""))
            if end > self.now:
                self.held[prefix] = (self.now + self.lives[asked], asked)
                found = max(found, len(prefix) // 4)
        return found

    def write(self, prefix: str, asked: str) -> None:
        if self.keeps and len(prefix) // 4 >= MIN_TOKENS:
            self.held[prefix] = (self.now + self.lives[asked], asked)


class OpenAI(Provider):
    """Keeps every prompt; what is shared with any of them hits."""

    async def answer(self, seen: Seen, send: Any) -> None:
        body = seen.json()
        text = "".join(str(message["content"]) for message in body["messages"])
        live = [one for one, (end, _) in self.held.items() if end > self.now]
        cached = max((_common(text, one) // 4 // 128 * 128 for one in live), default=0)
        self.write(text, body.get("prompt_cache_retention", ""))
        details = {"cached_tokens": cached if cached >= MIN_TOKENS else 0}
        usage = {"prompt_tokens": len(text) // 4, "prompt_tokens_details": details}
        await send_json(send, {"usage": usage})


class Anthropic(Provider):
    """Keeps what ends at a mark, and looks for nothing else."""

    async def answer(self, seen: Seen, send: Any) -> None:
        body = seen.json()
        text, marked = "", []
        for part in _parts(body):
            text += part["text"]
            if "cache_control" in part:
                asked = part["cache_control"].get("ttl", "5m")
                marked.append((text, asked if self.gives_hours else "5m"))
        read = self.hit([prefix for prefix, _ in marked])
        written = dict.fromkeys(("5m", "1h"), 0)
        end = read
        for prefix, asked in marked:
            if len(prefix) // 4 > end:
                self.write(prefix, asked)
                written[asked] += (len(prefix) // 4 - end) * (prefix in self.held)
                end = len(prefix) // 4
        usage = {
            "input_tokens": len(text) // 4 - read - sum(written.values()),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": sum(written.values()),
            "cache_creation": {f"ephemeral_{a}_input_tokens": n for a, n in written.items()},
        }
        await send_json(send, {"type": "message", "usage": usage})


def _common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _parts(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    contents = [body.get("system", ""), *(one["content"] for one in body["messages"])]
    for content in contents:
        yield from [{"text": content}] if isinstance(content, str) else content


class Place:
    """Our server before a provider, both on the provider's clock."""

    def __init__(self, provider: Provider, client: Client, path: str) -> None:
        self.provider = provider
        self.client = client
        self.path = path

    def live(self, blocks: list[str] = BLOCKS, **members: Any) -> int:
        """Send blocks; return how many of them were believed to be there."""
        body = {"messages": [{"role": "user", "content": "q"}], **members}
        reply = self.client.post(self.path, {**body, "contextpilot": {"contexts": blocks}})
        count: int = reply.result["live_blocks"]
        return count

    def say(self, texts: list[str], **members: Any) -> None:
        """Send a conversation in which nothing can be planned."""
        roles = ("user", "assistant")
        messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
        reply = self.client.post(self.path, {"messages": messages, **members})
        assert reply.result["status"] != "planned"

    @property
    def ttl_s(self) -> float:
        (engine,) = self.client.get("/health").json()["engines"]
        seconds: float = engine["ttl_s"]
        return seconds


@pytest.fixture
def place(
    upstream: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Place]:
    def make(kind: str, lives: dict[str, float], **settings: Any) -> Place:
        provider = {"openai": OpenAI, "anthropic": Anthropic}[kind](lives=lives)
        synced = ttl.SyncByAge
        monkeypatch.setattr(
            member, "SyncByAge", lambda spaces: synced(spaces, lambda: provider.now)
        )
        upstream.answer = provider.answer
        client = start(engine=(upstream.url,), kind=kind, anchor="none", **settings)
        return Place(provider, client, CHAT if kind == "openai" else MESSAGES)

    return make


def anthropic(minutes: float = 5 * MINUTE) -> dict[str, float]:
    return {"5m": minutes, "1h": HOUR}


def test_an_hour_that_was_asked_for_is_believed_from_the_start(place: Callable[..., Place]) -> None:
    asking = place("anthropic", anthropic(), long_retention=True)
    assert asking.live() == 0
    asking.provider.now = 59 * MINUTE
    assert asking.live() == 2
    assert asking.ttl_s == HOUR
    asking.provider.now += HOUR + 1
    assert asking.live() == 0


def test_a_day_that_was_asked_for_is_believed_from_the_start(place: Callable[..., Place]) -> None:
    asking = place("openai", {"": 5 * MINUTE, "24h": 24 * HOUR}, long_retention=True)
    assert asking.live() == 0
    asking.provider.now = 23 * HOUR
    assert asking.live() == 2
    asking.provider.now += 24 * HOUR + 1
    assert asking.live() == 0


def test_an_hour_that_was_not_given_is_not_believed(place: Callable[..., Place]) -> None:
    """A gateway writes for five minutes, whatever it is asked for."""

    asking = place("anthropic", anthropic(), long_retention=True)
    asking.provider.gives_hours = False
    assert asking.live() == 0
    asking.provider.now = 4 * MINUTE
    assert asking.live() == 2
    asking.provider.now += 5 * MINUTE + 1
    assert asking.live() == 0


def test_what_was_not_written_is_not_believed(place: Callable[..., Place]) -> None:
    asking = place("anthropic", anthropic())
    asking.provider.keeps = False
    assert [asking.live() for _ in range(3)] == [0, 0, 0]
    asking.provider.keeps = True
    assert [asking.live() for _ in range(2)] == [0, 2]


def test_marks_of_the_caller_tell_what_is_kept(place: Callable[..., Place]) -> None:
    asking = place("anthropic", anthropic())
    mark = {"type": "ephemeral", "ttl": "1h"}
    system = [{"type": "text", "text": "Be brief, please. " * 450, "cache_control": mark}]
    assert asking.live(system=system) == 0
    assert asking.live(system=system) == 0, "the mark ends before the blocks"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_miss_takes_back_what_was_believed(place: Callable[..., Place], kind: str) -> None:
    asking = place(kind, {"": 5 * MINUTE, **anthropic()})
    assert [asking.live(), asking.live()] == [0, 2]
    asking.provider.held.clear()
    asking.provider.keeps = False
    assert asking.live() == 2, "nobody told yet"
    assert asking.live() == 0
    asking.provider.keeps = True
    asking.live()
    asking.live()
    assert asking.live() == 2, "hits bring it back"


def test_short_prompts_are_not_in_the_cache_of_who_keeps_none(place: Callable[..., Place]) -> None:
    asking = place("openai", {"": 5 * MINUTE})
    short = [f"Document {name}: " + "facts " * 30 for name in "ab"]
    assert [asking.live(short) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_conversations_in_which_nothing_is_planned_teach_as_well(
    place: Callable[..., Place], kind: str
) -> None:
    lives = {"": 20 * MINUTE, "5m": 20 * MINUTE, "1h": HOUR}
    asking = place(kind, lives)
    texts = ["Why? " * 2000]
    for _ in range(12):
        asking.say(texts)
        texts += ["Because. " * 300, "And then? " * 100]
        asking.provider.now += 11 * MINUTE
    assert 11 * MINUTE < asking.ttl_s <= 45 * MINUTE
    asking.provider.lives = {"": 40.0, "5m": 40.0, "1h": HOUR}
    for _ in range(40):
        asking.say(texts)
        texts += ["Because. " * 300, "And then? " * 100]
        asking.provider.now += asking.ttl_s * 0.6
    assert asking.ttl_s < 2 * MINUTE
    asking.provider.lives = {"": 1.0, "5m": 1.0, "1h": HOUR}
    for _ in range(60):
        asking.say(texts)
        asking.provider.now += asking.ttl_s * 0.6
    assert asking.ttl_s >= ttl.MIN_TTL_S


def test_a_broken_answer_tells_nothing_but_that_it_was_read(
    upstream: Scripted, place: Callable[..., Place]
) -> None:
    asking = place("openai", {"": 5 * MINUTE})
    whole = upstream.answer

    async def broken(seen: Seen, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"content-length", b"900")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        event = {"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 3000}}
        event["usage"] |= {"prompt_tokens_details": {"cached_tokens": 0}}
        data = f"data: {json.dumps(event)}\n\n".encode()
        await send({"type": "http.response.body", "body": data, "more_body": True})
        raise ConnectionError

    assert [asking.live(), asking.live()] == [0, 2]
    upstream.answer = broken
    with pytest.raises(Exception, match=r".*"):
        asking.live()
    upstream.answer = whole
    wait_until(lambda: asking.client.get("/health").json()["engines"][0]["in_flight"] == 0)
    assert asking.live() == 2
    assert asking.ttl_s == ttl.DEFAULT_TTL_S


async def stream(send: Any, *pieces: bytes, pause: Callable[[], None] = lambda: None) -> None:
    """Send events, with something done between the first and the others."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for at, piece in enumerate(pieces):
        data = b"data: " + piece + b"\n\n"
        await send({"type": "http.response.body", "body": data, "more_body": True})
        if at == 0:
            await asyncio.sleep(0.05)  # it is passed on meanwhile
            pause()
    await send({"type": "http.response.body", "body": b""})


def test_a_day_is_believed_of_streams_that_tell_no_usage(
    upstream: Scripted, place: Callable[..., Place]
) -> None:
    asking = place("openai", {"": 5 * MINUTE, "24h": 24 * HOUR}, long_retention=True)

    async def answer(seen: Seen, send: Any) -> None:
        await stream(send, b'{"choices": [{"delta": {"content": "a"}}]}', b"[DONE]")

    upstream.answer = answer
    assert asking.live() == 0
    asking.provider.now = 23 * HOUR
    assert asking.live() == 2


def test_a_prefix_lives_from_when_it_was_read(
    upstream: Scripted, place: Callable[..., Place]
) -> None:
    """Not from the end of a long answer."""
    asking = place("openai", {"": 5 * MINUTE})

    def later() -> None:
        asking.provider.now += 4 * MINUTE

    async def answer(seen: Seen, send: Any) -> None:
        usage = {"prompt_tokens": 4000, "prompt_tokens_details": {"cached_tokens": 0}}
        first = b'{"choices": [{"delta": {"content": "a"}}]}'
        last = json.dumps({"choices": [], "usage": usage}).encode()
        await stream(send, first, last, b"[DONE]", pause=later)

    upstream.answer = answer
    assert asking.live() == 0
    asking.provider.now = 5 * MINUTE + 1
    assert asking.live() == 0
