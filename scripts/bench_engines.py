"""Measure real engines with `contextpilot bench`, and render docs/benchmarks.md.

    python scripts/bench_engines.py WORKLOADS RESULTS [--engines vllm sglang llamacpp]
        [--only NAME ...] [--requests N NAME=N] [--modes A,B] [--render]

WORKLOADS is a folder of workload files; one without any overlap is made there as
RESULTS/no-overlap.jsonl. Each engine runs unchanged on the CPU (scripts/engines/setup.py sets it
up) with a random model whose cost is prefill: wide, one layer, one attention head, so that
attention takes about the share that it takes in a large model. Each case is one launch: a large
cache, a small one, the large one with repetitions, and SGLang's own longest-prefix scheduling.
What is in RESULTS already is not measured again, so that a run can be continued; `--render` only
writes the page.

Only figures leave RESULTS: no text of a workload gets into the page.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "engines"))

from bench_comparisons import WAITING
from bench_figures import AGAIN
from bench_page import render_page
from environments import environment
from launch import Server, free_port, launch
from machine import machine_line
from tiny_gguf import ensure_gguf
from tiny_model import ensure_model
from workloads import workload_files

from contextpilot import __version__
from contextpilot.commands.workload import read_workload
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.replay import Mode, replay

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
HIDDEN = {"vllm": 1024, "sglang": 1024, "llamacpp": 2048}
"""llama.cpp's attention on CPUs is slower beside its matrix products than the others'."""
LAYERS, HEADS, KEY_HEADS = 1, 1, 1
SMALL_TOKENS = 32_768
LARGE_TOKENS = 3_000_000
VLLM_TOKENS = 16_000_000
"""So many that the prompts of all modes fit together; SGLang gets slow with so large a pool.

In its own pool they do, too, since planned prompts share what they share.
"""
HOST_MIB = 4096
TOKEN_BYTES = 2 * 64 * 2
"""Key and value of one attention head of 64 in 16 bits, one layer."""
LONGEST = 16_384
BLOCK = 32
MAIN = "plain,online,batch,online-full,batch-full"
ALL = f"{MAIN},random,sorted,dedup,proxy"
TURNS = ("--order", "interleaved")
SYNCED = "plain,online,synced,batch,proxy"
NO_OVERLAP = "no-overlap"
FULL = Bounds(displacement_cost=0)
SIMULATED: dict[str, tuple[Mode, Bounds]] = {
    "plain": ("plain", Bounds()),
    "online": ("online", Bounds()),
    "batch": ("batch", Bounds()),
    "online-full": ("online", FULL),
    "batch-full": ("batch", FULL),
}
INDEX_URL = "CONTEXTPILOT_INDEX_URL"


@dataclass(frozen=True)
class Case:
    """One launch of one engine.

    Attributes:
        engine: as `launch` names it.
        cache: "large" or "small".
        flags: appended to the engine's launch command.
        modes: of `contextpilot bench`.
        variant: what is special about it.
        concurrency: requests in flight.
        env: added to the engine's environment.
        options: of `contextpilot bench`, besides those that every case has.
        repetitions: unless the caller says how many.
        reports: the engine's hooks report evictions to the server of `synced` and `proxy`.
    """

    engine: str
    cache: str
    flags: str
    modes: str = MAIN
    variant: str = ""
    concurrency: int = 1
    env: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    repetitions: int = 1
    reports: bool = False

    @property
    def name(self) -> str:
        """The folder of its results."""
        return "-".join(part for part in (self.engine, self.cache, self.variant) if part)


@dataclass(frozen=True)
class Options:
    """Repetitions (None: as the case says), and requests to use of each workload ("": others)."""

    repetitions: int | None
    requests: dict[str, int]

    def of(self, case: Case, workload: str) -> list[str]:
        """Return the options of `contextpilot bench` for a workload."""
        cap = self.requests.get(workload, self.requests.get("", 0))
        own = ["--repetitions", str(self.repetitions or case.repetitions)]
        return own + (["--requests", str(cap)] if cap else [])


def cases(modes: str | None) -> list[Case]:
    """Return all launches; `modes` replaces those of the large caches."""
    vllm = f"--max-model-len {LONGEST} --block-size {BLOCK}"
    dev = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    large = modes or ALL
    queue = f"--max-total-tokens {LARGE_TOKENS}"
    small_blocks = SMALL_TOKENS // BLOCK + 1
    slots = "--parallel 2 --ctx-size 32768 --threads 1"
    first = [
        Case("vllm", "large", f"{vllm} --num-gpu-blocks-override {VLLM_TOKENS // BLOCK}", large,
             env=dev | {"VLLM_CPU_KVCACHE_SPACE": "6"}),
        Case("sglang", "large", queue, large, options=TURNS),
        Case("llamacpp", "large", f"{slots} --cache-ram {HOST_MIB}", large,
             options=(*TURNS, "--host-cache-tokens", str((HOST_MIB << 20) // TOKEN_BYTES))),
    ]  # fmt: skip
    again = [replace(each, modes=MAIN, variant=AGAIN, repetitions=3) for each in first]
    return [
        *first,
        Case("vllm", "small", f"{vllm} --num-gpu-blocks-override {small_blocks}", SYNCED, env=dev,
             reports=True),
        Case("sglang", "small", f"--max-total-tokens {SMALL_TOKENS}", SYNCED, reports=True),
        Case("sglang", "large", queue, "plain,batch", "fcfs", WAITING),
        Case("sglang", "large", f"{queue} --schedule-policy lpm", "plain,batch", "lpm", WAITING),
        Case("llamacpp", "small", f"{slots} --cache-ram 0"),
        *again,
    ]  # fmt: skip


def model_for(engine: str) -> Path:
    """Return the random model: that of the engines' tests, wider, with one attention head."""
    base = ensure_model(environment("vllm").python, hidden=HIDDEN[engine], layers=LAYERS)
    folder = base.with_name(f"{base.name}-a{HEADS}-k{KEY_HEADS}")
    if not folder.exists():
        partial = folder.with_suffix(f".{os.getpid()}")
        shutil.copytree(base, partial)
        config = json.loads((partial / "config.json").read_text())
        config |= {"num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS}
        (partial / "config.json").write_text(json.dumps(config, indent=1))
        partial.rename(folder)
    return ensure_gguf(environment(engine).python, folder) if engine == "llamacpp" else folder


def make_no_overlap(path: Path, num_requests: int = 200, num_blocks: int = 20) -> None:
    """Write requests of random words that share no block."""
    chance = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "an", "or")]

    def words(count: int) -> str:
        return " ".join(
            "".join(chance.choices(syllables, k=chance.randint(1, 3))) for _ in range(count)
        )

    lines = [
        json.dumps(
            {"query": words(8), "contexts": [words(60).capitalize() for _ in range(num_blocks)]}
        )
        for _ in range(num_requests)
    ]
    path.write_text("\n".join(lines) + "\n")


