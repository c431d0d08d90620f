"""Print how exactly the hybrid caches of a real vLLM or SGLang are followed.

    python scripts/bench_hybrids.py [--engine sglang] [NAME ...]

Tiny random models (scripts/engines/families.py), one engine after the other, on the CPU, in a cache
of 6,400 tokens; SGLang's is a server (scripts/engines/sglang_hybrid_run.py). Of each model
`--checks` prompts are sent again and as many that share a part of one: what the hook told, against
the engine's own `cached_tokens`.

    --plain      the same prompts without the hook too: are the outputs the same?
    --sharers    vLLM: cached tokens of the 1st to 4th request that shares 950 tokens, by retention
    --eagle      vLLM: Llama with EAGLE, too: a drafting head of random weights
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "scripts" / "engines"))

from environments import environment  # noqa: E402
from families import FAMILIES, ensure_drafts, ensure_family  # noqa: E402
from machine import machine_line  # noqa: E402
from sglang_hybrid_run import JOBS  # noqa: E402
from sglang_hybrid_run import job as sglang_job  # noqa: E402
from sglang_hybrid_run import run as run_sglang  # noqa: E402

RUN = CHECKOUT / "scripts" / "engines" / "vllm_hybrid_run.py"
RETENTIONS = (0, None, 256)


def job(family: str, checks: int = 0, **more: Any) -> dict[str, Any]:
    """What vllm_hybrid_run.py does for a family."""
    model = ensure_family(environment("vllm").python, family)
    return {"name": family, "model": str(model), "checks": checks, **more}


def eagle(checks: int) -> dict[str, Any]:
    """Llama with a drafting head."""
    draft = ensure_drafts(environment("vllm").python)
    return {**job("llama", checks, options={"speculative_config": draft}), "name": "llama, EAGLE"}


def results(
    jobs: list[dict[str, Any]], timeout: float = 60.0, script: Path = RUN
) -> Iterator[dict[str, Any]]:
    """Run jobs of `script` in one process of vLLM's environment; yield what each printed.

    Raises RuntimeError with the end of its output when it did not print all.
    """
    home = environment("vllm").root
    path = os.pathsep.join(filter(None, (str(home / "opt"), os.environ.get("PYTHONPATH"))))
    command = ["nice", "-n", "10", "env", "OMP_NUM_THREADS=1", f"PYTHONPATH={path}"]
    process = subprocess.Popen(
        [*command, str(environment("vllm").python), "-B", str(script), json.dumps(jobs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    seen, last = 0, list[str]()
    with process:
        try:
            for line in process.stdout:
                last = [*last[-20:], line]
                if line.startswith('{"name"'):
                    seen += 1
                    yield json.loads(line)
            process.wait(timeout)
        finally:
            process.kill()
    if seen < len(jobs):
        raise RuntimeError("".join(last))


def table(runs: Iterable[dict[str, Any]], plain: dict[str, str]) -> int:
    """Print a row for each run; return how many predictions were above."""
    print("| model | layers | sent again: hits, above, below, worst | shared in part | outputs |")
    print("|---|---|---|---|---|", flush=True)
    above = 0
    for seen in runs:
        cells = []
        for kind in ("again", "shared"):
            found = seen[kind]
            above += found["above"]
            counts = ", ".join(str(found[name]) for name in ("hits", "above", "below", "worst"))
            cells.append(f"{found['checks']}: {counts}")
        layers = " + ".join(sorted({name.removesuffix("Manager") for name in seen["layers"]}))
        same = plain.get(seen["name"])
        outputs = f"{seen['distinct']} different"
        if same is not None:
            outputs += (
                ", the same without the hook" if same == seen["outputs"] else ", NOT THE SAME"
            )
        print(f"| {seen['name']} | {layers} | {' | '.join(cells)} | {outputs} |", flush=True)
    return above


def print_sharers(names: list[str]) -> None:
    """Print what the first sharers of a prefix find, with each retention."""
    print("| model | retention | cached tokens of the 1st to 4th sharer |")
    print("|---|---|---|", flush=True)
    jobs = [
        job(name, sharers=True, options={"prefix_cache_retention_interval": interval})
        for name in names
        for interval in (RETENTIONS if name not in ("llama", "llama4") else RETENTIONS[:1])
    ]
    for seen in results(jobs):
        row = " / ".join(f"{tokens:.0f}" for tokens in seen["sharers"])
        print(f"| {seen['name']} | {seen['retention']} | {row} |", flush=True)


def main() -> int:
    """Print the tables; 1 if anything was told that was not so."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="*", help=f"{', '.join(FAMILIES)}; sglang: {'; '.join(JOBS)}"
    )
    parser.add_argument("--engine", choices=("vllm", "sglang"), default="vllm")
    parser.add_argument("--checks", type=int, default=300)
    parser.add_argument("--sharers", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--eagle", action="store_true")
    options = parser.parse_args()
    is_sglang = options.engine == "sglang"
    if is_sglang and (options.sharers or options.eagle):
        parser.error("--sharers and --eagle are for vLLM")
    names = options.names or list(JOBS if is_sglang else FAMILIES)
    print(machine_line(), flush=True)
    if options.sharers:
        print_sharers(names)
        return 0
    make = sglang_job if is_sglang else job
    jobs = [make(name, options.checks) for name in names]
    jobs += [eagle(options.checks)] if options.eagle else []

    def runs(**more: Any) -> Iterator[dict[str, Any]]:
        asked = [{**one, **more} for one in jobs]
        return map(run_sglang, asked) if is_sglang else results(asked)

    plain: dict[str, str] = {}
    if options.plain:
        plain = {seen["name"]: seen["outputs"] for seen in runs(hooked=False)}
    return int(table(runs(), plain) > 0)


if __name__ == "__main__":
    import plainly

    plainly.run(main)
