"""What the hooks cost SGLang's scheduler thread: python scripts/bench_sglang.py.

Our own time per step (one prefill or one finish: an insert of 200 to 3,000 tokens) and per evicted
page, with a healthy, an absent and a hanging index, on the real caches of several versions; and
what measuring a step takes by itself, which is not taken off.

    --processor    the thread's own time alone: on a busy machine the longest steps are those in
                   which another process took the processor
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "scripts" / "engines"), str(CHECKOUT / "tests" / "hooks")]

import versions  # noqa: E402
from bench_hooks import indexes  # noqa: E402
from environments import environment  # noqa: E402
from machine import machine_line  # noqa: E402

CASES = (
    ("0.5.23", "1", "rust"),
    ("0.5.23", "16", "rust"),
    ("0.5.23", "64", "rust"),
    ("0.5.23", "16", "python"),
    ("0.5.23", "1", "rust:SWA"),
    ("0.5.23", "1", "rust:MAMBA"),
    ("0.5.23", "1", "python:SWA"),
    ("0.5.10", "1", "radix"),
    ("0.5.10", "16", "radix"),
)


def cost(version: str, page_size: str, core: str, url: str, *flags: str) -> dict[str, Any]:
    """One run of sglang_cost.py in SGLang's environment."""
    script = CHECKOUT / "scripts" / "engines" / "sglang_cost.py"
    files = versions.fetch("sglang", version)
    command = [
        environment("sglang").python,
        "-B",
        script,
        files,
        version,
        page_size,
        core,
        url,
        *flags,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processor", action="store_true")
    flags = ["--processor"] if parser.parse_args().processor else []
    print(machine_line())
    print(
        "version page core       index    per step, us: median p90 p99   per evicted page, the same"
    )
    with indexes() as urls:
        for version, page_size, core in CASES:
            for name, url in urls.items():
                seen = cost(version, page_size, core, url, *flags)
                step, page = (
                    " ".join(f"{seen[key][cut]:7.2f}" for cut in ("median", "p90", "p99"))
                    for key in ("step_us", "evict_us")
                )
                case = f"{version:7} {page_size:>4} {core:10} {name:8}"
                measuring = f"measuring {seen['measuring_us']['median']:.2f}"
                print(f"{case} {step}   {page} ({seen['evicted_pages']} evicted), {measuring}")


if __name__ == "__main__":
    import plainly

    plainly.run(main)
