"""The shell blocks of README and docs run, at a pretended engine, or it is said why they do not."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from written import PAGES, ROOT, Block, blocks

sys.path.insert(0, str(ROOT / "examples"))

from pretend_engine import pretend_engine

RUN = re.compile(
    r"export CONTEXTPILOT_INDEX_TOKEN=\$\(python"
    r"|contextpilot (doctor|simulate|bench|serve)( |$)"
    r"|curl (-H .* )?http://10\.0\.0\.5"
)
REASONS = {
    r"pip |.*-m venv ": "installs: .ci/run and scripts/fresh_start.py do, in fresh environments",
    r"docker |kubectl |export .* MODEL=": "needs a container engine or a cluster",
    r".*vllm serve|.*sglang\.launch_server|.*contextpilot-llama-server|CONTEXTPILOT_\w+=\S+ ": (
        "starts an engine: tests/engines does"
    ),
    r"python examples/": "runs in test_examples.py, or where its package is in tests/integrations",
    r"python -m pytest|python scripts/": "runs for minutes",
    r"export CONTEXTPILOT_|python application\.py": "belongs to machines and programs of yours",
    r"contextpilot demo": "runs in .ci/run and in tests/commands",
}
ADDRESS = re.compile(r"http://(127\.0\.0\.1|10\.0\.0\.7):\d+")
SHELL = [*blocks("bash"), *(one for one in blocks("console") if "$ " in one.code)]


def commands(block: Block) -> list[str]:
    """The commands of a block, without comments; of a transcript those behind a `$`."""
    lines = re.sub(r"\\\n\s*", " ", block.code).splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


def why_not(block: Block) -> str:
    """Why a block is not run; empty if it is."""
    for command in commands(block):
        if RUN.match(command):
            continue
        reasons = [reason for start, reason in REASONS.items() if re.match(start, command)]
        assert reasons, f"{block.name} is new: match {command!r} in RUN, or say in REASONS why not"
        return reasons[0]
    return ""


RUNS = [block for block in SHELL if not why_not(block)]
SERVES = [block for block in RUNS if "contextpilot serve" in block.code]
ASKS = [block for block in RUNS if "curl" in block.code]
ENDS = [block for block in RUNS if block not in SERVES and block not in ASKS]


def named(block: Block) -> str:
    return block.name


def test_what_does_not_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert SERVES
    assert ASKS
    assert len(ENDS) >= 3
    told = [f"\n{len(RUNS)} of {len(SHELL)} shell blocks of the documentation run; not"]
    told += [f"  {block.name}: {reason}" for block in SHELL if (reason := why_not(block))]
    with capsys.disabled():
        sys.stdout.write("\n".join(told) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which `requests.jsonl` is what workload.md shows."""
    lines = re.findall(r"```json\n(.*?)```", PAGES[ROOT / "docs" / "workload.md"], re.DOTALL)[0]
    (tmp_path / "requests.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


@pytest.fixture
def engine() -> Iterator[str]:
    with pretend_engine() as url:
        yield url.removesuffix("/v1")


def environment(**more: str) -> dict[str, str]:
    """Ours, in which `contextpilot` and `python` are those that run the tests."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith("CONTEXTPILOT_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
    return {**ours, "PATH": path, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", **more}


def ended(code: str, folder: Path, **more: str) -> str:
    """What a block prints, run from start to end."""
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=folder, env=environment(**more),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("block", ENDS, ids=named)
def test_a_block_runs(block: Block, folder: Path, engine: str) -> None:
    told = ended(ADDRESS.sub(engine, block.code), folder)
    assert "%" in told


@contextlib.contextmanager
def serving(block: Block, folder: Path, engine: str) -> Iterator[tuple[str, str]]:
    """Run a block that serves; yield the server's address, and its token if the block chose one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = ADDRESS.sub(engine, block.code).replace("--host 0.0.0.0", "--host 127.0.0.1")
    shown = code.replace(
        "\ncontextpilot", '\necho "${CONTEXTPILOT_INDEX_TOKEN-}" >token\ncontextpilot'
    )
    server = subprocess.Popen(
        ["bash", "-euc", shown], cwd=folder, start_new_session=True,
        env=environment(CONTEXTPILOT_PORT=str(port)), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        while server.poll() is None:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{url}/health", timeout=30).ok:
                    break
            time.sleep(0.1)
        assert server.poll() is None
        token = folder / "token"
        yield url, token.read_text("utf-8").strip() if token.exists() else ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@pytest.mark.parametrize("block", SERVES, ids=named)
def test_a_block_serves(block: Block, folder: Path, engine: str) -> None:
    with serving(block, folder, engine) as (url, _):
        body = {"model": "m", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 1}
        answer = requests.post(f"{url}/v1/chat/completions", json=body, timeout=60)
        assert answer.json()["choices"]


@pytest.mark.parametrize("block", ASKS, ids=named)
def test_a_block_asks_the_server(block: Block, folder: Path, engine: str) -> None:
    (chosen,) = (one for one in SERVES if "CONTEXTPILOT_INDEX_TOKEN" in one.code)
    with serving(chosen, folder, engine) as (url, token):
        assert len(token) > 20
        told = ended(
            block.code.replace("http://10.0.0.5:8765", url), folder,
            CONTEXTPILOT_INDEX_URL=url, CONTEXTPILOT_INDEX_TOKEN=token,
        )  # fmt: skip
    assert '"engines"' in told
