"""A model over real sockets that makes an agent read files, read them again, edit, and answer.

It speaks Chat Completions, Responses and Anthropic's Messages, streamed or not, and keeps every
prompt that it was sent.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any, NamedTuple

import agent_answers
from agent_answers import Call

NEARLY_FULL = 195_000
_READERS = ("read", "Read", "read_file", "view", "file_read")
_SHELLS = ("bash", "Bash", "terminal", "exec", "shell", "exec_command")
_EDITORS = ("edit", "Edit", "patch", "str_replace", "edit_file")
_NAMES = {
    "path": ("filePath", "file_path", "path", "absolute_path", "filename"),
    "command": ("command", "cmd", "script"),
    "old": ("oldString", "oldText", "old_string", "old_str"),
    "new": ("newString", "newText", "new_string", "new_str"),
}


class Step(NamedTuple):
    """What the model does next; the tool is the first of the agent's that can."""

    path: str = ""
    command: str = ""
    old: str = ""
    new: str = ""


@dataclass
class AgentEngine:
    """A scripted model.

    Attributes:
        steps: one for each result that the prompt holds already; then it answers.
        prompts: the parts of each prompt with tools, in the order in which models read them.
        received: path and body of each request, those without tools as well.
        last_call: what stands in place of the answer, for agents that finish with a tool: its name
            and arguments.
        full_at: number of the prompt of which it says that it nearly fills its window.
    """

    steps: Sequence[Step]
    url: str = ""
    prompts: list[list[str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    last_call: Call | None = None
    full_at: int = 0

    def extending(self) -> int:
        """Return how many prompts begin with all of the one before."""
        return sum(new[: len(old)] == old for old, new in pairwise(self.prompts))

    def chars(self) -> int:
        """Return the characters of all prompts."""
        return sum(len(part) for prompt in self.prompts for part in prompt)

    def last_prompt(self) -> str:
        """Return the texts of the longest prompt, decoded."""
        longest = max(self.bodies, key=lambda body: len(json.dumps(body)))
        return "\n\n".join(_texts(longest.get("messages", longest.get("input"))))

    def results(self) -> list[str]:
        """Return the tools' results in the longest prompt, in order."""
        longest = max(self.bodies, key=lambda body: len(json.dumps(body)))
        return ["\n".join(_texts(item)) for item in _items(longest) if _is_result(item)]

    def next_call(self, body: dict[str, Any]) -> Call | None:
        """Return the call that comes next, as name and arguments; None for the answer."""
        done = sum(map(_is_result, _items(body)))
        tools = dict(_tools(body))
        if done < len(self.steps) and tools:
            return _call(self.steps[done], tools)
        return self.last_call if tools else None


def _items(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The messages of a prompt; of those in parts that hold results, the parts."""
    for item in body.get("messages", body.get("input")):
        content = item.get("content")
        if isinstance(content, list) and any(map(_is_result, content)):
            yield from content
        else:
            yield item


def _is_result(item: dict[str, Any]) -> bool:
    """Whether a message holds what a tool returned; some agents let the user say it."""
    if item.get("role") == "tool" or item.get("type") in ("function_call_output", "tool_result"):
        return True
    return item.get("role") == "user" and next(_texts(item), "").startswith("Observation:")


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _texts(item)
    elif isinstance(node, dict):
        for name in ("content", "text", "output", "arguments"):
            yield from _texts(node.get(name))


def _tools(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for tool in body.get("tools") or ():
        told = tool.get("function", tool)
        if "name" in told:
            yield told["name"], told.get("parameters") or told.get("input_schema") or {}


def _call(step: Step, tools: dict[str, dict[str, Any]]) -> Call:
    kinds = _EDITORS if step.new else _SHELLS if step.command else _READERS
    name = next((name for name in kinds if name in tools), "")
    if not name and step.path and not step.new:
        return _call(Step(command=f"cat {step.path}"), tools)
    known = tools[name].get("properties", {})
    given: dict[str, Any] = {}
    for each, value in step._asdict().items():
        if value:
            given |= {one: value for one in _NAMES[each] if one in known}
    if "edits" in known:  # a list of them
        given["edits"] = [{"oldText": step.old, "newText": step.new}]
    fillers = {"boolean": False, "integer": 60, "number": 60}
    for required in tools[name].get("required", ()):
        told = known.get(required, {})
        filler = told.get("enum", [fillers.get(told.get("type"), "scripted")])[0]
        given.setdefault(required, filler)
    return name, given


def _parts(body: dict[str, Any]) -> list[str]:
    head = [body.get("tools"), body.get("instructions", body.get("system"))]
    items = body.get("messages", body.get("input"))
    return [json.dumps(_unmarked(part), ensure_ascii=False) for part in (*head, *items)]


def _unmarked(node: Any) -> Any:
    """Without `cache_control`, which is no part of a prompt."""
    if isinstance(node, list):
        return list(map(_unmarked, node))
    if isinstance(node, dict):
        return {name: _unmarked(one) for name, one in node.items() if name != "cache_control"}
    return node


@contextlib.contextmanager
def agent_engine(*steps: Step) -> Iterator[AgentEngine]:
    """Run a scripted model; `url` is its base URL, without /v1."""
    engine = AgentEngine(steps)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            model = {"id": "scripted", "object": "model", "max_model_len": 200_000}
            self.answer(json.dumps({"object": "list", "data": [model]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            engine.received.append((self.path, body))
            if isinstance(body.get("input"), str):
                body["input"] = [{"role": "user", "content": body["input"]}]
            if self.path.partition("?")[0].rpartition("/v1/")[2] not in _APIS:
                self.answer(b"{}")
                return
            call = engine.next_call(body)
            if body.get("tools"):
                engine.bodies.append(body)
                engine.prompts.append(_parts(body))
            number = len(engine.bodies)
            path = self.path.partition("?")[0]
            is_full = engine.full_at and number == engine.full_at
            used = NEARLY_FULL if is_full else agent_answers.USED
            events = _APIS[path.rpartition("/v1/")[2]](call, number, used)
            if body.get("stream"):
                self.answer(_stream(events[1:]), "text/event-stream")
            else:
                self.answer(json.dumps(events[0]).encode())

        def answer(self, content: bytes, kind: str = "application/json") -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        engine.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield engine
        server.shutdown()
        thread.join()


def _stream(events: list[dict[str, Any]]) -> bytes:
    named = [
        ("event: " + event["type"] + "\n" if "type" in event else "", event) for event in events
    ]
    lines = [f"{name}data: {json.dumps(event)}\n\n" for name, event in named]
    end = "" if "type" in events[0] else "data: [DONE]\n\n"
    return "".join([*lines, end]).encode()


_APIS = {
    "chat/completions": agent_answers.chat,
    "responses": agent_answers.responses,
    "messages": agent_answers.messages,
}
