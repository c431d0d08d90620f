"""Agents as they are installed, each against a scripted model: how they are configured and started.

Folders with agents stand in AGENTS_PATH, before what scripts/stacks.py set up, and PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from agent_engine import AgentEngine, Step, agent_engine

import contextpilot
from contextpilot.agents.local_proxy import running_proxy
from contextpilot.server.settings import Settings

QUESTION = "Compare alpha.txt and beta.txt."
OLD, NEW = "alpha line 5: amber basin 39595", "alpha line 5: is another"
JAVASCRIPT = Path(contextpilot.__file__).parent / "agents" / "plugins" / "javascript"
_TIMEOUT_S = 240
_KEPT = ("PATH", "LANG", "SSL_CERT_FILE")

_OPENAI_AGENTS = """
import os, pathlib, subprocess
from agents import Agent, Runner, function_tool, set_default_openai_api, set_tracing_disabled
set_tracing_disabled(True)
set_default_openai_api(os.environ["API"])
@function_tool
def read_file(path: str) -> str:
    "Reads a file."
    return pathlib.Path(path).read_text()
@function_tool
def bash(command: str) -> str:
    "Runs a command."
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout
@function_tool
def edit(path: str, old_string: str, new_string: str) -> str:
    "Replaces a text."
    file = pathlib.Path(path)
    assert file.read_text().count(old_string) == 1
    file.write_text(file.read_text().replace(old_string, new_string))
    return "done"
agent = Agent(name="A", instructions="Be brief.", tools=[read_file, bash, edit], model="scripted")
print(Runner.run_sync(agent, "QUESTION", max_turns=15).final_output)
"""
_SMOLAGENTS = '''
import os, pathlib, subprocess
from smolagents import OpenAIServerModel, ToolCallingAgent, tool
@tool
def read_file(path: str) -> str:
    """Reads a file.

    Args:
        path: the file
    """
    return pathlib.Path(path).read_text()
@tool
def bash(command: str) -> str:
    """Runs a command.

    Args:
        command: the command
    """
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout
@tool
def edit(path: str, old_string: str, new_string: str) -> str:
    """Replaces a text.

    Args:
        path: the file
        old_string: what stands there
        new_string: what comes in its place
    """
    file = pathlib.Path(path)
    assert file.read_text().count(old_string) == 1
    file.write_text(file.read_text().replace(old_string, new_string))
    return "done"
model = OpenAIServerModel("scripted", api_base=os.environ["OPENAI_BASE_URL"], api_key="sk-x")
agent = ToolCallingAgent(tools=[read_file, bash, edit], model=model, verbosity_level=0)
print(agent.run("QUESTION"))
'''


class Place(NamedTuple):
    """Where an agent works: its home, its workspace, and where the model is, without /v1."""

    home: Path
    work: Path
    model: str
    plugin: str
    """URL of the server that a plugin asks; "" without one."""


class RealAgent(NamedTuple):
    """An agent: how it is found, installed and started.

    Attributes:
        program: its program; of a library, "python -m MODULE".
        install: what to do where it is absent.
        stack: which of scripts/stacks.py brings it; CI has these, and runs them.
        start: writes its files; returns its arguments, and its variables.
        plugin: whether there is a plugin for it.
        is_asked: whether it finds the model by the variables of `contextpilot run`; who does not
            is told the address of the proxy in its own file.
        can_edit: whether it has a tool that the model edits a file with; else it is `sed`.
        finish: the call with which it ends, where that is one.
        again: arguments with which it goes on with its last session.
    """

    program: str
    install: str
    start: Callable[[Place], tuple[list[str], dict[str, str]]]
    stack: str = ""
    plugin: bool = False
    is_asked: bool = True
    can_edit: bool = True
    finish: tuple[str, dict[str, Any]] | None = None
    again: tuple[str, ...] = ()


class Ran(NamedTuple):
    """An agent's session."""

    status: int
    output: str
    engine: AgentEngine
    alpha: str
    """The file that was edited."""
    told: dict[str, Any]
    """The summary of `contextpilot run`."""


