"""What the hooks cost: python scripts/bench_hooks.py [thread] [start] [server].

thread  our own time on vLLM's scheduler thread, per scheduled step and per evicted block, with a
        healthy, an absent and a hanging index; and steps per second, hooked over unhooked
start   `python -c pass` in a fresh environment without the .pth, with it, and with the variable set
server  two real vLLM servers side by side, hooked and not, the same prompts to both in turn

Every comparison is of pairs measured alternately in one run; other work on the machine shifts both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "scripts" / "engines"), str(CHECKOUT / "tests" / "hooks")]

import launch  # noqa: E402
import versions  # noqa: E402
from environments import environment  # noqa: E402
from machine import machine_line  # noqa: E402
from receiver import Receiver  # noqa: E402

COST = CHECKOUT / "scripts" / "engines" / "vllm_cost.py"
VERSION = "0.32.0"
LOADS = (
    *(("full", index) for index in ("healthy", "absent", "hanging")),
    *((layers, "healthy") for layers in ("window", "states", "all")),
)
"""A model's layers, and the state of the index."""


def cost(url: str, *options: str) -> dict[str, Any]:
    """One run of vllm_cost.py in vLLM's environment."""
    files = versions.folder("vllm", VERSION)
    command = [environment("vllm").python, "-B", COST, files, VERSION, url, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@contextmanager
def indexes() -> Iterator[dict[str, str]]:
    """Addresses of a healthy, an absent and a hanging index."""
    with Receiver() as healthy, Receiver() as hanging, socket.socket() as absent:
        hanging.fault = "hang"
        absent.bind(("127.0.0.1", 0))
        yield {
            "healthy": healthy.url,
            "absent": f"http://127.0.0.1:{absent.getsockname()[1]}",
            "hanging": hanging.url,
        }


def bench_thread(pairs: int) -> None:
    """Own time per step and per evicted block, then paired throughput."""
    print(f"vLLM {VERSION}, real scheduler without model: 512 tokens a step, 16 requests at once")
    print("less what the measuring itself takes, in us: median p90 p99")
    print("layers   index      per step                      per evicted block")
    with indexes() as urls:
        for layers, index in LOADS:
            options = "--meter", "--layers", layers
            bare, seen = cost("", *options), cost(urls[index], *options)
            cells = "    ".join(f"{net(seen, bare, key)}" for key in ("step_us", "evict_us"))
            aside = f"the reporter's thread {seen['reporter_cpu_us']:.0f} us of CPU a step"
            print(f"{layers:8} {index:8} {cells}   ({aside})", flush=True)
        runs = [(cost(""), cost(urls["healthy"])) for _ in range(pairs)]
    print(f"a whole step, without any model, hooked over unhooked ({pairs} pairs)")
    for key, name in (("wall_us", "wall"), ("cpu_us", "CPU of the scheduler's thread")):
        print(f"  {name}: {spread([hooked[key] / plain[key] for plain, hooked in runs])}")
    plain = statistics.median(run[0]["cpu_us"] for run in runs)
    aside = statistics.median(run[1]["reporter_cpu_us"] for run in runs)
    print(f"  unhooked {plain:.0f} us of CPU a step; the reporter's thread takes {aside:.0f} us")


def net(seen: dict[str, Any], bare: dict[str, Any], key: str) -> str:
    """Percentiles less those of the measuring alone."""
    return " ".join(f"{seen[key][cut] - bare[key][cut]:8.2f}" for cut in ("median", "p90", "p99"))


def bench_start(pairs: int) -> None:
    """CPU time of a bare interpreter (its wall time is the machine's other work)."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "v" / "bin" / "python"
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", python.parents[1]], check=True
        )
        found = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        )
        site = Path(found.stdout.strip())
        shutil.copytree(CHECKOUT / "hooks" / "contextpilot_hooks", site / "contextpilot_hooks")
        pth = site / "contextpilot_hook.pth"
        times: dict[str, list[float]] = {"without": [], "unset": [], "set": []}
        for _ in range(pairs + 2):
            pth.unlink(missing_ok=True)
            times["without"].append(start(python))
            shutil.copy(CHECKOUT / "contextpilot_hook.pth", pth)
            times["unset"].append(start(python))
            times["set"].append(start(python, CONTEXTPILOT_INDEX_URL="http://127.0.0.1:9"))
    bare = times["without"][2:]
    print(f"python -c pass: {statistics.median(bare):.1f} ms of CPU without the .pth")
    for name in ("unset", "set"):
        over = [a - b for a, b in zip(times[name][2:], bare, strict=True)]
        print(f"  with it, variable {name}: {spread(over, '+.2f')} ms over ({pairs} pairs)")


def start(python: Path, **variables: str) -> float:
    """CPU milliseconds of one bare interpreter."""
    environ = {"PATH": os.environ["PATH"], **variables}
    process = os.posix_spawn(python, [str(python), "-c", "pass"], environ)
    _, status, used = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{python} -c pass ended with {status}")
    return (used.ru_utime + used.ru_stime) * 1e3


def bench_server(rounds: int) -> None:
    """The same prompts to a hooked and an unhooked server, in turn."""
    source = random.Random(7)
    small = ("--num-gpu-blocks-override", "200")
    with (
        Receiver() as index,
        launch.launch("vllm", extra_flags=small) as plain,
        launch.launch("vllm", extra_flags=small, env={"CONTEXTPILOT_INDEX_URL": index.url}) as ours,
    ):
        prompts = [[source.randrange(100, 7000) for _ in range(1500)] for _ in range(40)]
        ratios = []
        for number in range(rounds):
            chosen = source.choices(prompts, k=8)
            servers = [plain, ours] if number % 2 else [ours, plain]
            spent = {server: seconds(burst, server, chosen) for server in servers}
            ratios.append(spent[ours] / spent[plain])
        print(f"real vLLM server, 8 prompts of 1,500 tokens a round, {rounds} rounds")
        print(f"  seconds hooked over unhooked: {spread(ratios[1:])}")
        print(f"  messages to the index: {len(index.messages)}")


def burst(server: launch.Server, prompts: list[list[int]]) -> None:
    """Eight completions, one after the other, each with an id of ours."""
    for prompt in prompts:
        name = f"cp-{random.getrandbits(96):024x}"
        body = {"model": launch.MODEL_NAME, "prompt": prompt, "max_tokens": 8, "temperature": 0}
        server.post("/v1/completions", body, X_Request_Id=name)


def seconds(action: Callable[..., None], *arguments: Any) -> float:
    """How long `action` takes."""
    started = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - started


def spread(values: list[float], form: str = ".3f") -> str:
    """Median and the middle half."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:{form}} (middle half {low:{form}} to {high:{form}})"


def main() -> None:
    """Run the named parts, or those without a server."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=["thread", "start", "server"])
    parser.add_argument("--pairs", type=int, default=8)
    arguments = parser.parse_args()
    print(machine_line(), f"· load {os.getloadavg()[0]:.1f}")
    parts = {"thread": bench_thread, "start": bench_start, "server": bench_server}
    for name in arguments.parts or ["thread", "start"]:
        parts[name](max(2, arguments.pairs) * (5 if name == "start" else 1))


if __name__ == "__main__":
    import plainly

    plainly.run(main)
