"""A small OpenAI-compatible engine with a prefix cache, so that every figure can be checked.

A token is a word; blocks of `block_size` words are cached by the words before and in them. It
answers in what a test says, streams, counts, and can be told to behave as other engines do.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scripted import in_thread

Answering = Callable[[list[dict[str, Any]]], str]


@dataclass
class PrefixEngine:
    """What the engine is and holds.

    Attributes:
        block_size: words that are cached as a whole.
        capacity: blocks that the cache holds; the least recently used go first.
        reports: whether usage tells of cached words (and only where there are any, as vLLM does).
        can_reset: whether POST `reset_path` is there.
        caches: whether anything is cached at all.
        answering: returns the answer to messages.
        refuses: returns an error for messages, or None.
        index_url: where it tells of what it caches; empty for nowhere.
        knows_ids: whether it tells by the ids that requests are sent with.
        owner: of its model, which tells its kind.
        reset_path: where it is reset.
        loading: so many times more it says that it is still loading.
        seen: the messages of every request.
    """

    block_size: int = 4
    capacity: int = 1_000_000
    reports: bool = True
    can_reset: bool = True
    caches: bool = True
    answering: Answering = lambda messages: "yes"
    refuses: Callable[[list[dict[str, Any]]], str | None] = lambda messages: None
    index_url: str = ""
    knows_ids: bool = True
    owner: str = "vllm"
    reset_path: str = "/reset_prefix_cache"
    loading: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    resets: int = 0
    num_told: int = 0
    url: str = ""
    _held: OrderedDict[tuple[str, ...], None] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, messages: list[dict[str, Any]]) -> tuple[int, int]:
        """Cache a prompt; return its words, and those that were cached."""
        words = words_of(messages)
        whole = range(self.block_size, len(words) + 1, self.block_size)
        with self._lock:
            hits = 0
            for end in whole:
                if tuple(words[:end]) not in self._held or end >= len(words):
                    break
                hits = end
            for end in reversed(whole):  # the head of a prompt goes last
                self._held[tuple(words[:end])] = None
                self._held.move_to_end(tuple(words[:end]))
            while len(self._held) > self.capacity or (self._held and not self.caches):
                self._held.popitem(last=False)
        return len(words), hits

    def tell(self, request_id: str, tokens: int) -> None:
        """Tell the index server of a prompt, as a hook would."""
        if not self.index_url:
            return
        name = request_id if self.knows_ids else "chatcmpl-1"
        event = {"event": "cached", "request": name, "tokens": tokens, "prompt_tokens": tokens}
        message = {"version": 1, "engine": "e", "epoch": "1", "seq": self.num_told, "kind": "vllm"}
        data = json.dumps({**message, "events": [event]}).encode()
        headers = {"Content-Type": "application/json"}
        with contextlib.suppress(OSError):  # no server yet
            request = urllib.request.Request(self.index_url + "/sync", data, headers)
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
            self.num_told += 1

    def metrics(self) -> str:
        """Return what it tells of its load, in Prometheus' text format."""
        return ""

    def reset(self) -> None:
        """Forget everything."""
        self.resets += 1
        with self._lock:
            self._held.clear()


def words_of(messages: list[dict[str, Any]]) -> list[str]:
    """Return the tokens of a prompt."""
    return " ".join(f"{message['role']} {message['content']}" for message in messages).split()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        engine = self.server.engine
        config = f'block_size="{engine.block_size}",num_gpu_blocks="{engine.capacity + 1}"'
        paths: dict[str, Any] = {
            "/v1/models": {"data": [{"id": "words", "owned_by": engine.owner}]},
            "/version": {"version": "0.0.1"},
            "/metrics": f"vllm:cache_config_info{{{config}}} 1.0\n{engine.metrics()}",
            "/health": {},
        }
        if self.path == "/health" and engine.loading:
            engine.loading -= 1
            self._reply(503, {})
        elif self.path in paths:
            self._reply(200, paths[self.path])
        else:
            self._reply(404, {})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(data) if data else None
        engine = self.server.engine
        if self.path == engine.reset_path and engine.can_reset:
            engine.reset()
            self._reply(200, {})
        elif self.path == "/tokenize":
            self._reply(200, {"count": len(body["prompt"].split())})
        elif self.path == "/v1/chat/completions":
            self._chat(body)
        else:
            self._reply(404, {})

    def _chat(self, body: Any) -> None:
        engine = self.server.engine
        engine.seen.append(body)
        error = engine.refuses(body["messages"])
        if error is not None:
            self._reply(400, {"error": {"message": error}})
            return
        total, cached = engine.run(body["messages"])
        engine.tell(self.headers.get("X-Request-Id", ""), total)
        details = {"cached_tokens": cached} if engine.reports and cached else None
        usage = {"prompt_tokens": total, "completion_tokens": 1, "prompt_tokens_details": details}
        text = engine.answering(body["messages"])
        events = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
            {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]},
            {"choices": [], "usage": usage},
        ]
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        self._reply(200, "".join(lines) + "data: [DONE]\n\n", "text/event-stream")

    def _reply(self, status: int, content: Any, kind: str = "application/json") -> None:
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    engine: PrefixEngine


@contextlib.contextmanager
def running(engine: PrefixEngine) -> Iterator[PrefixEngine]:
    """Serve an engine on a free port; its `url` is set."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.engine = engine
    engine.url = f"http://127.0.0.1:{server.server_port}"
    with in_thread(server):
        yield engine
