"""What the hooks cost SGLang's scheduler thread: python scripts/bench_sglang.py.

Our own time per step (one prefill or one finish: an insert of 200 to 3,000 tokens) and per evicted
page, with a healthy, an absent and a hanging index, on the real caches of several versions; and
what measuring a step takes by itself, which is not taken off.

    --processor          the thread's own time alone: on a busy machine the longest steps are those
                         in which another process took the processor
    --core rust:SWA      this core alone, as often as given
    --against CHECKOUT   the hooks of another checkout, too, by turns
"""

from __future__ import annotations

import argparse
import json
import os
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


def cost(
    version: str, page_size: str, core: str, url: str, *flags: str, checkout: Path = CHECKOUT
) -> dict[str, Any]:
    """One run of sglang_cost.py in SGLang's environment."""
    script = checkout / "scripts" / "engines" / "sglang_cost.py"
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
    parser.add_argument("--core", action="append", help="of the cases, those of this core alone")
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn")
    given = parser.parse_args()
    flags = ["--processor"] if given.processor else []
    checkouts = (
        {"": CHECKOUT} if given.against is None else {"before": given.against, "now": CHECKOUT}
    )
    print(machine_line(), f"· load {os.getloadavg()[0]:.1f}")
    print(
        "version page core       index    per step, us: median p90 p99   per evicted page, the same"
    )
    with indexes() as urls:
        for case in (case for case in CASES if not given.core or case[2] in given.core):
            for index, url in urls.items():
                for name, checkout in checkouts.items():
                    show(case, index, name, cost(*case, url, *flags, checkout=checkout))


def show(case: tuple[str, str, str], index: str, name: str, seen: dict[str, Any]) -> None:
    """Print one run."""
    step, page = (
        " ".join(f"{seen[key][cut]:7.2f}" for cut in ("median", "p90", "p99"))
        for key in ("step_us", "evict_us")
    )
    version, page_size, core = case
    measuring = f"measuring {seen['measuring_us']['median']:.2f}"
    print(
        f"{version:7} {page_size:>4} {core:10} {index:8} {step}   {page} "
        f"({seen['evicted_pages']} evicted), {measuring} {name}",
        flush=True,
    )


if __name__ == "__main__":
    import plainly

    plainly.run(main)
