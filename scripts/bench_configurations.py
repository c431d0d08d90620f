"""Print whether what the hook tells of a real vLLM is what is cached, as production runs it.

    python scripts/bench_configurations.py [NAME ...] [--checks N] [--family llama]

One engine for each configuration, tiny random model, on the CPU, in a small cache: prompts are sent
again and in part, and before each what the hook told is compared with the engine's `cached_tokens`
(scripts/engines/vllm_hybrid_run.py). What this machine cannot run says why. "replicas" is a server:
two data-parallel ranks behind two API servers (scripts/engines/replicas.py).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "engines"))

import replicas
from bench_hybrids import job, results
from families import FAMILIES
from machine import machine_line

_TIGHT = {"num_gpu_blocks_override": 90}
"""The cache of one and a half of the longest prompts: who decodes is preempted."""
_OFFLOADING = {
    "kv_connector": "OffloadingConnector",
    "kv_role": "kv_both",
    "kv_connector_extra_config": {"cpu_bytes_to_use": 64 << 20},
}
_NGRAM = {
    "method": "ngram",
    "num_speculative_tokens": 3,
    "prompt_lookup_max": 4,
    "prompt_lookup_min": 2,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "async scheduling": {"options": {"async_scheduling": True}},
    "no async scheduling": {"options": {"async_scheduling": False}},
    "no chunked prefill": {
        "options": {"enable_chunked_prefill": False, "max_num_batched_tokens": 2048}
    },
    "priorities": {"options": {"scheduling_policy": "priority"}, "habits": ["priorities"]},
    "preemption": {"options": _TIGHT, "habits": ["crowds"]},
    "salts": {"habits": ["spaces"]},
    "aborts": {"habits": ["aborts"]},
    "all of these": {
        "options": {**_TIGHT, "scheduling_policy": "priority"},
        "habits": ["crowds", "priorities", "spaces", "aborts"],
    },
    "n-gram speculation": {"options": {"speculative_config": _NGRAM}},
    "LoRAs": {
        "options": {"enable_lora": True, "max_loras": 2, "max_lora_rank": 8},
        "habits": ["spaces"],
    },
    "offloading": {"options": {"kv_transfer_config": _OFFLOADING}},
}
REPLICAS = "replicas"


def row(seen: dict[str, Any]) -> str:
    """One configuration as a line of the table."""
    if "failed" in seen:
        return f"| {seen['name']} | does not start: {seen['failed'][:160]} | | | |"
    kinds = [seen["again"], seen["shared"]]
    counts = {name: sum(kind[name] for kind in kinds) for name in ("checks", "hits")}
    apart = [sum(kind[name] for kind in kinds) for name in ("above", "below")]
    happened = f"{seen.get('preemptions', 0)} preempted, {seen.get('aborts', 0)} aborted"
    if "engines" in seen:
        happened = f"{seen['engines']} ranks told"
    told = f"{apart[0]} above, {apart[1]} below"
    return f"| {seen['name']} | {counts['checks']} | {counts['hits']} | {told} | {happened} |"


def main() -> int:
    """Print the table; 1 if anything was told that was not so."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    everything = [*CONFIGURATIONS, REPLICAS]
    parser.add_argument("names", nargs="*", help=", ".join(everything))
    parser.add_argument("--family", choices=FAMILIES, default="llama")
    parser.add_argument("--checks", type=int, default=100)
    options = parser.parse_args()
    chosen = options.names or everything
    print(machine_line(), flush=True)
    print("| configuration | prompts | hits | told | happened |\n|---|---|---|---|---|", flush=True)
    above = 0
    jobs = [
        job(options.family, options.checks, may_fail=True, **CONFIGURATIONS[name]) | {"name": name}
        for name in chosen
        if name != REPLICAS
    ]
    for seen in results(jobs) if jobs else ():
        print(row(seen), flush=True)
        above += sum(seen[kind]["above"] for kind in ("again", "shared") if kind in seen)
    if REPLICAS in chosen:
        seen = {"name": REPLICAS, **replicas.run(options.checks)}
        print(row(seen), flush=True)
        above += seen["again"]["above"]
    return int(above > 0)


if __name__ == "__main__":
    import plainly

    plainly.run(main)
