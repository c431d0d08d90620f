"""What the examples measure at an engine: tokens that it had cached, and the first one's time."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import measure
from pretend_engine import shared

TURNS = [measure.Turn(each, measure.retrieve(each)) for each in measure.QUESTIONS]


class Streaming(BaseHTTPRequestHandler):
    """Streams one token and the usage; a prompt's tokens are its characters."""

    prompts: list[str]

    def do_GET(self) -> None:
        self.reply({"data": [{"id": "m"}]} if self.path == "/v1/models" else {}, "")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = "".join(message["content"] for message in body["messages"])
        cached = max((shared(prompt, one) for one in self.prompts), default=0)
        self.prompts.append(prompt)
        details = {"cached_tokens": cached}
        usage = {"prompt_tokens": len(prompt), "prompt_tokens_details": details}
        self.reply({"choices": [{"delta": {"content": "x"}}]}, "data: ")
        self.wfile.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def reply(self, answer: object, before: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{before}{json.dumps(answer)}\n\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = type("Fresh", (Streaming,), {"prompts": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_engine_tells_what_it_had_cached(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given, planned = measure.compare(TURNS, engine)
    assert planned > 2 * given > 0
    assert capsys.readouterr().out.count("first token after") == 2
    again, _ = measure.compare(TURNS, f"{engine}/v1")
    assert again == pytest.approx(given, abs=0.02)  # what the run before left does not count


def test_what_is_no_engine_is_one_line(engine: str) -> None:
    with pytest.raises(SystemExit, match="does not answer as an engine does"):
        measure.compare(TURNS, "http://127.0.0.1:9")
    with pytest.raises(SystemExit, match="names no model"):
        measure.compare(TURNS, f"{engine}/elsewhere")
