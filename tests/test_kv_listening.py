"""The library on an engine's KV events: what it sends is followed, with nothing in the engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from contextpilot_hooks.prompts import PROMPTS
from kv_publisher import Publisher, removed, stored, until

import contextpilot as cp
from contextpilot import kv_listening

openai = pytest.importorskip("openai", reason="pip install openai")
BLOCKS = ["the first block of a few words", "another block of as many words"]


class _Engine(BaseHTTPRequestHandler):
    """Answers chats, and tokenizes: a token for each character of the last message."""

    version_status = 200

    def do_GET(self) -> None:
        is_version = self.path == "/version"
        self._reply({"version": "0.20.0"}, self.version_status if is_version else 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tokens = [ord(c) for c in body["messages"][-1]["content"]]
        if self.path == "/tokenize":
            self._reply({"tokens": tokens, "count": len(tokens)})
            return
        usage = {"prompt_tokens": len(tokens), "completion_tokens": 1, "total_tokens": 1}
        message = {"role": "assistant", "content": "x"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        self._reply(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [choice],
                "usage": usage,
            }
        )

    def _reply(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def engine() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Engine)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_is_sent_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_listening, "ASK_AFTER_S", 0.05)
    PROMPTS.clear()
    publisher = Publisher()
    with engine() as url, cp.ContextPilot(kv_events=f"{publisher.address},engine={url}") as pilot:
        assert publisher.is_subscribed()
        messages = pilot.optimize(BLOCKS, "why?", annotate=False)
        with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
            client.chat.completions.create(model="m", messages=[dict(m) for m in messages])
        tokens = [ord(c) for c in messages[-1]["content"]]
        whole = len(tokens) // 4 * 4
        publisher.publish(stored(range(whole // 4), tokens[:whole]))

        def held() -> int | None:
            return pilot._receiver.told_tokens(messages.request_id)

        until(lambda: held() == whole)
        [state] = pilot.engines().values()
        assert (state["sync"], state["block_size"], state["num_requests"]) == ("exact", 4, 1)
        publisher.publish(removed(2))
        until(lambda: held() == 8)
    publisher.close()
    PROMPTS.clear()


@pytest.mark.parametrize("status", [404, 503])
def test_of_an_engine_whose_kind_is_not_known_nothing_is_believed(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_listening, "ASK_AFTER_S", 0.0)
    monkeypatch.setattr(kv_listening, "_ASK_AGAIN_AFTER_S", 0.1)
    monkeypatch.setattr(_Engine, "version_status", status)
    publisher = Publisher()
    with engine() as url, cp.ContextPilot(kv_events=f"{publisher.address},engine={url}") as pilot:
        assert publisher.is_subscribed()
        listening = pilot._kv_events
        assert listening is not None
        messages = pilot.optimize(BLOCKS, "why?", annotate=False)
        tokens = [ord(c) for c in messages[-1]["content"]]
        publisher.publish(stored(range(len(tokens) // 4), tokens[: len(tokens) // 4 * 4]))
        listening.sent(messages.request_id, {"messages": list(messages), "model": "m"})
        until(lambda: listening.state()["num_requests"] == 1)
        until(lambda: "its kind" in listening.state()["refused"])
        assert not pilot._receiver.told_tokens(messages.request_id)
        monkeypatch.setattr(_Engine, "version_status", 200)
        until(lambda: not listening.state()["refused"])
        until(lambda: pilot._receiver.told_tokens(messages.request_id))
    publisher.close()


def test_a_prompt_whose_tokens_nobody_tells_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kv_listening, "ASK_AFTER_S", 0.0)
    publisher = Publisher()
    at = f"{publisher.address},engine=http://127.0.0.1:9"
    with cp.ContextPilot(kv_events=at) as pilot:
        assert publisher.is_subscribed()
        messages = pilot.optimize(BLOCKS, "why?")
        listening = pilot._kv_events
        assert listening is not None
        listening.sent(messages.request_id, {"messages": list(messages), "model": "m"})
        until(lambda: listening.state()["num_unmapped"] == 1)
        picture = [{"role": "user", "content": [{"type": "image_url"}]}]
        listening.sent("r", {"messages": picture})
        until(lambda: listening.state()["num_unmapped"] == 2)
    publisher.close()


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:5557", "tcp://*:5557,engine=http://a:1", "no"])
def test_an_address_without_whom_to_ask_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="kv_events"):
        cp.ContextPilot(kv_events=text)
