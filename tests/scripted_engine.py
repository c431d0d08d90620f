"""An engine over real sockets that keeps what the clients of OpenAI and Anthropic send."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "{}"}}
    ],
    "usage": {"prompt_tokens": 50, "completion_tokens": 1, "total_tokens": 51},
}
CHUNK = {
    **CHAT,
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "finish_reason": "stop", "delta": {"content": "x"}}],
    "usage": None,
}
RESPONSE = {
    "id": "x",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "output": [],
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
}
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "x"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 50, "output_tokens": 1},
}


@dataclass
class Engine:
    """What an OpenAI-compatible server got: ids by header and by body, and the bodies."""

    url: str = ""
    seen: list[tuple[str | None, dict[str, Any]]] = field(default_factory=list)
    failures: int = 0

    def ids(self) -> list[str | None]:
        """Return the ids that were sent, by header and by body alike."""
        ids = [(header, body.get("rid")) for header, body in self.seen]
        assert all(header == rid for header, rid in ids)
        return [header for header, _ in ids]


@contextlib.contextmanager
def scripted_engine() -> Iterator[Engine]:
    """Run an engine that answers at OpenAI's and Anthropic's paths and keeps what it is sent."""
    told = Engine()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.seen.append((self.headers.get("X-Request-Id"), body))
            if told.failures:
                told.failures -= 1
                self.answer(503, b"{}")
            elif body.get("stream"):
                self.answer(200, f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n".encode(), "event")
            else:
                is_anthropic = self.path.endswith("/v1/messages")
                kind = ANTHROPIC if is_anthropic else RESPONSE if "input" in body else CHAT
                self.answer(200, json.dumps(kind).encode())

        def answer(self, status: int, content: bytes, kind: str = "json") -> None:
            self.send_response(status)
            types = {"json": "application/json", "event": "text/event-stream"}
            self.send_header("Content-Type", types[kind])
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Retry-After-Ms", "1")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        yield told
        server.shutdown()
        thread.join()
