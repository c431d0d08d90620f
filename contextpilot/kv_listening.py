"""KV events for the library: prompts that this process sends are followed by an engine's events."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from contextpilot.engines.base import ToldLayers
from contextpilot.engines.blocking_layers import BlockingLayers
from contextpilot.engines.tokenize import PATH, tokenize_body
from contextpilot.http.blocking import BlockingHttp
from contextpilot.sync.receiver import SyncReceiver
from contextpilot.sync.sources.kv_events.address import parse_addresses
from contextpilot.sync.sources.kv_events.feed import KvFeed, Prompt, Told
from contextpilot.sync.sources.kv_events.local_tokenizer import LocalTokenizer

logger = logging.getLogger(__name__)

ASK_AFTER_S = 0.5
"""Time that a prompt has to reach its engine before the engine is asked for its tokens."""
TIMEOUT_S = 10.0
MAX_WAITING = 1024
_LOOK_EVERY_S = 0.5
_NAME = "kv-events"
_ASK_AGAIN_AFTER_S = 2.0
"""Time after which it is looked again whether an engine has to be asked for its layers."""
_NOBODY_TO_ASK = ToldLayers(
    "its events name no layers, and there is no engine to ask: add engine=", drafts=True
)
_MEMBERS = ("messages", "prompt", "model", "tools", "tool_choice", "reasoning_effort")


class KvListening:
    """Listens to one engine, and follows what is sent to it, until `close`.

    Args:
        text: where the engine publishes, with `engine=`, asked for tokens, or `tokenizer=`.

    Raises:
        ValueError: `text` is no such address.
        MissingExtraError: the extra `kv-events` is not installed.
    """

    def __init__(self, text: str, receiver: SyncReceiver) -> None:
        addresses = parse_addresses([text])
        if len(addresses) != 1 or not (addresses[0].engine or addresses[0].tokenizer):
            raise ValueError(
                "kv_events must be one address, with the engine to ask for tokens: "
                '"tcp://127.0.0.1:5557,replay=tcp://127.0.0.1:5558,engine=http://127.0.0.1:8000"'
            )
        model, url = addresses[0].tokenizer, addresses[0].engine
        self._tokenizer = LocalTokenizer(model) if model else None
        self._http = BlockingHttp(url, {}, TIMEOUT_S) if url else None
        self._layers = BlockingLayers(self._http) if self._http else None
        self._ask_again_at = 0.0
        told = Told(
            receive=receiver.receive,
            leave=partial(receiver.part, _NAME),
            has_hooks=partial(receiver.hears_others, _NAME),
            held=receiver.told_tokens,
        )
        known = self._layers.known if self._layers else lambda: _NOBODY_TO_ASK
        self._feed = KvFeed(_NAME, addresses[0], told, layers=known)
        if self._layers:
            self._layers.starts = lambda: self._feed.num_begun
        self._waiting: queue.Queue[tuple[float, str, dict[str, Any]] | None] = queue.Queue(
            MAX_WAITING
        )
        self._thread = threading.Thread(target=self._work, name="contextpilot-tokens", daemon=True)
        self._feed.start()
        self._thread.start()

    def sent(self, request_id: str, call: Mapping[str, Any]) -> None:
        """Follow the prompt of a call of a client; never waits. Any thread may call it."""
        extra = call.get("extra_body")
        body = {**(extra if isinstance(extra, Mapping) else {})}
        body.update({name: call[name] for name in _MEMBERS if call.get(name) is not None})
        try:
            self._waiting.put_nowait((time.monotonic() + ASK_AFTER_S, request_id, body))
        except queue.Full:
            self._feed.follow(Prompt(request_id, None))

    def state(self) -> dict[str, Any]:
        """Return what is known, for people."""
        return self._feed.state()

    def close(self) -> None:
        """End both threads."""
        while True:
            try:
                self._waiting.put_nowait(None)
                break
            except queue.Full:
                self._waiting.get_nowait()
        self._thread.join()
        self._feed.close()
        if self._http is not None:
            self._http.close()

    def _ask_layers(self) -> None:
        """Ask what layers the engine has, where that is not known."""
        if self._layers is None or time.monotonic() < self._ask_again_at:
            return
        self._ask_again_at = time.monotonic() + _ASK_AGAIN_AFTER_S
        self._layers.ask()

    def _work(self) -> None:
        while True:
            self._ask_layers()
            try:
                one = self._waiting.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                continue
            if one is None:
                return
            due, request_id, body = one
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                tokens = self._tokens(body)
            except Exception as error:  # it goes unfollowed, as if the engine told nothing of it
                logger.debug("the tokens of a prompt are unknown: %s", type(error).__name__)
                tokens = None
            model, salt = (str(body.get(name) or "") for name in ("model", "cache_salt"))
            self._feed.follow(Prompt(request_id, tokens, None, model, salt))

    def _tokens(self, body: Mapping[str, Any]) -> list[int] | None:
        if body.get("extra_key"):  # SGLang's events do not tell it
            return None
        asked = tokenize_body("chat" if "messages" in body else "completions", body)
        if asked is None:
            return None
        if self._tokenizer is not None:
            return self._tokenizer.tokens(asked)
        assert self._http is not None
        reply = self._http.call("POST", PATH, json.dumps(asked).encode(), TIMEOUT_S)
        found = json.loads(reply.body) if reply.status == 200 else {}
        tokens = found.get("tokens")
        return tokens if isinstance(tokens, list) else None
