"""The OpenAI client sends the id that its messages carry; the caller changes no line.

A request whose `messages`, `input` or `prompt` has an attribute `request_id` of our form, or holds
as its last user message what a planned prompt was written as (see `prompts`), gets

* the header `X-Request-Id` (vLLM takes its request id from it), and
* the body field `rid` (SGLang takes its request id from it), except to hosts that refuse unknown
  fields: api.openai.com with its regions, and Azure's *.openai.azure.com.

The same prompt may be sent any number of times, also at once: from the second time on the id has a
number behind it. A retry by the client is the same call, with the same id. Whoever planned a prompt
is told what stands before it, and what an answer's `usage` says of its tokens.

What the caller set under these names, in the call or on the client, is left as it is. Sync, async,
streaming, raw-response and parsed calls are covered: in openai 1.x to 3.x all lead to `create` or
`parse`, those of `beta` too.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from .guard import Guard
from .ids import is_request_id
from .importhook import attached, when_imported
from .patching import Function, NotSupported, PatchSet
from .prompts import PROMPTS
from .start import OPENAI

logger = logging.getLogger("contextpilot.hooks")

_PROMPTS = ("messages", "input", "prompt")
_CLASSES = ("Completions", "AsyncCompletions", "Responses", "AsyncResponses")
_METHODS = ("create", "parse")
_STRICT_HOSTS = ("api.openai.com", "openai.azure.com")


def install() -> None:
    """Attach now, or as soon as openai is imported. Idempotent, never raises."""
    for module in OPENAI:
        when_imported(module, "contextpilot_hooks.openai:attach")


def attach(module: ModuleType) -> None:
    """Wrap the client classes that `module` itself defines; a warning if they look unknown."""
    guard = Guard("openai: request ids")
    patches = PatchSet("openai")
    try:
        for owner in _owners(module):
            for method in _METHODS:
                if method in vars(owner):
                    parameters = ("extra_headers", "extra_body")
                    patches.wrap(owner, method, _sender(guard), parameters)
    except NotSupported as reason:
        logger.warning("contextpilot: no request ids through the OpenAI client: %s", reason)
        return
    patches.apply()
    attached(patches)


def request_id_of(kwargs: Mapping[str, Any]) -> str | None:
    """The id of the prompt that one call sends; None when it has none."""
    prompts = [kwargs[key] for key in _PROMPTS if kwargs.get(key) is not None]
    for prompt in prompts:
        found = _carried(prompt) or PROMPTS.find(prompt)
        if found is not None:
            PROMPTS.sent(found, prompt, kwargs)
            return found
    return None


def with_request_id(client: Any, kwargs: dict[str, Any], planned: str) -> dict[str, Any]:
    """The keyword arguments of one call, with the id of a planned request."""
    name = PROMPTS.sending(planned)
    changed = dict(kwargs)
    headers = kwargs.get("extra_headers") or {}
    if not _has_header(headers) and not _has_header(getattr(client, "_custom_headers", {})):
        changed["extra_headers"] = {**headers, "X-Request-Id": name}
    body = kwargs.get("extra_body") or {}
    if isinstance(body, Mapping) and "rid" not in body and not _is_strict(client):
        changed["extra_body"] = {**body, "rid": name}
    return changed


def _owners(module: ModuleType) -> list[type]:
    found = (getattr(module, name, None) for name in _CLASSES)
    return [
        owner for owner in found if isinstance(owner, type) and owner.__module__ == module.__name__
    ]


def _sender(guard: Guard) -> Any:
    def prepare(resource: Any, kwargs: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        if guard.active:
            try:
                planned = request_id_of(kwargs)
                if planned is not None:
                    return planned, with_request_id(resource._client, kwargs, planned)
            except Exception as error:
                guard.failed(error)
        return None, kwargs

    def note(planned: str, result: Any) -> None:
        try:
            tokens = _prompt_tokens(result)
            if tokens:
                PROMPTS.counted(planned, tokens)
        except Exception as error:
            guard.failed(error)

    async def noting(planned: str, result: Any) -> Any:
        answer = await result
        note(planned, answer)
        return answer

    def make(original: Function) -> Function:
        @functools.wraps(original)
        def contextpilot_send(self: Any, *args: Any, **kwargs: Any) -> Any:
            planned, changed = prepare(self, kwargs)
            result = original(self, *args, **changed)
            if planned is None:
                return result
            if inspect.iscoroutine(result):  # an async method behind a plain decorator
                return noting(planned, result)
            note(planned, result)
            return result

        @functools.wraps(original)
        async def contextpilot_send_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await contextpilot_send(self, *args, **kwargs)

        is_async = inspect.iscoroutinefunction(original)
        return contextpilot_send_async if is_async else contextpilot_send

    return make


def _prompt_tokens(result: Any) -> int:
    """The prompt tokens that an answer tells; 0 for streams and raw answers."""
    usage = getattr(result, "usage", None)
    for name in ("prompt_tokens", "input_tokens"):
        tokens = getattr(usage, name, None)
        if isinstance(tokens, int):
            return tokens
    return 0


def _carried(prompt: object) -> str | None:
    name = getattr(prompt, "request_id", None)
    return name if is_request_id(name) else None


def _has_header(headers: object) -> bool:
    return isinstance(headers, Mapping) and any(
        isinstance(name, str) and name.lower() == "x-request-id" for name in headers
    )


def _is_strict(client: Any) -> bool:
    host = str(client.base_url.host)
    return any(host == strict or host.endswith(f".{strict}") for strict in _STRICT_HOSTS)
