"""Print what planning brings on a real vLLM whose cache can be reused at few lengths only.

    python scripts/bench_hybrid_hits.py WORKLOADS [--only locomo0-top100] [--families gemma3 gptoss]

WORKLOADS is a folder of NAME.json.gz (scripts/workloads.py builds them). Each is sent to an engine
of its own, one request after the other: as given, planned blindly, with the lengths that the hook
tells, with the points too, and if asked for as a batch, which wants SciPy in vLLM's environment or
in PYTHONPATH (scripts/engines/vllm_hits_run.py). Tiny random models, on the CPU; with --no-model
vLLM's scheduler and cache alone, which is a tenth of the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from bench_hybrids import CHECKOUT, job, results
from machine import machine_line
from workloads import workload_files

RUN = CHECKOUT / "scripts" / "engines" / "vllm_hits_run.py"
WAYS = "plain", "blindly", "lengths", "knowing", "batch"
RETENTIONS = {"0": 0, "all": None, "256": 256, "1024": 1024}
"""What `--prefix-cache-retention-interval` may be; 0 is the default of vLLM 0.32."""
LAYERS = {"gemma3": "window", "llama": "full", "qwen3next": "states"}
SMALLER = {
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "num_attention_heads": 1,
}
"""Two layers: only what the cache holds of them counts here."""


def rows(options: argparse.Namespace) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the head of each row of the table, and a job for each way."""
    for workload in workload_files(options.folder, options.only):
        for name, capacity, retention in product(
            options.families, options.capacity, options.retention
        ):
            head = f"{workload.name.partition('.')[0]} | {name} | {capacity} | {retention}"
            jobs = [
                one_job(name, way, workload, capacity, options, retention) for way in options.ways
            ]
            yield head, jobs


def one_job(
    name: str,
    way: str,
    workload: Path,
    capacity: str,
    options: argparse.Namespace,
    retention: str,
) -> dict[str, Any]:
    """A workload, sent in one way to an engine of its own."""
    engine = {"max_num_batched_tokens": 2048, "hf_overrides": SMALLER}
    if name != "llama":
        engine |= {"prefix_cache_retention_interval": RETENTIONS[retention]}
    more: dict[str, Any] = {"way": way, "workload": str(workload), "capacity": capacity}
    if options.no_model:
        more |= {"layers": LAYERS[name], "retention": RETENTIONS[retention]}
    else:
        more["options"] = engine
    return job(name, count=options.count, **more)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of workloads")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=["locomo0-top100"])
    parser.add_argument("--families", nargs="+", default=["gemma3"])
    parser.add_argument("--capacity", nargs="+", default=["unlimited", "5%"])
    parser.add_argument("--retention", nargs="+", choices=RETENTIONS, default=["0"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS[:-1]))
    parser.add_argument("--no-model", action="store_true", help="the scheduler and cache alone")
    parser.add_argument("--count", type=int, help="the first requests of each only")
    options = parser.parse_args()
    print(machine_line(), flush=True)
    print(f"| workload | model | cache | retention | {' | '.join(options.ways)} |")
    print("|---|---|---|---|" + "---|" * len(options.ways), flush=True)
    found = list(rows(options))
    seen = results([one for _, jobs in found for one in jobs], script=RUN)
    for head, jobs in found:
        print(f"| {head} |", end="", flush=True)
        for _ in jobs:
            one = next(seen)
            print(f" {100 * one['cached'] / one['tokens']:.2f} |", end="", flush=True)
        print(flush=True)
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)
