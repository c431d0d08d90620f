"""An engine that computes nothing and counts cache hits: python examples/pretend_engine.py

The other examples talk to it when they are given no address of a real engine. A prompt's tokens are
its characters; all prompts stay in the cache.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = {"role": "assistant", "content": "It says so in [1]."}


def shared(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


class Handler(BaseHTTPRequestHandler):
    """Serves `/v1/chat/completions`."""

    protocol_version = "HTTP/1.1"
    prompts: list[str] = []  # noqa: RUF012 - what all requests leave in the cache

    def do_POST(self) -> None:
        """Answer, with the tokens that were in the cache in `usage`."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = json.dumps(body["messages"])
        cached = max((shared(prompt, one) for one in self.prompts), default=0)
        self.prompts.append(prompt)
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": 1,
            "total_tokens": len(prompt) + 1,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        choice = {"index": 0, "finish_reason": "stop", "message": ANSWER}
        kind = {"object": "chat.completion", "created": 1, "model": body["model"]}
        content = json.dumps({"id": "x", **kind, "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def pretend_engine() -> Iterator[str]:
    """Yield the address of an engine whose cache is empty."""
    handler = type("Fresh", (Handler,), {"prompts": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


if __name__ == "__main__":
    with pretend_engine() as url, contextlib.suppress(KeyboardInterrupt):
        print(f"{url} (Ctrl+C ends it)")
        threading.Event().wait()