def workloads(folder: Path, results: Path) -> list[Path]:
    """Return the files of the folder and the one that is made here."""
    made = results / f"{NO_OVERLAP}.jsonl"
    if not made.exists():
        make_no_overlap(made)
    suffixes = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
    given = sorted(path for path in folder.glob("*") if path.name.endswith(suffixes))
    return [*(given or workload_files(folder)), made]


def short_name(path: Path) -> str:
    """Return a workload's name."""
    return path.name.partition(".")[0]


def bench(case: Case, server: Server, workload: Path, target: Path, options: list[str]) -> None:
    """Run one workload; keep the figures and the exact command."""
    command = ["bench", "--engine", server.base_url, "--workload", str(workload)]
    command += ["--modes", case.modes, "--concurrency", str(case.concurrency)]
    command += [*case.options, *options]
    if case.concurrency > 1:
        command += ["--slice", "1000000"]
    target.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "contextpilot", *command, "--out", str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.monotonic() - started
    print(f"{case.name} {short_name(workload)}: {seconds:.0f} s, status {done.returncode}")
    print(done.stdout if done.returncode == 0 else done.stderr[-2000:], flush=True)
    if done.returncode:
        return
    names = {str(workload): workload.name, server.base_url: "URL"}
    shown = [names.get(part, part) for part in command]
    case_of = {
        "case": case.name,
        "engine": case.engine,
        "cache": case.cache,
        "variant": case.variant,
        "flags": case.flags,
        "command": "contextpilot " + shlex.join(shown),
        "machine": machine_line(),
        "model": f"hidden size {HIDDEN[case.engine]}, {LAYERS} layer, {HEADS} attention head of 64",
        "seconds": round(seconds),
        "load": round(os.getloadavg()[2], 1),
    }
    (target / "case.json").write_text(json.dumps(case_of, indent=2) + "\n")


def measure(case: Case, todo: Sequence[Path], results: Path, options: Options) -> None:
    """Launch one engine and run what is missing."""
    missing = [p for p in todo if not (results / case.name / short_name(p) / "case.json").exists()]
    if not missing:
        return
    place = f"127.0.0.1:{free_port()}"
    env = case.env | ({INDEX_URL: f"http://{place}"} if case.reports else {})
    with launch(
        case.engine,
        env=env,
        extra_flags=shlex.split(case.flags),
        model=model_for(case.engine),
        hooks=case.reports,
    ) as server:
        for path in missing:
            own = options.of(case, short_name(path)) + (["--listen", place] if case.reports else [])
            bench(case, server, path, results / case.name / short_name(path), own)


def simulate_all(paths: Sequence[Path], results: Path) -> dict[str, dict[str, float]]:
    """Return what all requests of each workload would hit in an unlimited cache, by mode."""
    kept = results / "simulated.json"
    known: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
    for path in paths:
        if not SIMULATED.keys() <= known.get(short_name(path), {}).keys():
            contexts = read_workload(str(path)).contexts
            ratios = {
                name: replay(contexts, mode, bounds=bounds).hit_ratio
                for name, (mode, bounds) in SIMULATED.items()
            }
            known[short_name(path)] = {"requests": len(contexts), **ratios}
    kept.write_text(json.dumps(known, indent=2) + "\n")
    return known


def main() -> None:
    """Measure what is asked for and missing, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workloads", type=Path, help="folder of workload files")
    parser.add_argument("results", type=Path, help="folder for the figures")
    parser.add_argument("--engines", nargs="+", default=["vllm", "sglang", "llamacpp"])
    parser.add_argument("--cases", nargs="+", help="names of cases, for example vllm-large")
    parser.add_argument("--only", nargs="+", help="names of workloads")
    parser.add_argument("--modes", help="modes for the large caches")
    parser.add_argument(
        "--requests",
        nargs="+",
        default=[],
        metavar="N|NAME=N",
        help="use the first N of each workload, or of one",
    )
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    found = workloads(args.workloads, args.results)
    by_name = {short_name(path): path for path in found}
    todo = [by_name[name] for name in args.only or by_name]
    caps = dict(text.rpartition("=")[::2] for text in args.requests)
    options = Options(args.repetitions, {name: int(number) for name, number in caps.items()})
    print(f"{machine_line()} · contextpilot {__version__}", flush=True)
    for case in [] if args.render else cases(args.modes):
        if case.engine in args.engines and (not args.cases or case.name in args.cases):
            measure(case, todo, args.results, options)
    render_page(args.results, args.page, simulate_all(todo, args.results))


if __name__ == "__main__":
    import plainly

    plainly.run(main)
