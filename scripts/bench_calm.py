"""How calm server and library stay where there is much of something, before and after.

    git worktree add ../before COMMIT
    python scripts/bench_calm.py --before ../before

Each measurement runs in a process of its own, with this checkout's package and with the other's in
turns; of the rounds the median counts. A group of measurements is a module of scripts/calm with
`MEASUREMENTS`; they use what both checkouts have.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from calm.measurement import Measurement
from machine import machine_line

SCRIPTS = Path(__file__).parent
GROUPS = sorted(path.stem for path in (SCRIPTS / "calm").glob("*.py"))
TIMEOUT_S = 300


def measurements(only: str = "") -> list[Measurement]:
    """Return the measurements whose name or group contains a word."""
    return [
        one
        for group in GROUPS
        for one in getattr(import_module(f"calm.{group}"), "MEASUREMENTS", ())
        if only in f"{group}: {one.name}"
    ]


def run(name: str, checkout: Path) -> float | None:
    """Return what a measurement gives with a checkout's package; None when it fails there."""
    environment = {**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{SCRIPTS}"}
    command = [sys.executable, str(Path(__file__)), "--measure", name]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except subprocess.SubprocessError as error:
        print(f"{name}: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
        return None
    value: float = json.loads(done.stdout.splitlines()[-1])
    return value


def shown(values: Iterable[float | None]) -> str:
    """Return the median of some rounds, with as many digits as tell something."""
    known = [value for value in values if value is not None]
    if not known:
        return "failed"
    value = statistics.median(known)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, help="another checkout to compare with")
    parser.add_argument("--only", default="", help="measurements whose name contains this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        (wanted,) = [one for one in measurements() if one.name == arguments.measure]
        print(json.dumps(wanted.measure()))
        return 0
    checkouts = [SCRIPTS.parent] if arguments.before is None else [arguments.before, SCRIPTS.parent]
    checkouts = [checkout.resolve() for checkout in checkouts]
    print(machine_line("fastapi", "uvicorn", "uvloop"), flush=True)
    columns = ["measured"] if len(checkouts) == 1 else ["before", "after"]
    print("| what | unit | must be | " + " | ".join(columns) + " |")
    print("|---" * (3 + len(columns)) + "|", flush=True)
    for one in measurements(arguments.only):
        rounds = [[run(one.name, place) for place in checkouts] for _ in range(arguments.rounds)]
        values = " | ".join(shown(column) for column in zip(*rounds, strict=True))
        print(f"| {one.name} | {one.unit} | {one.bound} | {values} |", flush=True)
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)
