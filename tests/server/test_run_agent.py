"""`contextpilot run`: a real agent process behind a real proxy, and a summary that is true."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Scripted, Seen, free_port, send_json, serving

from contextpilot.agents.known import OPENAI, launch, upstreams

pytestmark = pytest.mark.slow

AGENT = '''
"""Reads a file twice, says what it read, and keeps the conversation, as agents do."""
import json, os, sys, time, urllib.request

style, turns = sys.argv[1], int(sys.argv[2])
page = "\\n".join(f"line {i}: the ferry leaves at {i} past" for i in range(60))
base = os.environ["ANTHROPIC_BASE_URL"] if style == "anthropic" else os.environ["OPENAI_BASE_URL"]
messages = [{"role": "user", "content": "Compare the two files."}]
for turn in range(turns):
    system = "You are careful."
    if style == "clock":
        system += f" It is 2026-11-26 10:0{turn}."
    if style == "anthropic":
        path = "/v1/messages"
        body = {"model": "m", "max_tokens": 9, "system": system, "messages": messages}
    else:
        path = "/chat/completions"
        body = {"model": "m", "messages": [{"role": "system", "content": system}, *messages]}
    request = urllib.request.Request(
        base + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        json.load(reply)
    call = {"name": "read_file", "arguments": json.dumps({"path": "alpha.txt"})}
    if style == "anthropic":
        use = {"type": "tool_use", "id": f"t{turn}", "name": "read_file", "input": {"path": "a"}}
        result = {"type": "tool_result", "tool_use_id": f"t{turn}", "content": page}
        messages.append({"role": "assistant", "content": [use]})
        messages.append({"role": "user", "content": [result]})
    else:
        calls = [{"id": f"c{turn}", "type": "function", "function": call}]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages.append({"role": "tool", "tool_call_id": f"c{turn}", "content": page})
print("done", flush=True)
if style == "stays":
    time.sleep(60)
sys.exit(7 if style == "fails" else 0)
'''


async def answer(seen: Seen, send: Any) -> None:
    """Answer as the API does; three quarters of each prompt come from the cache."""
    if seen.target == "/v1/messages":
        usage = {"input_tokens": 25, "cache_read_input_tokens": 75, "output_tokens": 1}
        content = [{"type": "text", "text": "ok"}]
        await send_json(send, {"type": "message", "content": content, "usage": usage})
        return
    details = {"cached_tokens": 75}
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": details}
    choices = [{"index": 0, "message": {"role": "assistant", "content": "ok"}}]
    await send_json(send, {"choices": choices, "usage": usage})


def command_of(
    tmp_path: Path, *agent: object, flags: tuple[object, ...] = (), **variables: str
) -> tuple[list[str], dict[str, str]]:
    script = tmp_path / "an agent.py"
    script.write_text(AGENT)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "ANTHROPIC_")) and not name.lower().endswith("_proxy")
    }
    command = [sys.executable, "-m", "contextpilot", "run", *map(str, flags), "--"]
    return [*command, sys.executable, str(script), *map(str, agent)], {**inherited, **variables}


def run_agent(tmp_path: Path, *agent: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command, env = command_of(tmp_path, *agent, **more)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def chars(content: Any) -> int:
    return len(json.dumps(content, separators=(",", ":"), ensure_ascii=False))


def test_summary_is_what_the_engine_saw(tmp_path: Path) -> None:
    upstream, told = Scripted(answer), tmp_path / "saved.json"
    with serving(upstream) as url:
        done = run_agent(tmp_path, "plain", 5, flags=("--engine", url, "--json", told))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    summary = json.loads(told.read_text())
    bodies = [seen.json() for seen in upstream.seen]
    assert summary["requests"] == summary["counted"] == len(bodies) == 5
    assert summary["sent"]["chars"] == sum(
        chars(message) for body in bodies for message in body["messages"]
    )
    assert summary["sent"]["chars"] < 0.7 * summary["given"]["chars"]
    assert (summary["prompt_tokens"], summary["cached_tokens"]) == (500, 375)
    assert summary["given"]["continuing"] == summary["sent"]["continuing"] == 4
    assert summary["given"]["broken"] == summary["sent"]["broken"] == 0
    assert "75.0 %" in done.stderr
    assert "4 of 4" in " ".join(done.stderr.split())
    assert "ferry" not in done.stderr + told.read_text(), "no text may be told"


def test_where_the_prefix_breaks_is_named(tmp_path: Path) -> None:
    upstream, told = Scripted(answer), tmp_path / "saved.json"
    with serving(upstream) as url:
        done = run_agent(tmp_path, "clock", 4, flags=("--engine", url, "--json", told))
    (place,) = json.loads(told.read_text())["given"]["breaks"]
    assert place == {"place": "the system prompt", "volatile": ["timestamp"], "count": 3}
    assert "timestamp" in done.stderr


def test_both_apis_go_where_the_variables_pointed(tmp_path: Path) -> None:
    chat, claude = Scripted(answer), Scripted(answer)
    with serving(chat) as one, serving(claude) as other:
        pointed = {"OPENAI_BASE_URL": f"{one}/v1/", "ANTHROPIC_BASE_URL": other}
        for style in ("plain", "anthropic"):
            done = run_agent(tmp_path, style, 2, **pointed)
            assert done.returncode == 0, done.stderr
    assert {seen.target for seen in chat.seen} == {"/v1/chat/completions"}
    assert {seen.target for seen in claude.seen} == {"/v1/messages"}


def test_exit_status_is_the_agents(tmp_path: Path) -> None:
    with serving(Scripted(answer)) as url:
        done = run_agent(tmp_path, "fails", 1, flags=("--engine", url, "--quiet"))
    assert (done.returncode, done.stderr) == (7, "")


def test_agent_that_takes_its_address_elsewhere_is_told_what_to_do(tmp_path: Path) -> None:
    port = free_port()
    with serving(Scripted(answer)) as url:
        done = run_agent(tmp_path, "plain", 0, flags=("--engine", url, "--port", port))
    words = " ".join(done.stderr.split())
    assert done.returncode == 0
    assert f"http://127.0.0.1:{port}/v1" in words
    assert "no request of" in words


def test_the_way_to_the_agents_proxy_is_ours_alone(tmp_path: Path) -> None:
    """A proxy of the network, which is not there, is asked for neither way."""
    away = dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")
    with serving(Scripted(answer)) as url:
        done = run_agent(tmp_path, "plain", 1, flags=("--engine", url), **away)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def heard(number: int) -> Iterator[None]:
    """Let programs that start meanwhile hear a signal, though nohup or `&` keeps it from tests."""
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        if before is signal.SIG_IGN:
            signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_are_the_agents_and_the_summary_comes_after(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    told = tmp_path / "told.json"
    with serving(Scripted(answer)) as url:
        command, env = command_of(tmp_path, "stays", 2, flags=("--engine", url, "--json", told))
        pipes: Any = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        pipes["stdin"] = subprocess.DEVNULL
        with heard(number):
            started = subprocess.Popen(command, env=env, text=True, **pipes)
        with started as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "2 requests of" in errors
    assert json.loads(told.read_text())["requests"] == 2


def test_summary_is_written_though_the_terminal_is_gone(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    read_end, write_end = os.pipe()
    os.close(read_end)
    with serving(Scripted(answer)) as url:
        command, env = command_of(tmp_path, "plain", 1, flags=("--engine", url, "--json", told))
        done = subprocess.run(
            command, env=env, stdout=subprocess.DEVNULL, stderr=write_end, timeout=60
        )
    os.close(write_end)
    assert done.returncode == 0
    assert json.loads(told.read_text())["requests"] == 1


def test_model_that_is_down_is_told(tmp_path: Path) -> None:
    done = run_agent(tmp_path, "plain", 1, flags=("--engine", f"http://127.0.0.1:{free_port()}"))
    assert done.returncode == 1, "the agent's own"
    words = " ".join(done.stderr.split())
    assert "1 request of" in words
    assert "1 of them failed or got no answer" in words


@pytest.mark.parametrize("flag", ["--json", "--log"])
def test_file_that_cannot_be_written_is_told_before_the_agent_starts(
    tmp_path: Path, flag: str
) -> None:
    done = run_agent(tmp_path, "plain", 0, flags=(flag, tmp_path / "none" / "file"))
    assert (done.returncode, done.stdout) == (1, "")
    assert flag in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_is_no_file_for_the_summary(tmp_path: Path) -> None:
    done = run_agent(tmp_path, "plain", 0, flags=("--json", tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"contextpilot run: --json: {tmp_path} is a folder: name a file\n"


def test_a_variable_that_is_no_address_is_named(tmp_path: Path) -> None:
    done = run_agent(tmp_path, "plain", 0, ANTHROPIC_BASE_URL="localhost:8000")
    assert (done.returncode, done.stdout) == (1, "")
    like = 'ANTHROPIC_BASE_URL must be like "https://api.anthropic.com"'
    assert done.stderr == f"contextpilot run: {like}, not 'localhost:8000'\n"


def test_a_second_proxy_needs_a_port_as_well(tmp_path: Path) -> None:
    done = run_agent(tmp_path, "plain", 0, flags=("--port", 65535))
    assert done.returncode == 1
    assert done.stderr.startswith("contextpilot run: ")
    assert "Traceback" not in done.stderr


def test_an_agent_that_fails_at_once_may_have_said_why(tmp_path: Path) -> None:
    with serving(Scripted(answer)) as url:
        done = run_agent(tmp_path, "fails", 0, flags=("--engine", url))
    assert done.returncode == 7
    words = " ".join(done.stderr.split())
    assert "through the proxy: it ended with status 7; unless it says why above, " in words


def test_agent_that_is_not_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "contextpilot", "run", "--", "no-such-agent"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "no-such-agent cannot be started" in done.stderr
    assert "Traceback" not in done.stderr


def test_codex_and_opencode_get_what_they_read() -> None:
    urls = {"openai": "http://127.0.0.1:1", "anthropic": "http://127.0.0.1:2"}
    codex = launch(["/usr/bin/codex", "exec", "hi"], {}, urls)
    assert codex.command[1:3] == ["-c", 'openai_base_url="http://127.0.0.1:1/v1"']
    chosen = ["codex", "-c", 'model_providers.x={base_url="http://other"}']
    assert launch(chosen, {}, urls).command == chosen
    assert codex.environment["NO_PROXY"] == "127.0.0.1"
    inside = launch(["codex"], {"no_proxy": "intranet"}, urls).environment
    assert inside["no_proxy"] == "intranet,127.0.0.1"
    opencode = launch(["opencode", "run", "hi"], {}, urls)
    providers = json.loads(opencode.environment["OPENCODE_CONFIG_CONTENT"])["provider"]
    assert providers["anthropic"]["options"]["baseURL"] == "http://127.0.0.1:2/v1"


@pytest.mark.parametrize("given", ["http://a:1", "http://a:1/v1", "http://a:1/v1/"])
def test_upstream_is_what_the_variable_says(given: str) -> None:
    assert upstreams({"OPENAI_BASE_URL": given})[OPENAI] == "http://a:1"
    assert upstreams({"OPENAI_API_BASE": given})[OPENAI] == "http://a:1"
    assert upstreams({})[OPENAI] == "https://api.openai.com"
