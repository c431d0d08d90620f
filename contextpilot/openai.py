"""An OpenAI client that plans by itself.

    client = contextpilot.openai.wrap(openai.OpenAI(base_url="http://127.0.0.1:8000/v1"))
    client.chat.completions.create(model="...", messages=messages)

The messages of each chat completions or Responses call are first rewritten as by
`ContextPilot.rewrite`: sync and async, streaming, raw and parsed. Everything else that the client
does, and calls that cannot be read, are unchanged. If planning fails, the request is sent as given.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from contextpilot.awaited import AsyncContextPilot
from contextpilot.engines.usage import UsageReader
from contextpilot.pilot import ContextPilot
from contextpilot.sent import is_planned

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from contextpilot.arguments import SearchArguments
    from contextpilot.prompt.conversation.rewritten import Rewritten

logger = logging.getLogger(__name__)

_Client = TypeVar("_Client")
_RESOURCES = ("chat.completions", "beta.chat.completions", "responses")
_METHODS = ("create", "parse")
_ELSEWHERE = ("previous_response_id", "conversation", "prompt")
"""Arguments with which what stands before the messages is known to the server alone."""
_FORMS = ("response_format", "text_format", "text", "guided_json", "structured_outputs")
_NOTE = "_contextpilot"


@dataclass(frozen=True)
class Totals:
    """Sums over the calls of a wrapped client.

    Attributes:
        requests, planned, failed: calls with messages; those that were planned; those whose
            planning failed and that were sent as given.
        saved_tokens: tokens of replaced repeats, an estimate.
        prompt_tokens, cached_tokens: as the engine counted them in its answers, without streams;
            `cached_tokens` stays 0 if the engine does not report it.
    """

    requests: int = 0
    planned: int = 0
    failed: int = 0
    saved_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0


def wrap(
    client: _Client, pilot: ContextPilot | None = None, **arguments: Unpack[SearchArguments]
) -> _Client:
    """Return a client of the same kind that plans before it sends; `client` is not modified.

    Both share their connections. Clients that `with_options` returns plan, too.

    Args:
        client: an `OpenAI` or `AsyncOpenAI`, or one derived from them; openai 1.30 or newer.
        pilot: the pilot to use; share one among all clients of an engine. Default: a new one.
        arguments: `namespace`, `mode`, `scope` and options of `ContextPilot.rewrite`.

    Raises:
        TypeError, ValueError: `client` is not one, or an argument is unknown or out of range.
    """
    if not callable(getattr(client, "post", None)) or not hasattr(client, "chat"):
        kind = type(client).__name__
        raise TypeError(f"client must be an OpenAI or AsyncOpenAI client, not {kind}")
    planner = pilot or ContextPilot()
    planner.rewrite([{"role": "user", "content": ""}], **arguments)  # has it say what is wrong
    fresh: _Client = type(client).copy(client)  # type: ignore[attr-defined]
    return _Wrapper(planner, arguments).attach(fresh)


def planned(response: object) -> Rewritten | None:
    """Return what was done with the request of an answer or a stream; None if nothing was."""
    return getattr(response, _NOTE, None)


def totals(client: object) -> Totals:
    """Return the sums of a wrapped client, including those that `with_options` made from it."""
    wrapper = vars(client).get(_NOTE)
    if not isinstance(wrapper, _Wrapper):
        raise TypeError(f"client must be one that wrap returned, not {type(client).__name__}")
    return wrapper.totals


class _Prompt(NamedTuple):
    """Where the messages of a call stand: `name` is the argument that holds them."""

    name: str
    messages: list[Any] | tuple[Any, ...]
    system: str | None = None
    is_text: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> _Prompt | None:
        """Return the messages of a call; None where there are none, or not all that is sent."""
        if any(isinstance(given.get(name), (str, Mapping)) for name in _ELSEWHERE):
            return None
        instructions = given.get("instructions")
        system = instructions if isinstance(instructions, str) else None
        for name in ("messages", "input"):
            value = given.get(name)
            if isinstance(value, str):
                return cls(name, [{"role": "user", "content": value}], system, is_text=True)
            if isinstance(value, (list, tuple)):
                return cls(name, value, system)
        return None

    def sent(self, given: Mapping[str, Any], done: Rewritten) -> dict[str, Any]:
        """Return the arguments of the call with what became of its messages."""
        changed: Any = done.messages
        if self.is_text:
            changed = _Text(done.messages[0]["content"])
            changed.request_id = done.request_id
        instructions = {} if self.system is None else {"instructions": done.system}
        return {**given, self.name: changed, **instructions}


class _Text(str):
    """A prompt that is a text, and carries its id as messages do."""

    request_id: str


class _Wrapper:
    """Plans the calls of a client, and of all that is made of it. Thread-safe."""

    def __init__(self, pilot: ContextPilot, arguments: SearchArguments) -> None:
        self._pilot = pilot
        self._awaited = AsyncContextPilot(pilot)
        self._arguments = arguments
        self._totals = Totals()
        self._lock = threading.Lock()

    @property
    def totals(self) -> Totals:
        """The sums so far."""
        return self._totals

    def attach(self, client: _Client) -> _Client:
        """Have a client plan, and what `with_options` makes of it; return it."""
        original = attrgetter("copy")(client)
        is_async = inspect.iscoroutinefunction(attrgetter("post")(client))
        make = self._awaiting if is_async else self._calling
        for resource, method in _calls(client):
            setattr(resource, method, make(getattr(resource, method)))

        @functools.wraps(original)
        def copy(*args: Any, **kwargs: Any) -> Any:
            return self.attach(original(*args, **kwargs))

        vars(client).update({"copy": copy, "with_options": copy, _NOTE: self})
        return client

    def _calling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            prompt = self._prompt(kwargs)
            if prompt is None:
                return original(*args, **kwargs)
            try:
                done = self._pilot.rewrite(prompt.messages, **self._options(prompt, kwargs))
            except Exception as error:
                self._failed(error)
                return original(*args, **kwargs)
            if not done.is_rewritten:
                return original(*args, **kwargs)
            try:
                answer = original(*args, **prompt.sent(kwargs, done))
            except BaseException:
                self._pilot.unsent(done.request_id)
                raise
            return self._answered(answer, done)

        return call

    def _awaiting(self, original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(original)
        async def call(*args: Any, **kwargs: Any) -> Any:
            prompt = self._prompt(kwargs)
            if prompt is None:
                return await original(*args, **kwargs)
            try:
                options = self._options(prompt, kwargs)
                done = await self._awaited.rewrite(prompt.messages, **options)
            except Exception as error:
                self._failed(error)
                return await original(*args, **kwargs)
            if not done.is_rewritten:
                return await original(*args, **kwargs)
            try:
                answer = await original(*args, **prompt.sent(kwargs, done))
            except BaseException:  # cancelled, too: who knows what the engine holds of it
                self._pilot.unsent(done.request_id)
                raise
            return self._answered(answer, done)

        return call

    def _prompt(self, given: Mapping[str, Any]) -> _Prompt | None:
        """Return what to plan of a call; None where it goes as it is."""
        prompt = _Prompt.of(given)
        if prompt is None:
            return None
        self._add(requests=1)
        own = given[prompt.name]
        return None if getattr(own, "plan_id", "") or is_planned(own) else prompt

    def _options(self, prompt: _Prompt, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of `rewrite` for a call."""
        tools = given.get("tools")
        return {
            **self._arguments,
            "system": prompt.system,
            "tools": tools if isinstance(tools, (list, tuple)) else None,
            "response_format": {"forms": _forms(given)},
        }

    def _answered(self, answer: Any, done: Rewritten) -> Any:
        usage, prompt_tokens, cached_tokens = getattr(answer, "usage", None), 0, 0
        try:
            object.__setattr__(answer, _NOTE, done)
            if usage is not None:
                reader = UsageReader()
                reader.feed(usage.model_dump_json().encode())
                counts = reader.result()
                prompt_tokens, cached_tokens = counts.prompt_tokens or 0, counts.cached_tokens or 0
            if prompt_tokens:
                self._pilot.counted(done.request_id, prompt_tokens)
        except Exception as error:  # the answer is there, and nobody waits for our notes
            logger.debug("an answer could not be read: %r", error)
        self._add(
            planned=1,
            saved_tokens=done.saved_tokens,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
        )
        return answer

    def _failed(self, error: Exception) -> None:
        if not self._totals.failed:
            logger.warning("planning failed (%s); requests are sent as given", type(error).__name__)
        logger.debug("planning failed", exc_info=error)
        self._add(failed=1)

    def _add(self, **counts: int) -> None:
        with self._lock:
            known = self._totals
            sums = {name: getattr(known, name) + count for name, count in counts.items()}
            self._totals = replace(known, **sums)


def _calls(client: Any) -> Iterator[tuple[Any, str]]:
    """Yield the methods that send messages: what else there is leads to one of them."""
    for path in _RESOURCES:
        try:
            resource = attrgetter(path)(client)
        except AttributeError:  # not in this version
            continue
        yield from (
            (resource, name) for name in _METHODS if callable(getattr(resource, name, None))
        )


def _forms(given: Mapping[str, Any]) -> list[Any]:
    """Return all that tells the form of the answer; classes as their schemas."""
    more = given.get("extra_body")
    found = {**(more if isinstance(more, Mapping) else {}), **given}
    forms = [found[name] for name in _FORMS if name in found]
    return [one.model_json_schema() if hasattr(one, "model_json_schema") else one for one in forms]
