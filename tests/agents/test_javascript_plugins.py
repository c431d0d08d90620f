"""The plugins of OpenCode and OpenClaw under node, as their hosts call them, and a real server."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from missing_agents import is_missing
from real_agents import search_path

import contextpilot
from contextpilot.agents.local_proxy import running_proxy
from contextpilot.server.settings import Settings

PLUGINS = Path(contextpilot.__file__).parent / "agents" / "plugins" / "javascript"
DRIVER = Path(__file__).with_name("drive_plugins.mjs")
NODE = shutil.which("node", path=search_path())
OPENCLAW = PLUGINS / "openclaw.js"
CLEARED = "[Old tool result content cleared]"
FILES = ["\n".join(f"{name}: {at} {at * 7919}" for at in range(40)) for name in ("one", "two")]
FILES.append(FILES[0].replace("one: 7 ", "seven: "))
"""Two files, and the first after an edit."""

pytestmark = pytest.mark.slow


class Reading(NamedTuple):
    """A file that is read; `cleared`: the host has dropped what it held."""

    file: int
    cleared: bool = False


class Driven(NamedTuple):
    out: list[Any]
    lines: list[str]
    status: str


@pytest.fixture(scope="module", autouse=True)
def node() -> None:
    if NODE is None:
        is_missing("install Node.js 20 or newer", "agents-node")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_proxy(Settings(port=0, kind="other"), lambda _: None) as url:
        yield url


def drive(host: str, path: Path, prompts: list[Any], url: str, **more: Any) -> Driven:
    job = {"host": host, "path": str(path), "prompts": prompts, "options": {"url": url}}
    job["options"] |= more.pop("options", {})
    done = subprocess.run(
        [str(NODE), str(DRIVER)],
        input=json.dumps(job | more),
        env={"HTTP_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return Driven(**json.loads(done.stdout))


def in_opencode(readings: list[Reading]) -> list[Any]:
    """The messages of a session that read these files one after the other."""
    session = {"sessionID": "s"}
    messages = [
        {
            "info": {"role": "user", **session},
            "parts": [
                {"type": "text", "text": "Compare them."},
                {"type": "file", "mime": "image/png", "url": "data:,"},
            ],
        }
    ]
    for number, (file, cleared) in enumerate(readings):
        moment = {"start": 1, "end": 2} | ({"compacted": 3} if cleared else {})
        state = {"status": "completed", "output": FILES[file], "time": moment}
        state |= {"input": {"filePath": f"{file}.txt"}, "title": "a file", "metadata": {}}
        call = {"type": "tool", "callID": f"c{number}", "tool": "read", "state": state}
        said = [{"type": "step-start"}, {"type": "text", "text": "I look."}, call]
        messages.append({"info": {"role": "assistant", **session}, "parts": said})
    return messages


def outputs(messages: list[Any]) -> list[str]:
    return [
        part["state"]["output"]
        for message in messages
        for part in message["parts"]
        if part["type"] == "tool"
    ]


def in_openclaw(readings: list[Reading]) -> list[Any]:
    """The messages of a session that read these files one after the other."""
    messages: list[Any] = [{"role": "user", "content": "Compare them.", "timestamp": 1}]
    for number, (file, _) in enumerate(readings):
        call = {"type": "toolCall", "id": f"c{number}", "name": "read", "arguments": {"path": file}}
        text = {"type": "text", "text": FILES[file]}
        messages += [
            {"role": "assistant", "content": [call], "timestamp": 1},
            {"role": "toolResult", "toolCallId": f"c{number}", "toolName": "read"}
            | {"content": [text], "isError": False, "timestamp": 1},
        ]
    return messages


def results(messages: list[Any]) -> list[str]:
    return [one["content"][0]["text"] for one in messages if one["role"] == "toolResult"]


@settings(max_examples=8)
@given(st.lists(st.integers(0, 2).map(Reading), max_size=7))
def test_each_prompt_of_opencode_extends_the_last(url: str, readings: list[Reading]) -> None:
    prompts = [in_opencode(readings[:length]) for length in range(len(readings) + 1)]
    driven = drive("opencode", PLUGINS / "opencode.js", prompts, url)
    assert driven.lines == []
    for before, after in pairwise(driven.out):
        assert after[: len(before)] == before
    for length, left in enumerate(driven.out):
        written, read = outputs(left), [FILES[one.file] for one in readings[:length]]
        for at, text in enumerate(read):
            if text == FILES[1] and text not in read[:at]:
                assert written[at] == text, "a first reading arrives whole"
            if text in read[:at]:
                assert len(written[at]) < len(text) / 2
        restored = json.loads(json.dumps(left))
        for message, number in zip(restored[1:], range(length), strict=True):
            message["parts"][-1]["state"]["output"] = read[number]
        assert restored == prompts[length], "nothing else is changed"


def test_what_is_edited_can_be_found_word_for_word(url: str) -> None:
    """After a second reading, as after an edit and a third: each line stands in the prompt."""
    readings = [Reading(0), Reading(0), Reading(2), Reading(2)]
    (left,) = drive("opencode", PLUGINS / "opencode.js", [in_opencode(readings)], url).out
    first, again, edited, _ = outputs(left)
    assert first == FILES[0]
    assert len(again) < 150
    assert "one: 7 55433" in first
    assert "seven: 55433" in edited


def test_cleared_results_and_summaries_stay(url: str) -> None:
    readings = [Reading(0, cleared=True), Reading(0), Reading(0)]
    plugin = PLUGINS / "opencode.js"
    (left,) = drive("opencode", plugin, [in_opencode(readings)], url).out
    cleared, whole, again = outputs(left)
    assert (cleared, whole) == (FILES[0], FILES[0]), "a reference would lead nowhere"
    assert "#2" in again
    driven = drive("opencode", plugin, [in_opencode(readings)], url, compacting=True)
    assert driven.out == [in_opencode(readings)]
    assert driven.status.startswith("no prompt yet")


def test_status_counts_what_was_saved(url: str) -> None:
    prompts = [in_opencode([Reading(0)] * times) for times in (1, 2, 3)]
    driven = drive("opencode", PLUGINS / "opencode.js", prompts, url)
    saved = sum(
        len(old) - len(new)
        for given, left in zip(prompts, driven.out, strict=True)
        for old, new in zip(outputs(given), outputs(left), strict=True)
    )
    assert driven.status == f"2 of 3 prompts rewritten by {url}, {saved} characters not sent"


def test_each_prompt_of_openclaw_extends_the_last(url: str) -> None:
    readings = [Reading(0), Reading(0), Reading(1), Reading(1), Reading(0)]
    prompts = [in_openclaw(readings[:length]) for length in range(6)]
    driven = drive("openclaw", OPENCLAW, prompts, url)
    for before, after in pairwise(driven.out):
        assert after[: len(before)] == before
    first, again, other, *later = results(driven.out[-1])
    assert (first, other) == (FILES[0], FILES[1]), "a first reading arrives whole"
    assert all(len(text) < 150 for text in (again, *later))
    assert driven.lines == []
    assert driven.status.startswith("4 of 6 prompts rewritten")


@pytest.mark.parametrize(
    "model",
    [
        {"api": "openai-responses", "id": "m"},
        {"api": "openai-completions", "id": "deepseek-v4-pro"},
        {"api": "openai-completions", "id": "xiaomi/mimo-v2.5"},
        {"api": "google-generative-ai", "id": "m"},
    ],
    ids=lambda model: model["id"] + "-" + model["api"],
)
def test_what_openclaw_patches_itself_is_not_wrapped(url: str, model: dict[str, str]) -> None:
    prompts = [in_openclaw([Reading(0), Reading(0)])]
    driven = drive("openclaw", OPENCLAW, prompts, url, model=model)
    assert driven.out == prompts
    assert driven.status.startswith("no prompt yet")


@pytest.fixture(
    params=["absent", "refuses", "garbage", "fewer", "other", "moved", "endless", "silent"]
)
def broken(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A server that fails, and what the line then says of it."""
    if request.param == "absent":
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        yield f"http://127.0.0.1:{port}", "ECONNREFUSED"
        return
    if request.param == "silent":
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", "no answer in 300 ms"
        return
    answers = {
        "refuses": (500, b"{}", "500"),
        "garbage": (200, b"<html>", "JSON"),
        "fewer": (200, b'{"messages": []}', "something else"),
        "other": (200, b"[]", "something else"),
        "moved": (307, b"", "redirect"),
        "endless": (200, b" " * 65_536, "too long"),
    }
    status, body, words = answers[request.param]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            is_endless = request.param == "endless"
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body) << 10 if is_endless else len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(1 << 10 if is_endless else 1):
                    self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}", words
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["opencode", "openclaw"])
def test_a_failing_server_leaves_every_prompt_as_it_is(host: str, broken: tuple[str, str]) -> None:
    url, words = broken
    session = in_opencode if host == "opencode" else in_openclaw
    prompts = [session([Reading(0)] * 3)] * 3
    driven = drive(host, PLUGINS / f"{host}.js", prompts, url, options={"timeoutMs": 300})
    assert driven.out == prompts
    (line,) = driven.lines
    assert line.startswith("contextpilot: nothing is rewritten")
    assert words in line
    assert "contextpilot serve" in line
    assert url in driven.status


def test_nobody_waits_twice_for_a_silent_server() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=9) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        prompts = [in_opencode([Reading(0)])] * 5
        drive("opencode", PLUGINS / "opencode.js", prompts, url, options={"timeoutMs": 200})
        server.settimeout(0.5)
        server.accept()[0].close()
        with pytest.raises(TimeoutError):
            server.accept()
