"""Which request id names which prompt, for callers who rebuild the messages that carried it.

Whoever plans prompts in this process registers them here; the wrapped client finds an id again by
the content of the planned user message. An id names one request's prompt: it is found only while
the planned message is the last user message, and none is found when one text was planned for
different places (another namespace, another history).

| state                   | invariant                                                            |
|-------------------------|----------------------------------------------------------------------|
| plans: id -> plan       | at most max_prompts; the least recently registered or sent go first  |
| texts: digest -> place  | per place the id that was registered last, while it is in plans      |
| sent: id -> count       | at most max_prompts; the least recently sent go first                |
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

MAX_PROMPTS = 4096


class Listener(Protocol):
    """Whoever planned a prompt, and wants to know what becomes of it. Called on any thread."""

    def sent(self, request_id: str, before: list[str]) -> None:
        """Take the texts of the messages that stood before the planned one when it was sent."""

    def called(self, request_id: str, call: Mapping[str, Any]) -> None:
        """Take the arguments of the call that sends the prompt."""

    def counted(self, request_id: str, prompt_tokens: int) -> None:
        """Take the tokens of the whole prompt, as the engine counted them."""


class _Plan(NamedTuple):
    digest: bytes
    place: Hashable
    listener: Listener | None


class Prompts:
    """Planned prompts by content and by id. Thread-safe, bounded; no text is kept."""

    def __init__(self, max_prompts: int = MAX_PROMPTS) -> None:
        if max_prompts < 1:
            raise ValueError(f"max_prompts must be at least 1, got {max_prompts}")
        self._max = max_prompts
        self._plans: OrderedDict[str, _Plan] = OrderedDict()
        self._texts: dict[bytes, dict[Hashable, str]] = {}
        self._sent: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def register(
        self, text: str, request_id: str, place: Hashable = None, listener: Listener | None = None
    ) -> None:
        """Note that `text` is the planned user message of a request.

        Args:
            place: equal for requests whose ids are as good as each other's for the same text.
            listener: told of the prompt when it is sent, and when it is answered.
        """
        plan = _Plan(_digest(text), place, listener)
        with self._lock:
            self._drop(request_id)
            self._plans[request_id] = plan
            self._texts.setdefault(plan.digest, {})[place] = request_id
            while len(self._plans) > self._max:
                self._drop(next(iter(self._plans)))

    def find(self, prompt: object) -> str | None:
        """Return the id of the request whose prompt this is: chat messages, or a text."""
        if isinstance(prompt, str):
            return self._find(prompt)
        if not isinstance(prompt, (list, tuple)) or not self._plans:
            return None
        users = [list(_texts(message)) for message in prompt if _role(message) == "user"]
        for text in users[-1] if users else ():
            found = self._find(text)
            if found is not None:
                is_repeated = any(text in earlier for earlier in users[:-1])
                return None if is_repeated else found
        return None

    def sent(self, request_id: str, prompt: object, call: Mapping[str, Any] | None = None) -> None:
        """Tell whoever planned a request what stands before its planned message.

        Args:
            call: the arguments of the whole call, for those who want them.
        """
        plan = self._plans.get(request_id)
        if plan is None or plan.listener is None:
            return
        if call is not None:
            plan.listener.called(request_id, call)
        if not isinstance(prompt, (list, tuple)):
            return
        last = max((i for i, one in enumerate(prompt) if _role(one) == "user"), default=0)
        plan.listener.sent(request_id, [text for one in prompt[:last] for text in _texts(one)])

    def sending(self, request_id: str) -> str:
        """Return the id to send: engines refuse one that is in flight, so each is sent once.

        Further ones have a number behind them, and name the same request to the index.
        """
        with self._lock:
            count = self._sent.pop(request_id, 0) + 1
            self._sent[request_id] = count
            if len(self._sent) > self._max:
                self._sent.popitem(last=False)
            if request_id in self._plans:
                self._plans.move_to_end(request_id)
        return request_id if count == 1 else f"{request_id}-{count}"

    def counted(self, request_id: str, prompt_tokens: int) -> None:
        """Pass on how many tokens the engine counted in a request's prompt."""
        plan = self._plans.get(request_id)
        if plan is not None and plan.listener is not None:
            plan.listener.counted(request_id, prompt_tokens)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._plans.clear()
            self._texts.clear()
            self._sent.clear()

    def __len__(self) -> int:
        return len(self._plans)

    def _find(self, text: str) -> str | None:
        places = self._texts.get(_digest(text))
        if places is None:
            return None
        with self._lock:
            return next(iter(places.values())) if len(places) == 1 else None

    def _drop(self, request_id: str) -> None:
        plan = self._plans.pop(request_id, None)
        if plan is None:
            return
        places = self._texts.get(plan.digest, {})
        if places.get(plan.place) == request_id:
            del places[plan.place]
            if not places:
                del self._texts[plan.digest]


PROMPTS = Prompts()
"""Those of this process."""


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _role(message: Any) -> Any:
    if isinstance(message, Mapping):
        return message.get("role")
    return getattr(message, "role", None)


def _texts(message: Any) -> Iterator[str]:
    """Yield the texts of a message: its content, or the text parts of it."""
    holder = isinstance(message, Mapping)
    content = message.get("content") if holder else getattr(message, "content", None)
    if isinstance(content, str):
        yield content
    elif isinstance(content, (list, tuple)):
        for part in content:
            text = part.get("text") if isinstance(part, Mapping) else None
            if isinstance(text, str):
                yield text
