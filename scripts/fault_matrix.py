"""Inject everything that goes wrong around a server, and print what became of it.

    python scripts/fault_matrix.py                          # scripted engines, a minute
    python scripts/fault_matrix.py --engine llamacpp --times 5
    python scripts/fault_matrix.py --only "engine|sync"

Each row says what is expected, how often the fault was injected and survived, and how many requests
were answered and lost meanwhile. Fails when a row does. `--engine` names what fails: a scripted
engine with a real prefix cache and the hooks' own ledger and reporter, or a real engine
(scripts/engines/setup.py); a scripted one stands in for it.
"""

from __future__ import annotations

import argparse
import re
import time

from faults import outages, shortages, strangers
from faults.world import Outcome, World
from machine import machine_line

ROWS = [*outages.ROWS, *shortages.ROWS, *strangers.ROWS]
ENGINES = ("scripted", "llamacpp", "vllm", "sglang")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=ENGINES, default="scripted")
    parser.add_argument("--times", type=int, default=3, help="how often each fault is injected")
    parser.add_argument("--only", default="", help="rows whose names match this expression")
    parser.add_argument("--all-rows", action="store_true", help="also those that any engine suits")
    arguments = parser.parse_args()
    print(f"{machine_line('fastapi', 'uvicorn', 'uvloop')} · engine: {arguments.engine}\n")
    print("| fault | expected | injected | survived | answered | lost | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    failures = 0
    for row in ROWS:
        if arguments.engine != "scripted" and not (row.is_of_engine or arguments.all_rows):
            continue
        if not re.search(arguments.only, row.name):
            continue
        began = time.monotonic()
        outcome = row.run(World(arguments.engine, arguments.times))
        failures += not outcome.is_good
        print(line_of(row.name, row.expected, outcome, time.monotonic() - began), flush=True)
    print(f"\nrows that failed: {failures}")
    return int(failures > 0)


def line_of(name: str, expected: str, outcome: Outcome, seconds: float) -> str:
    """Return one line of the table."""
    counts = [outcome.injected, outcome.survived, outcome.answered, outcome.lost]
    cells = [name, expected, *(f"{count:,}" for count in counts), f"{seconds:.0f}"]
    note = f" {outcome.note}" if outcome.note else ""
    return f"| {' | '.join(cells)} |{note}"


if __name__ == "__main__":
    import plainly

    plainly.run(main)
