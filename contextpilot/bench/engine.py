"""The engine under measurement: what it is, how large its cache is, how the cache is emptied."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contextpilot.bench.drive import Sender
from contextpilot.bench.prompts import Prompt
from contextpilot.engines.base import Cache, EngineKind, member
from contextpilot.engines.detect import EngineKinds
from contextpilot.engines.fetch import Fetch
from contextpilot.engines.registry import OTHER, all_report_flags, kind_of_owner
from contextpilot.errors import CommandError
from contextpilot.http.address import Address, quoted
from contextpilot.http.keys import checked_key
from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import BrokenAnswerError

KEY_VARIABLE = "CONTEXTPILOT_ENGINE_KEY"

_PROBE = "contextpilot bench asks twice whether the cache is reported. " * 100
"""Several blocks of any engine's cache."""


@dataclass(frozen=True)
class Facts:
    """What an engine says of itself."""

    url: str
    kind: EngineKind
    version: str
    model: str
    cache: Cache

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.kind.title} {self.version}".strip()

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as a dictionary, ready for JSON."""
        return {
            "kind": self.kind.name,
            "version": self.version,
            "model": os.path.basename(self.model),
            "cache": self.cache._asdict(),
        }


class EngineUnderTest:
    """Asks one engine for what a run has to know. For use within one event loop."""

    def __init__(self, url: str, upstream: Upstream) -> None:
        self.url = base_url(url)
        self._upstream = upstream
        self._headers = [(b"content-type", b"application/json"), *key_header(KEY_VARIABLE)]

    async def facts(
        self, model: str | None = None, cache_tokens: int | None = None, host_cache_tokens: int = 0
    ) -> Facts:
        """Ask for kind, version, model and cache.

        Args:
            model: use this one; default: the first that the engine lists.
            cache_tokens: tokens that the cache holds; default: what the engine says.
            host_cache_tokens: tokens that llama-server keeps in the host's memory besides.

        Raises:
            CommandError: it does not answer, or names no model.
        """
        status, listed = await self._ask("GET", "/v1/models")
        if status in (401, 403):
            raise CommandError(f"the engine needs an API key: set {KEY_VARIABLE}")
        listed = member(listed, "data") or []
        model = model or next((str(member(each, "id")) for each in listed), None)
        if model is None:
            raise CommandError(
                f"GET {self.url}/v1/models answers {status} and names no model: "
                "--engine takes the URL that comes before /v1; or name the model with --model"
            )
        owner = next((str(member(each, "owned_by")) for each in listed), "")
        kind = kind_of_owner(owner) or await EngineKinds(Fetch(self._upstream)).kind(self.url)
        version, cache = await kind.describe(self._ask)
        if cache_tokens is not None:
            cache = cache._replace(tokens=cache_tokens)
        if cache.num_slots is not None:
            cache = cache._replace(host_tokens=host_cache_tokens)
        return Facts(self.url, kind, version, model, cache)

    async def prove_cache_report(self, facts: Facts, sender: Sender, salt: str) -> None:
        """Send one prompt twice: the second answer has to name cached tokens.

        Engines leave the count out where nothing was cached; after this, absent means 0.

        Raises:
            CommandError: it names none; the missing flag is named.
        """
        prompt = Prompt(0, [{"role": "user", "content": f"[{salt}] {_PROBE}"}])
        await sender.send(facts.url, prompt)
        sent = await sender.send(facts.url, prompt)
        if sent.error:
            raise CommandError(f"the engine does not serve chat completions: {sent.error}")
        if not sent.cached_tokens:
            raise CommandError(_missing(facts.kind, sent.cached_tokens))

    async def reset(self, facts: Facts) -> bool:
        """Empty the cache; return whether the engine did."""
        return await facts.kind.reset(self._ask, facts.cache)

    async def count_tokens(self, facts: Facts, texts: Sequence[str]) -> list[int] | None:
        """Return the tokens of each text by the engine's tokenizer; None where it has no such API.

        Asked one after another: it is not part of what is measured.
        """
        counts = []
        for text in texts:
            names = {"model": facts.model, "prompt": text, "content": text}
            body = {**names, "add_special_tokens": False}
            status, answer = await self._ask("POST", "/tokenize", body)
            tokens = member(answer, "tokens")
            count = member(answer, "count")
            if status != 200 or not (isinstance(count, int) or isinstance(tokens, list)):
                return None
            counts.append(count if isinstance(count, int) else len(tokens))
        return counts

    async def text(self, path: str) -> str:
        """Return what it answers at a path, whatever the status."""
        _, content = await self._ask("GET", path)
        return content if isinstance(content, str) else json.dumps(content)

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and content: JSON, or text where it is none."""
        data = b"" if body is None else json.dumps(body).encode()
        try:
            async with self._upstream.open(method, self.url + path, self._headers, data) as answer:
                text = (await answer.read()).decode(errors="replace")
        except UpstreamError as error:
            raise CommandError(f"{self.url} does not answer: {error.why}") from None
        except BrokenAnswerError as error:
            raise CommandError(f"{self.url} does not answer: {error}") from None
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text


def base_url(url: str) -> str:
    """Return the URL before /v1. Raises CommandError for what is no http(s) address."""
    try:
        Address.of(url)
    except ValueError:
        text = f"{quoted(url)} is not an http(s) address: use one such as http://127.0.0.1:8000"
        raise CommandError(text) from None
    return url.strip().rstrip("/").removesuffix("/v1").rstrip("/")


def key_header(variable: str) -> list[tuple[bytes, bytes]]:
    """Return the header that carries the key of an environment variable, if it is set."""
    try:
        key = checked_key(variable, os.environ.get(variable, ""))
    except ValueError as error:
        raise CommandError(str(error)) from None
    return [(b"authorization", b"Bearer " + key.encode())] if key else []


def _missing(kind: EngineKind, cached: int | None) -> str:
    name = "the engine" if kind is OTHER else kind.title
    if cached == 0:
        without = f": launch it without {kind.uncached_flag}" if kind.uncached_flag else ""
        return (
            f"{name} reports 0 cached tokens for a prompt sent twice: its prefix cache is off"
            + (without)
        )
    fix = f"launch it with {kind.report_flag}" if kind.report_flag else all_report_flags()
    return (
        f"{name} does not report cached tokens, and hit ratios are not guessed here: {fix} "
        "(and enable its prefix cache). Or give --times-only"
    )
