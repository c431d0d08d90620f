"""The engine under measurement: what it is, how large its cache is, how the cache is emptied."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from contextpilot.bench.drive import Sender
from contextpilot.bench.prompts import Prompt
from contextpilot.commands.checks.cached_tokens import FLAGS
from contextpilot.engines.detect import EngineKinds, Kind
from contextpilot.errors import CommandError
from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import BrokenAnswerError

KEY_VARIABLE = "CONTEXTPILOT_ENGINE_KEY"
NAMES = {"vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama-server"}

_PROBE = "contextpilot bench asks twice whether the cache is reported. " * 100
"""Several blocks of any engine's cache."""
_CONFIG = re.compile(r"vllm:cache_config_info\{([^}]*)\}")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_OWNERS: dict[str, Kind] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp"}
_RESETS: dict[str, tuple[str, str]] = {
    "vllm": ("/reset_prefix_cache", "VLLM_SERVER_DEV_MODE=1 in the engine's environment"),
    "sglang": ("/flush_cache", ""),
}


class Cache(NamedTuple):
    """An engine's prefix cache.

    Attributes:
        tokens: that it holds; None where the engine does not tell.
        block_size: tokens that are cached as a whole.
        num_slots: prompts that it holds at most (llama-server); None for a tree of blocks.
        host_tokens: prompt tokens that the host's memory holds besides (llama-server).
    """

    tokens: int | None = None
    block_size: int = 1
    num_slots: int | None = None
    host_tokens: int = 0


@dataclass(frozen=True)
class Facts:
    """What an engine says of itself."""

    url: str
    kind: Kind
    version: str
    model: str
    cache: Cache

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{NAMES.get(self.kind, 'engine')} {self.version}".strip()

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as a dictionary, ready for JSON."""
        return {
            "kind": self.kind,
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
            raise CommandError(f"the engine asks for a key: set {KEY_VARIABLE}")
        listed = _member(listed, "data") or []
        model = model or next((str(_member(each, "id")) for each in listed), None)
        if model is None:
            raise CommandError(
                f"GET {self.url}/v1/models answers {status} and names no model: "
                "--engine takes the URL that comes before /v1; or name the model with --model"
            )
        owner = next((str(_member(each, "owned_by")) for each in listed), "")
        kind = _OWNERS.get(owner) or await EngineKinds(self._upstream, "auto").kind(self.url)
        version, cache = await self._describe(kind)
        if cache_tokens is not None:
            cache = cache._replace(tokens=cache_tokens)
        if cache.num_slots is not None:
            cache = cache._replace(host_tokens=host_cache_tokens)
        return Facts(self.url, kind, version, model, cache)

    async def _describe(self, kind: Kind) -> tuple[str, Cache]:
        if kind == "vllm":
            _, version = await self._ask("GET", "/version")
            _, metrics = await self._ask("GET", "/metrics")
            return str(_member(version, "version")), _vllm_cache(metrics)
        if kind == "sglang":
            status, info = await self._ask("GET", "/server_info")
            if status != 200:
                _, info = await self._ask("GET", "/get_server_info")
            tokens = _member(info, "max_total_num_tokens")
            size = int(_member(info, "page_size") or 1)
            return str(_member(info, "version")), Cache(int(tokens) if tokens else None, size)
        if kind == "llamacpp":
            _, props = await self._ask("GET", "/props")
            settings = _member(props, "default_generation_settings")
            slots = int(_member(props, "total_slots") or 1)
            context = int(_member(settings, "n_ctx") or 0)
            return str(_member(props, "build_info")), Cache(context * slots or None, 1, slots)
        return "", Cache()

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
        if facts.kind == "llamacpp":
            slots = range(facts.cache.num_slots or 1)
            done = [(await self._ask("POST", f"/slots/{i}?action=erase"))[0] == 200 for i in slots]
            return all(done)
        if facts.kind not in _RESETS:
            return False
        return (await self._ask("POST", _RESETS[facts.kind][0]))[0] == 200

    async def count_tokens(self, facts: Facts, texts: Sequence[str]) -> list[int] | None:
        """Return the tokens of each text by the engine's tokenizer; None where it has no such API.

        Asked one after another: it is not part of what is measured.
        """
        counts = []
        for text in texts:
            names = {"model": facts.model, "prompt": text, "content": text}
            body = {**names, "add_special_tokens": False}
            status, answer = await self._ask("POST", "/tokenize", body)
            tokens = _member(answer, "tokens")
            count = _member(answer, "count")
            if status != 200 or not (isinstance(count, int) or isinstance(tokens, list)):
                return None
            counts.append(count if isinstance(count, int) else len(tokens))
        return counts

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and content: JSON, or text where it is none."""
        data = b"" if body is None else json.dumps(body).encode()
        try:
            async with self._upstream.open(method, self.url + path, self._headers, data) as answer:
                text = (await answer.read()).decode(errors="replace")
        except (UpstreamError, BrokenAnswerError) as error:
            raise CommandError(f"{self.url} does not answer: {error}") from None
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text


def base_url(url: str) -> str:
    """Return the URL before /v1. Raises CommandError for what is no http(s) address."""
    parts = urllib.parse.urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"{url!r} is no http(s) address: for example http://127.0.0.1:8000")
    return url.strip().rstrip("/").removesuffix("/v1").rstrip("/")


def key_header(variable: str) -> list[tuple[bytes, bytes]]:
    """Return the header that carries the key of an environment variable, if it is set."""
    key = os.environ.get(variable, "")
    return [(b"authorization", b"Bearer " + key.encode())] if key else []


def reset_hint(kind: Kind) -> str:
    """Return what makes an engine's cache resettable."""
    if kind == "llamacpp":
        return "--slot-save-path DIR"
    return _RESETS.get(kind, ("", ""))[1]


def _missing(kind: Kind, cached: int | None) -> str:
    name = NAMES.get(kind, "the engine")
    if cached == 0:
        flags = {"vllm": "--no-enable-prefix-caching", "sglang": "--disable-radix-cache"}
        without = f": launch it without {flags[kind]}" if kind in flags else ""
        return (
            f"{name} reports 0 cached tokens for a prompt sent twice: its prefix cache is off"
            + (without)
        )
    flag = FLAGS.get(kind)
    fix = f"launch it with {flag}" if flag else "; ".join(f"{k}: {f}" for k, f in FLAGS.items())
    return (
        f"{name} does not report cached tokens, and hit ratios are not guessed here: {fix} "
        "(and with its prefix cache on). Or give --times-only"
    )


def _vllm_cache(metrics: Any) -> Cache:
    found = _CONFIG.search(metrics) if isinstance(metrics, str) else None
    if found is None:
        return Cache()
    labels = dict(_LABEL.findall(found[1]))
    size, blocks = labels.get("block_size", ""), labels.get("num_gpu_blocks", "")
    if not size.isdigit() or not blocks.isdigit():
        return Cache()
    return Cache((int(blocks) - 1) * int(size), int(size))  # block 0 holds nothing


def _member(content: Any, name: str) -> Any:
    found = content.get(name) if isinstance(content, dict) else None
    return "" if found is None else found