def _opencode(place: Place) -> tuple[list[str], dict[str, str]]:
    models = {
        "scripted": {"name": "s", "tool_call": True, "limit": {"context": 200_000, "output": 8000}}
    }
    options = (
        {"baseURL": place.model + "/v1", "apiKey": "sk-x"} if place.model else {"apiKey": "sk-x"}
    )
    provider = {"models": models, "options": options}
    model = "openai/scripted"
    config = {"model": model, "small_model": model, "provider": {"openai": provider}}
    config |= {"share": "disabled", "autoupdate": False, "permission": "allow"}
    if place.plugin:
        config["plugin"] = [[(JAVASCRIPT / "opencode.js").as_uri(), {"url": place.plugin}]]
    (place.work / "opencode.json").write_text(json.dumps(config))
    off = ("AUTOUPDATE", "LSP_DOWNLOAD", "MODELS_FETCH")
    return ["run", QUESTION], {f"OPENCODE_DISABLE_{name}": "1" for name in off}


def _hermes(place: Place) -> tuple[list[str], dict[str, str]]:
    model = {"default": "scripted", "provider": "custom", "context_length": 200_000}
    config: dict[str, Any] = {
        "model": {**model, "base_url": place.model + "/v1", "api_key": "sk-x"}
    }
    if not place.model:
        config = {"model": {"default": "scripted", "provider": "openai-api"}}
    variables = {"HERMES_YOLO_MODE": "1"}
    if place.plugin:
        config["plugins"] = {"enabled": ["contextpilot"]}
        variables["PYTHONPATH"] = _installed_in(place.home)
    (place.home / ".hermes").mkdir()
    (place.home / ".hermes" / "config.yaml").write_text(json.dumps(config))
    return ["chat", "-Q", "--yolo", "-q", QUESTION], variables


def _installed_in(folder: Path) -> str:
    """Return a PYTHONPATH that shows this package to another Python, as if pip had installed it."""
    made = folder / "contextpilot-0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: contextpilot\nVersion: 0\n")
    point = "contextpilot = contextpilot.agents.plugins.hermes"
    (made / "entry_points.txt").write_text(f"[hermes_agent.plugins]\n{point}\n")
    return os.pathsep.join([str(folder), str(Path(contextpilot.__file__).parents[1])])


def _openclaw(place: Place) -> tuple[list[str], dict[str, str]]:
    model = {"id": "scripted", "name": "s", "input": ["text"], "contextWindow": 200_000}
    model |= {"cost": dict.fromkeys(("input", "output", "cacheRead", "cacheWrite"), 0)}
    provider = {"baseUrl": place.model + "/v1", "apiKey": "sk-x", "api": "openai-completions"}
    provider["models"] = [{**model, "reasoning": False, "maxTokens": 8000}]
    defaults = {"workspace": str(place.work), "model": {"primary": "scr/scripted"}}
    config: dict[str, Any] = {"agents": {"defaults": defaults}}
    config["models"] = {"mode": "replace", "providers": {"scr": provider}}
    if place.plugin:
        entry = {"enabled": True, "config": {"url": place.plugin}}
        config["plugins"] = {"load": {"paths": [str(JAVASCRIPT)]}}
        config["plugins"]["entries"] = {"contextpilot": entry}
    (place.home / ".openclaw").mkdir()
    (place.home / ".openclaw" / "openclaw.json").write_text(json.dumps(config))
    return ["agent", "--local", "--agent", "main", "--message", QUESTION], {}


