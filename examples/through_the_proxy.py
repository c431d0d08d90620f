"""Any client, through the server: python examples/through_the_proxy.py

Starts `contextpilot serve` in front of a simulated engine, and asks the same questions directly and
through it. The client knows nothing of ContextPilot: it only gets a different address. Prints what
the engine reports of its cache, and what the server says of the last request.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import requests
from pretend_engine import pretend_engine
from retrieval import QUESTIONS, prompt


@contextlib.contextmanager
def serving(engine: str) -> Iterator[str]:
    """Yield the address of a server in front of an engine; at home you start it once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # a free port; by default it is 8765
        port = probe.getsockname()[1]
    serve = [sys.executable, "-m", "contextpilot", "serve", "--port", str(port), "--kind", "other"]
    server = subprocess.Popen([*serve, "--engine", engine], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while server.poll() is None:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"{url}/health", timeout=10)
                break
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


def ask(base: str) -> float:
    """Ask every question; return the share of the prompts that the engine had in its cache."""
    prompt_tokens = cached_tokens = 0
    for question in QUESTIONS:
        message = {"role": "user", "content": prompt(question)}
        body = {"model": "m", "messages": [message], "max_tokens": 1}
        answer = requests.post(f"{base}/v1/chat/completions", json=body, timeout=60)
        usage = answer.json()["usage"]
        prompt_tokens += usage["prompt_tokens"]
        cached_tokens += usage["prompt_tokens_details"]["cached_tokens"]
        told = answer.headers.get("X-ContextPilot-Result")
    print(f"in the engine's cache: {cached_tokens / prompt_tokens:.1%}", told or "as given")
    return cached_tokens / prompt_tokens


def main() -> None:
    """Ask directly, then through the server, each with an empty cache."""
    with pretend_engine() as url:
        ask(url.removesuffix("/v1"))
    with pretend_engine() as url, serving(url.removesuffix("/v1")) as server:
        ask(server)


if __name__ == "__main__":
    main()
