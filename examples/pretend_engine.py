"""An engine that computes nothing and counts cache hits: python examples/pretend_engine.py

The other examples use it if they are given no address of a real engine. A prompt's tokens are its
characters; the cache keeps the latest prompts, or all of them if its room is not limited.
"""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = {"role": "assistant", "content": "It says so in [1]."}


def shared(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


class Cache:
    """The prompts that were read latest, by the ids of their requests.

    room: characters that they have together. forgot: is told the id of each that is dropped.
    """

    def __init__(self, room: float, forgot: Callable[[str], object]) -> None:
        self._room = room
        self._forgot = forgot
        self._prompts: dict[str, str] = {}

    def read(self, name: str, prompt: str) -> int:
        """Return how much of a prompt is here, and keep it."""
        cached = max((shared(prompt, one) for one in self._prompts.values()), default=0)
        self._prompts[name] = prompt
        while sum(map(len, self._prompts.values())) > self._room and len(self._prompts) > 1:
            oldest = next(iter(self._prompts))
            del self._prompts[oldest]
            self._forgot(oldest)
        return cached


class Handler(BaseHTTPRequestHandler):
    """Serves `/v1/chat/completions`, also as a stream, and `/v1/models`."""

    protocol_version = "HTTP/1.1"
    cache: Cache

    def do_GET(self) -> None:
        """Name the only model; there is nothing else to get."""
        models = {"object": "list", "data": [{"id": "m", "object": "model"}]}
        is_known = self.path == "/v1/models"
        text = json.dumps(models) if is_known else "{}"
        self.reply("application/json", text, 200 if is_known else 404)

    def do_POST(self) -> None:
        """Answer, with the tokens that were in the cache in `usage`."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
        if self.path != "/v1/chat/completions":
            self.reply("application/json", "{}", 404)
            return
        prompt = json.dumps(body["messages"])
        cached = self.cache.read(self.headers.get("X-Request-Id") or uuid.uuid4().hex, prompt)
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": 1,
            "total_tokens": len(prompt) + 1,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        kind = {"id": "x", "created": 1, "model": body["model"]}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if body.get("stream"):
            kind["object"] = "chat.completion.chunk"
            token = {**kind, "choices": [{**choice, "delta": ANSWER}]}
            events = [json.dumps(token), json.dumps({**kind, "choices": [], "usage": usage})]
            text = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
            self.reply("text/event-stream", text)
            return
        kind["object"] = "chat.completion"
        answer = {**kind, "choices": [{**choice, "message": ANSWER}], "usage": usage}
        self.reply("application/json", json.dumps(answer))

    def reply(self, kind: str, text: str, status: int = 200) -> None:
        """Send a text."""
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        with contextlib.suppress(ConnectionError):  # who asked may have gone
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def pretend_engine(
    room: float = float("inf"), forgot: Callable[[str], object] = str
) -> Iterator[str]:
    """Yield the address of an engine whose cache is empty; the arguments are those of `Cache`."""
    handler = type("Fresh", (Handler,), {"cache": Cache(room, forgot)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


if __name__ == "__main__":
    with pretend_engine() as url, contextlib.suppress(KeyboardInterrupt):
        print(f"{url} (Ctrl+C ends it)")
        threading.Event().wait()