def _claude(place: Place) -> tuple[list[str], dict[str, str]]:
    off = ("TELEMETRY", "AUTOUPDATER")
    variables = {f"DISABLE_{name}": "1" for name in off}
    variables |= {"ANTHROPIC_API_KEY": "sk-ant-x"}
    variables["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
    if place.model:
        variables["ANTHROPIC_BASE_URL"] = place.model
    allowed = "Read,Bash,Edit"
    return ["-p", QUESTION, "--allowedTools", allowed, "--model", "scripted"], variables


def _codex(place: Place) -> tuple[list[str], dict[str, str]]:
    given = ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    if place.model:
        given = ["-c", f'openai_base_url="{place.model}/v1"', *given]
    (place.home / ".codex").mkdir()
    return [*given, "-m", "scripted", QUESTION], {"CODEX_API_KEY": "sk-x"}


def _mini(place: Place) -> tuple[list[str], dict[str, str]]:
    given = ["-y", "--exit-immediately", "-m", "openai/scripted", "-t", QUESTION]
    off = {"MSWEA_CONFIGURED": "1", "MSWEA_COST_TRACKING": "ignore_errors"}
    return [*given, "-o", str(place.home / "session.json")], off


def _aider(place: Place) -> tuple[list[str], dict[str, str]]:
    given = ["--model", "openai/scripted", "--no-show-model-warnings", "--no-check-update"]
    given += ["--no-gitignore", "--no-git", "--yes-always", "--no-pretty", "--analytics-disable"]
    for name in ("one", "two", "three", "four"):
        lines = (f"{name}_{at} = compute({at * 7919})\n" for at in range(60))
        (place.work / f"{name}.py").write_text("".join(lines))
        given += ["--read", f"{name}.py"]
    return [*given, "--message", QUESTION], {}


def _script(text: str, **variables: str) -> Callable[[Place], tuple[list[str], dict[str, str]]]:
    def start(place: Place) -> tuple[list[str], dict[str, str]]:
        script = place.home / "agent.py"
        script.write_text(text.replace("QUESTION", QUESTION))
        return [str(script)], variables

    return start


_DONE = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && echo FINAL-ANSWER-42"
AGENTS = {
    "claude": RealAgent(
        "claude", "npm install -g @anthropic-ai/claude-code", _claude, stack="agents-node"
    ),
    "codex": RealAgent("codex", "npm install -g @openai/codex", _codex, can_edit=False),
    "opencode": RealAgent(
        "opencode", "npm install -g opencode-ai", _opencode, stack="agents-node", plugin=True
    ),
    "hermes": RealAgent(
        "hermes", "pip install hermes-agent", _hermes, stack="agents-hermes", plugin=True
    ),
    "openclaw": RealAgent(
        "openclaw",
        "npm install -g openclaw, with Node.js 24.16 or newer",
        _openclaw,
        plugin=True,
        is_asked=False,
    ),
    "mini": RealAgent(
        "mini",
        "pip install mini-swe-agent",
        _mini,
        can_edit=False,
        finish=("bash", {"command": _DONE}),
    ),
    "openai-agents": RealAgent(
        "python -m agents",
        "pip install openai-agents",
        _script(_OPENAI_AGENTS, API="responses"),
        stack="agents-python",
    ),
    "openai-agents-chat": RealAgent(
        "python -m agents",
        "pip install openai-agents",
        _script(_OPENAI_AGENTS, API="chat_completions"),
        stack="agents-python",
    ),
    "aider": RealAgent("aider", "pip install aider-chat", _aider),
    "smolagents": RealAgent(
        "python -m smolagents",
        "pip install 'smolagents[openai]'",
        _script(_SMOLAGENTS),
        stack="agents-python",
        finish=("final_answer", {"answer": "FINAL-ANSWER-42"}),
    ),
}


def search_path() -> str:
    """Return where agents are looked for."""
    folders = (os.environ.get("AGENTS_PATH"), *_set_up(), os.environ["PATH"])
    return os.pathsep.join(filter(None, folders))


@cache
def _set_up() -> list[str]:
    """The programs of the agents that scripts/stacks.py has installed."""
    if sys.version_info < (3, 11):  # it reads pyproject.toml
        return []
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    import stacks

    made = map(stacks.stack, stacks.AGENTS)
    return [str(one.root / "bin") for one in made if one.is_current()]


def find(agent: RealAgent) -> str | None:
    """Return an agent's program, or the Python that has its library; None where it is absent."""
    _, _, module = agent.program.partition(" -m ")
    if not module:
        return shutil.which(agent.program, path=search_path())
    for folder in map(Path, search_path().split(os.pathsep)):
        if any(folder.parent.glob(f"lib/python*/site-packages/{module}/__init__.py")):
            return str(folder / "python")
    return None


def steps(work: Path, can_edit: bool = True) -> list[Step]:
    """Return what the model does: it reads, reads again, edits, and reads what it edited."""
    alpha, beta = str(work / "alpha.txt"), str(work / "beta.txt")
    reading = [Step(path=alpha), Step(path=beta), Step(path=alpha)]
    edit = Step(path=alpha, old=OLD, new=NEW)
    if not can_edit:
        edit = Step(command=f"sed -i 's/{OLD}/{NEW}/' {alpha}")
    return [*reading, Step(command=f"cat {alpha} {beta}"), edit, Step(path=alpha)]


@contextmanager
def _plugin_server(mode: str) -> Iterator[str]:
    if mode == "plugin":
        with running_proxy(Settings(port=0, kind="other"), lambda _: None) as url:
            yield url
    else:
        yield "http://127.0.0.1:1" if mode == "plugin-alone" else ""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def run_agent(
    name: str, mode: str, folder: Path, *, full_at: int = 0, turns: int = 1, **settings: str
) -> Ran:
    """Run a session of an agent.

    Args:
        mode: "direct", "run" (behind `contextpilot run`), "plugin", or "plugin-alone" (without the
            server that it asks).
        folder: becomes the agent's home and workspace.
        full_at: see AgentEngine.
        turns: how often it is started; each but the first goes on with the session, and reads the
            files again.
        settings: variables of `contextpilot run`.
    """
    agent = AGENTS[name]
    home, work = folder / "home", folder / "work"
    for each in (home, work):
        each.mkdir(parents=True, exist_ok=True)
    for file, words in (("alpha", "amber basin 7919"), ("beta", "cedar delta 1047")):
        word, _, factor = words.rpartition(" ")
        lines = (f"{file} line {at}: {word} {at * int(factor)}\n" for at in range(90))
        (work / f"{file}.txt").write_text("".join(lines))
    summary = home / "told.json"
    with agent_engine(*steps(work, agent.can_edit)) as engine, _plugin_server(mode) as server:
        engine.last_call, engine.full_at = agent.finish, full_at
        is_run = mode == "run"
        port = 0 if agent.is_asked else _free_port()
        model = f"http://127.0.0.1:{port}" if port else ""
        place = Place(home, work, model if is_run else engine.url, server)
        arguments, variables = agent.start(place)
        command = [find(agent) or agent.program, *arguments]
        if is_run:
            flags = ["--engine", engine.url, "--port", str(port), "--json", str(summary)]
            command = [sys.executable, "-m", "contextpilot", "run", *flags, "--", *command]
        env = {name: value for name, value in os.environ.items() if name in _KEPT}
        env |= {"PATH": search_path(), "HOME": str(home), "TERM": "dumb", "NO_COLOR": "1"}
        env |= {"OPENAI_API_KEY": "sk-x", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        env |= variables | settings
        if not is_run:
            env |= {"OPENAI_BASE_URL": engine.url + "/v1", "OPENAI_API_BASE": engine.url + "/v1"}
        for turn in range(turns):
            if turn:
                engine.steps = [*engine.steps, *engine.steps[:2]]
            done = subprocess.run(
                [*command, *(agent.again if turn else ())],
                cwd=work,
                env=env,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
        told = json.loads(summary.read_text()) if summary.exists() else {}
        output = done.stdout + done.stderr
        return Ran(done.returncode, output, engine, (work / "alpha.txt").read_text(), told)
