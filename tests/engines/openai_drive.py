"""Call the real OpenAI client in every way and print what a server got, as one line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hooks"))

ID = "cp-0123456789abcdef01234567"
MODEL = "m"
CHAT = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
    ],
}
CHUNK = {
    "id": "x",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": MODEL,
    "choices": [
        {"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": "hi"}}
    ],
}
TEXT = {
    "id": "x",
    "object": "text_completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "text": "hi", "logprobs": None}],
}
RESPONSE = {
    "id": "x",
    "object": "response",
    "created_at": 1,
    "model": MODEL,
    "output": [],
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
}


class Messages(list):  # type: ignore[type-arg]
    """What `contextpilot.optimize` returns, as far as the hook looks."""

    request_id = ID


class Text(str):
    request_id = ID


class Upstream(BaseHTTPRequestHandler):
    """Answers like an OpenAI-compatible server and remembers what it got."""

    seen: list[dict[str, Any]] = []  # noqa: RUF012

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append({"id": headers.get("x-request-id"), "headers": headers, "body": body})
        if body.get("stream"):
            data = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n".encode()
            self._answer(data, "text/event-stream")
        else:
            kinds = {"messages": CHAT, "prompt": TEXT, "input": RESPONSE}
            reply = next(value for name, value in kinds.items() if name in body)
            self._answer(json.dumps(reply).encode(), "application/json")

    def _answer(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def one(call: Any) -> dict[str, Any]:
    """What the server got from one call, as if it were the first with this prompt."""
    forget()
    call()
    (seen,) = Upstream.seen
    return seen


def forget() -> None:
    from contextpilot_hooks.prompts import PROMPTS

    PROMPTS.clear()
    Upstream.seen.clear()


def sync_calls(client: Any, messages: Any) -> dict[str, Any]:
    chat = client.chat.completions
    plain = {"model": MODEL, "messages": list(messages)}
    ours = {"model": MODEL, "messages": messages}

    def in_parts() -> None:
        with chat.with_streaming_response.create(**ours) as response:
            response.read()

    return {
        "plain": one(lambda: chat.create(**plain)),
        "create": one(lambda: chat.create(**ours, temperature=0.5)),
        "stream": one(lambda: list(chat.create(**ours, stream=True))),
        "raw": one(lambda: chat.with_raw_response.create(**ours)),
        "streaming response": one(in_parts),
        "with_options": one(lambda: client.with_options(timeout=9).chat.completions.create(**ours)),
        "completions": one(lambda: client.completions.create(model=MODEL, prompt=Text("hello"))),
        "responses": one(lambda: client.responses.create(model=MODEL, input=messages)),
        "kept": one(
            lambda: chat.create(
                **ours,
                extra_headers={"x-request-id": "mine", "X-Other": "1"},
                extra_body={"rid": "mine", "top_k": 3},
            )
        ),
        "merged": one(
            lambda: chat.create(**ours, extra_headers={"X-Other": "1"}, extra_body={"top_k": 3})
        ),
    }


async def async_calls(client: Any, messages: Any) -> dict[str, Any]:
    ours = {"model": MODEL, "messages": messages}
    results = {}
    forget()
    await client.chat.completions.create(**ours)
    results["async create"] = Upstream.seen.pop()
    forget()
    async for _ in await client.chat.completions.create(**ours, stream=True):
        pass
    results["async stream"] = Upstream.seen.pop()
    forget()
    await client.responses.create(model=MODEL, input=messages)
    results["async responses"] = Upstream.seen.pop()
    await client.close()
    return results


def main() -> None:
    from contextpilot_hooks import importhook
    from contextpilot_hooks.openai import install, with_request_id

    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    install()
    if "openai" in sys.modules:
        raise RuntimeError("the hook imported openai itself")
    import openai

    install()
    base = {"base_url": f"http://127.0.0.1:{server.server_address[1]}/v1", "api_key": "k"}
    messages = Messages([{"role": "user", "content": "hello"}])
    seen = sync_calls(openai.OpenAI(**base), messages)
    own = openai.OpenAI(**base, default_headers={"X-Request-ID": "client"})
    seen["client header"] = one(lambda: own.chat.completions.create(model=MODEL, messages=messages))
    seen.update(asyncio.run(async_calls(openai.AsyncOpenAI(**base), messages)))
    strict = {}
    for host in ("api.openai.com", "eu.api.openai.com", "x.openai.azure.com", "api.example.com"):
        client = openai.OpenAI(api_key="k", base_url=f"https://{host}/v1")
        strict[host] = sorted(with_request_id(client, {"messages": messages}, ID))
    importhook.reset()
    undone = one(
        lambda: openai.OpenAI(**base).chat.completions.create(model=MODEL, messages=messages)
    )
    result = {
        "version": openai.__version__,
        "seen": seen,
        "strict": strict,
        "undone": undone,
        "messages": messages,
    }
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
