"""The index and the engines as processes that can be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from daily.engine import MAX_BLOCKS, ScriptedEngine
from daily.server import routes
from loop_probe import Probe
from machine import memory_mb

from contextpilot.server.garbage import collect_seldom
from contextpilot.server.run import configure_logging, make_server
from contextpilot.server.settings import Settings

sys.path.append(str(Path(__file__).resolve().parents[1] / "engines"))

from launch import Server, free_port, launch

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["faults.machines"])  # a start takes no import
START_TIMEOUT_S = 180.0
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))
NEVER = 1 << 60
DAY_S = 86_400.0
UPGRADES = {
    "llamacpp": ("--parallel", "4", "--ctx-size", "16384"),
    "vllm": ("--block-size", "16"),
    "sglang": ("--max-total-tokens", "8192"),
}
"""By engine: flags with which another version answers, as far as an index can tell."""


def ask(url: str, content: Any = None, timeout_s: float = 30.0, **headers: str) -> Any:
    """GET, or POST JSON; return what the answer says. Raises OSError."""
    data = None if content is None else json.dumps(content).encode()
    named = {
        "Content-Type": "application/json",
        **{k.replace("_", "-"): headers[k] for k in headers},
    }
    with HTTP.open(urllib.request.Request(url, data, named), timeout=timeout_s) as reply:
        return json.loads(reply.read() or b"null")


def health(url: str) -> Any:
    """Return what /health says; a server without an engine says so with an error."""
    try:
        return ask(f"{url}/health")
    except urllib.error.HTTPError as error:
        return json.loads(error.read())


def wait_for(condition: Any, seconds: float = 60.0) -> bool:
    """Return whether a condition comes to hold in time; no answer is no."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError):
            if condition():
                return True
        time.sleep(0.1)
    return False


class Machine(Protocol):
    """Something at an address that can fail."""

    port: int

    @property
    def url(self) -> str:
        """Its base URL, the same after a restart."""

    def start(self) -> None:
        """Start it at its address, and wait until it answers."""

    def kill(self) -> None:
        """End it at once, without farewell."""

    def hang(self, is_hung: bool) -> None:
        """Let it stand still, or go on."""


class _Process:
    """A process of this Python at a port of its own."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.process: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self.process.pid)

    def spawn(self, target: Any, *arguments: Any) -> None:
        """Start it, and wait until it answers."""
        self.process = _FORKS.Process(target=target, args=arguments, daemon=True)
        self.process.start()
        if not wait_for(lambda: health(self.url) is not None, START_TIMEOUT_S):
            raise RuntimeError("a server did not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        self.process.terminate()
        self.process.join()

    def hang(self, is_hung: bool) -> None:
        os.kill(self.pid, signal.SIGSTOP if is_hung else signal.SIGCONT)


class Index(_Process):
    """Our server.

    Args:
        engines: base URLs.
        limits: of the process, by their names in `resource`.
        jumps: the wall clock jumps by up to a day, ten times a second.
        log: file that its log lines go to; "" for standard error.
        options: as of `Settings`.
    """

    def __init__(
        self,
        engines: tuple[str, ...],
        limits: dict[str, int] | None = None,
        jumps: bool = False,
        log: str = "",
        **options: Any,
    ) -> None:
        super().__init__()
        self.options = {"engine": engines, "log_level": "error", **options}
        self._limits = limits or {}
        self._jumps = jumps
        self._log = log

    def start(self) -> None:
        settings = {**self.options, "port": self.port}
        self.spawn(_run_index, settings, self._limits, self._jumps, self._log)

    @property
    def memory_mb(self) -> float:
        """Resident memory."""
        return memory_mb(self.pid)

    def engine_states(self) -> dict[str, Any]:
        """Return what /health says, by engine."""
        return {one["engine"]: one for one in health(self.url)["engines"]}

    def counted(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        with HTTP.open(f"{self.url}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in found)


def _run_index(settings: dict[str, Any], limits: dict[str, int], jumps: bool, log: str) -> None:
    if log:
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if jumps:
        true_time = time.time
        time.time = lambda: (
            true_time() + random.Random(int(true_time() * 10)).uniform(-DAY_S, DAY_S)
        )
    given = Settings(**settings)
    configure_logging(given)
    server = make_server(given)
    app: Any = server.config.app
    app.router.routes[:0] = routes(app, Probe())
    sys.setswitchinterval(0.001)
    collect_seldom(app.state.activity)
    server.run()


class Scripted(_Process):
    """An engine with a prefix cache, which tells of it through the hooks' ledger and reporter.

    Args:
        index_url: where it reports; "" nowhere.
    """

    name = "scripted"

    def __init__(self, index_url: str = "") -> None:
        super().__init__()
        self.index_url = index_url
        self.max_blocks = MAX_BLOCKS

    def start(self) -> None:
        self.spawn(_run_scripted, self.port, self.max_blocks)
        if self.index_url:
            told = {"index_url": self.index_url, "name": f"vllm-scripted-{self.port}"}
            ask(f"{self.url}/soak/begin", told)

    def upgrade(self) -> None:
        """Let the next start have a smaller cache."""
        self.max_blocks //= 4


def _run_scripted(port: int, max_blocks: int) -> None:
    app = ScriptedEngine(NEVER, max_blocks)
    uvicorn.run(app, port=port, log_level="critical", lifespan="off", access_log=False)


class Real:
    """A real engine on the tiny model, with the hooks, or the shim.

    Args:
        name: "llamacpp", "vllm" or "sglang".
    """

    brings_hooks = True
    """Whether the checkout's hooks are installed first."""

    def __init__(self, name: str, index_url: str = "") -> None:
        self.name = name
        self.index_url = index_url
        self.port = free_port()
        self._flags: tuple[str, ...] = ()
        self._running = contextlib.ExitStack()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The number of the process that started the others."""
        assert self._server is not None
        return int(self._server.process.pid)

    def start(self) -> None:
        env = {"CONTEXTPILOT_INDEX_URL": self.index_url} if self.index_url else {}
        running = launch(
            self.name,
            port=self.port,
            env=env,
            extra_flags=self._flags,
            hooks=self.brings_hooks,
        )
        self._server = self._running.enter_context(running)

    def kill(self) -> None:
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.process.pid, signal.SIGKILL)
            self._server = None
        self._running.close()

    def hang(self, is_hung: bool) -> None:
        assert self._server is not None
        os.killpg(self._server.process.pid, signal.SIGSTOP if is_hung else signal.SIGCONT)

    def upgrade(self) -> None:
        """Let the next start have other flags."""
        self._flags = UPGRADES[self.name]
