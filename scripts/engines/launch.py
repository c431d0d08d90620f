"""Start a real engine on the tiny model, as a user would: python scripts/engines/launch.py sglang.

Importable too: `with launch("sglang", env={...}) as server: server.post("/generate", {...})`.
The checkout's hooks are built into a wheel and installed in the engine's environment first, again
whenever they changed; they stay inert unless `CONTEXTPILOT_INDEX_URL` is set. llama-server is
started by our launcher, which adds the shim if that variable is set, and becomes it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from environments import Environment, SetupError, engines_dir, environment, locked, log_tail
from guard import ending_with_us
from tiny_gguf import ensure_gguf
from tiny_model import ensure_model

CHECKOUT = Path(__file__).resolve().parents[2]
WHEEL_SOURCES = ("hooks", "pyproject.toml", "contextpilot_hook.pth", "contextpilot_hook.start")
MODEL_NAME = "tiny"
STOP_SECONDS = 20.0

VLLM_FLAGS = shlex.split(
    "--served-model-name tiny --load-format dummy --enforce-eager --dtype bfloat16"
    " --enable-prompt-tokens-details --max-model-len 4096 --block-size 32"
)
SGLANG_FLAGS = shlex.split(
    "--served-model-name tiny --load-format dummy --device cpu --attention-backend torch_native"
    " --cuda-graph-backend-decode=disabled --cuda-graph-backend-prefill=disabled"
    " --mem-fraction-static 0.3 --enable-cache-report"
)

LLAMACPP_FLAGS = shlex.split("--alias tiny --ctx-size 32768 --threads 1 --parallel 2 --metrics")

# More threads wait for each other on a busy machine, and a tiny model does not need them.
THREADS = {"OMP_NUM_THREADS": "1"}

# Loopback traffic must not go to a proxy that the environment names.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Server:
    """A running engine; `log` holds what its processes wrote."""

    engine: str
    base_url: str
    log: Path
    process: subprocess.Popen[bytes]

    def post(self, path: str, body: object, timeout: float = 120.0, **headers: str) -> object:
        """POST JSON and decode the JSON reply (an empty reply gives None)."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            self.base_url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **named},
        )
        with HTTP.open(request, timeout=timeout) as reply:
            return decoded(reply.read())

    def get(self, path: str, timeout: float = 120.0) -> object:
        """GET and decode JSON; text that is no JSON comes back as it is."""
        with HTTP.open(self.base_url + path, timeout=timeout) as reply:
            return decoded(reply.read())


def decoded(body: bytes) -> object:
    """JSON if it is JSON, else the text; None when empty."""
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode(errors="replace")


def kv_events_flags(port: int, replay_port: int) -> list[str]:
    """The flags by which vLLM and SGLang publish their KV events on these ports."""
    config = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": f"tcp://*:{port}",
        "replay_endpoint": f"tcp://*:{replay_port}",
    }
    return ["--kv-events-config", json.dumps(config)]


