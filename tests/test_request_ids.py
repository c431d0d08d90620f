"""The OpenAI client, unchanged, sends the id of the messages that `optimize` returned."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import contextpilot as cp

openai = pytest.importorskip("openai", reason="pip install openai")

REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
    ],
}


@pytest.fixture
def engine() -> Iterator[tuple[str, list[tuple[Any, dict[str, Any]]]]]:
    seen: list[tuple[Any, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.headers.get("X-Request-Id"), body))
            content = json.dumps(REPLY).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
        server.shutdown()
        thread.join()


def test_ids_are_sent_and_the_prompt_is_untouched(engine: Any) -> None:
    url, seen = engine
    with (
        cp.ContextPilot(listen="127.0.0.1:0") as pilot,
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        messages = pilot.optimize(["a block", "another"], "q")
        client.chat.completions.create(model="m", messages=messages)
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert seen[0][0] == seen[0][1]["rid"] == messages.request_id
    assert seen[0][1]["messages"] == list(messages)
    assert seen[1] == (None, {"model": "m", "messages": [{"role": "user", "content": "hi"}]})
