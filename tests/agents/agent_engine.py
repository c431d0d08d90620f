"""A model over real sockets that makes an agent read files, read them again, edit, and answer.

It speaks Chat Completions and Responses, streamed or not, and keeps every prompt that it was sent.
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

FINAL = "All done: FINAL-ANSWER-42"
_READERS = ("read", "read_file", "view", "file_read")
_SHELLS = ("bash", "terminal", "exec", "shell", "exec_command", "run_command", "execute_bash")
_EDITORS = ("edit", "patch", "str_replace", "edit_file")
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
    """

    steps: Sequence[Step]
    url: str = ""
    prompts: list[list[str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    last_call: tuple[str, dict[str, Any]] | None = None

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
        items = longest.get("messages", longest.get("input"))
        return ["\n".join(_texts(item)) for item in items if _is_result(item)]

    def next_call(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """Return the call that comes next, as name and arguments; None for the answer."""
        done = sum(map(_is_result, body.get("messages", body.get("input"))))
        tools = dict(_tools(body))
        if done < len(self.steps) and tools:
            return _call(self.steps[done], tools)
        return self.last_call if tools else None


def _is_result(item: dict[str, Any]) -> bool:
    """Whether a message holds what a tool returned; some agents let the user say it."""
    if item.get("role") == "tool" or item.get("type") == "function_call_output":
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
            yield told["name"], told.get("parameters") or {}


def _call(step: Step, tools: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
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
    head = [body.get("tools"), body.get("instructions")]
    items = body.get("messages", body.get("input"))
    return [json.dumps(part, ensure_ascii=False) for part in (*head, *items)]


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
            if "messages" not in body and "input" not in body:
                self.answer(b"{}")
                return
            call = engine.next_call(body)
            if body.get("tools"):
                engine.bodies.append(body)
                engine.prompts.append(_parts(body))
            number = len(engine.bodies)
            events = (_responses if "input" in body else _chat)(call, number)
            if body.get("stream"):
                lines = [f"data: {json.dumps(event)}\n\n" for event in events[1:]]
                end = "" if "input" in body else "data: [DONE]\n\n"
                self.answer("".join([*lines, end]).encode(), "text/event-stream")
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


def _chat(call: tuple[str, dict[str, Any]] | None, number: int) -> list[dict[str, Any]]:
    """The whole answer, then its chunks."""
    told: dict[str, Any] = {"role": "assistant", "content": None if call else FINAL}
    if call:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        told["tool_calls"] = [{"id": f"call_{number:06}", "type": "function", "function": function}]
    why = "tool_calls" if call else "stop"
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
    head = {"id": "chatcmpl-1", "created": 1, "model": "scripted"}
    whole = {**head, "object": "chat.completion", "usage": usage}
    whole["choices"] = [{"index": 0, "finish_reason": why, "message": told}]
    delta = {**told, "tool_calls": [{"index": 0, **one} for one in told.get("tool_calls", ())]}
    if not call:
        del delta["tool_calls"]
    chunk = {**head, "object": "chat.completion.chunk"}
    chunks = [
        {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": why}]},
        {**chunk, "choices": [], "usage": usage},
    ]
    return [whole, *chunks]


def _responses(call: tuple[str, dict[str, Any]] | None, number: int) -> list[dict[str, Any]]:
    """The whole response, then its events."""
    text = {"type": "output_text", "text": FINAL, "annotations": []}
    item: dict[str, Any] = {"type": "message", "id": "m", "role": "assistant", "content": [text]}
    if call:
        given = json.dumps(call[1])
        item = {"type": "function_call", "id": f"f{number}", "arguments": given}
        item |= {"name": call[0], "call_id": f"call_{number:06}"}
    item["status"] = "completed"
    deltas = [{"type": "response.output_text.delta", "item_id": "m", "delta": FINAL}]
    for delta in deltas:
        delta |= {"output_index": 0, "content_index": 0, "logprobs": []}
    if call:
        deltas = []
    whole: dict[str, Any] = {"id": "r", "object": "response", "created_at": 1, "output": [item]}
    whole |= {"model": "scripted", "status": "completed", "parallel_tool_calls": True}
    whole |= {"tools": [], "tool_choice": "auto"}
    whole["usage"] = {
        "input_tokens": 100,
        "output_tokens": 1,
        "total_tokens": 101,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return [
        whole,
        {"type": "response.created", "response": {**whole, "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *deltas,
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