def free_port() -> int:
    """A TCP port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hooks_digest() -> str:
    """16 hex digits that change with what the wheel's hooks are made of."""
    digest = hashlib.sha256()
    for name in WHEEL_SOURCES:
        path = CHECKOUT / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path] * path.exists()
        for file in files:
            digest.update(f"{file.relative_to(CHECKOUT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def install_hooks(target: Environment) -> bool:
    """Install the checkout's wheel into an engine's environment unless it is there already.

    Returns whether anything was installed. Raises SetupError with pip's output.
    """
    stamp = target.root / "contextpilot-hooks"
    with locked(f"{target.recipe.engine}-hooks"):
        digest = hooks_digest()
        if stamp.exists() and stamp.read_text() == digest:
            return False
        stamp.unlink(missing_ok=True)
        pip = [str(target.python), "-m", "pip", "install", "-qq", "--no-deps", "--force-reinstall"]
        done = subprocess.run(
            [*pip, str(CHECKOUT)], capture_output=True, text=True, check=False, cwd=engines_dir()
        )
        if done.returncode:
            raise SetupError(f"installing the hooks failed:\n{done.stdout}{done.stderr}"[-3000:])
        stamp.write_text(digest)
        return True


def tiny_model(target: Environment) -> Path:
    """The tiny model in the form that an engine loads, made when absent."""
    folder = ensure_model(target.python)
    return ensure_gguf(target.python, folder) if target.recipe.engine == "llamacpp" else folder


def command_line(target: Environment, model: Path, port: int, flags: Sequence[str]) -> list[str]:
    """The engine's own launch command; later flags win over the defaults."""
    where = ["--host", "127.0.0.1", "--port", str(port)]
    if target.recipe.engine == "vllm":
        serve = [str(target.root / "bin" / "vllm"), "serve", str(model)]
        return [*serve, *where, *VLLM_FLAGS, *flags]
    if target.recipe.engine == "llamacpp":
        serve = [sys.executable, "-m", "contextpilot.llama_server", "--model", str(model)]
        return [*serve, *where, *LLAMACPP_FLAGS, *flags]
    module = [str(target.python), "-m", "sglang.launch_server", "--model-path", str(model)]
    return [*module, *where, *SGLANG_FLAGS, *flags]


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, then end every process of its group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def complaints(log: Path) -> str:
    """The errors that a log names, each once, without their tracebacks; its last lines if none."""
    text = log.read_text(errors="replace")
    errors = list(dict.fromkeys(re.findall(r"\b\w+(?:Error|Exception): .{1,400}", text)))
    return "\n".join(errors[-5:]) or log_tail(log, 15)


def wait_until_healthy(server: Server, timeout: float) -> None:
    """Return once GET /health answers 200; RuntimeError with the log's tail otherwise."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, OSError):
            server.get("/health", timeout=5)
            return
        time.sleep(0.5)
    ended = server.process.poll()
    state = "not ready in time" if ended is None else f"ended with {ended}"
    raise RuntimeError(f"{server.engine} {state}; {server.log} says:\n{complaints(server.log)}")


@contextlib.contextmanager
def launch(
    engine: str,
    *,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    extra_flags: Sequence[str] = (),
    model: Path | None = None,
    hooks: bool = True,
    timeout: float = 400.0,
) -> Iterator[Server]:
    """Run an engine until the block ends, then end its whole process group.

    port: a free one if None. env: added to our own environment, from which every
    `CONTEXTPILOT_*` variable is taken out first. extra_flags: appended to the engine's command.
    hooks: install the checkout's hooks before. Raises RuntimeError if the engine does not get
    healthy within `timeout` seconds, SetupError if it is not set up.
    """
    target = environment(engine)
    if not target.is_current():
        raise SetupError(f"{engine} is absent; run: python scripts/engines/setup.py {engine}")
    if hooks and engine != "llamacpp":
        install_hooks(target)
    port = port or free_port()
    log = engines_dir() / "logs" / f"{engine}-{port}.log"
    log.parent.mkdir(exist_ok=True)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CONTEXTPILOT_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command_line(target, model or tiny_model(target), port, extra_flags),
            env={
                **THREADS,
                **inherited,
                "LLAMA_SERVER_BIN": str(target.root / "bin" / "llama-server"),
                **target.recipe.environment,
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=engines_dir(),
        )
    server = Server(engine, f"http://127.0.0.1:{port}", log, process)
    with ending_with_us(process.pid):
        try:
            wait_until_healthy(server, timeout)
            yield server
        finally:
            stop(process)


def main() -> int:
    """Run one engine in the foreground; arguments that are not ours go to the engine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engine", choices=("vllm", "sglang", "llamacpp"))
    parser.add_argument("--port", type=int, help="default: a free one")
    parser.add_argument("--no-hooks", action="store_true", help="leave the installed hooks alone")
    arguments, flags = parser.parse_known_args()
    own = {k: v for k, v in os.environ.items() if k.startswith("CONTEXTPILOT_")}
    started = time.monotonic()
    with launch(
        arguments.engine,
        port=arguments.port,
        env=own,
        extra_flags=flags,
        hooks=not arguments.no_hooks,
    ) as server:
        seconds = time.monotonic() - started
        print(f"{server.base_url} ready after {seconds:.0f} s; log: {server.log}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            return server.process.wait()
    return 0


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import plainly

    plainly.run(main)
