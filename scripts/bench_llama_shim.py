"""What the shim costs llama-server's inference thread: python scripts/bench_llama_shim.py

Nanoseconds per call of a hooked function, over a stand-in for libllama that does next to nothing:
without the shim, with it and no address set, with an index that is absent, and with one that
answers. The four run in turn in every round, so that other work on the machine shifts all alike.

get_memory   llama_get_memory, before anything that concerns a slot
seq_rm       llama_get_memory and llama_memory_seq_rm: a truncation
token        clear, add_token, set_pos, process: one token generated, 4 calls
prompt       the same with 512 tokens in the batch: 1,026 calls

Every operation is timed by itself; the clock's own cost, about 40 ns, is in all figures alike.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests" / "native"))

import shim_build  # noqa: E402
from machine import machine_line  # noqa: E402
from slot_driver import Driver  # noqa: E402
from slot_index import SlotIndex  # noqa: E402

KINDS = {"get_memory": 1, "seq_rm": 2, "token": 4, "prompt": 1026}
SIDES = ("no shim", "no address", "absent", "answers")


def measure(rounds: int, samples: int) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """(kind, side) -> for each round the median and p99 of nanoseconds per operation."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with ExitStack() as running:
        index = running.enter_context(SlotIndex())
        closed = running.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        urls = {"absent": f"http://127.0.0.1:{closed.getsockname()[1]}", "answers": index.url}
        drivers = {}
        for side in SIDES:
            variables = {"LD_PRELOAD": ""} if side == "no shim" else {}
            drivers[side] = running.enter_context(Driver(urls.get(side), **variables)).open()
        for _ in range(rounds):
            for kind in KINDS:
                for side, driver in drivers.items():
                    words = driver.line("bench", kind, 1, samples).split()
                    found.setdefault((kind, side), []).append((float(words[1]), float(words[2])))
    return found


def report(found: dict[tuple[str, str], list[tuple[float, float]]]) -> None:
    """Print the figures: what the shim adds to each single call, median over the rounds."""
    print("ns per operation: median (p99); added per hooked call by the shim, median")
    print(f"{'operation':12} {'calls':>5}", *(f"{side:>20}" for side in SIDES), "  added per call")
    for kind, hooked in KINDS.items():
        cells, added = [], []
        plain = statistics.median(middle for middle, _ in found[kind, "no shim"])
        for side in SIDES:
            middle = statistics.median(median for median, _ in found[kind, side])
            far = statistics.median(p99 for _, p99 in found[kind, side])
            cells.append(f"{f'{middle:.0f} ({far:.0f})':>20}")
            added.append(f"{(middle - plain) / hooked:.0f}")
        print(f"{kind:12} {hooked:>5}", *cells, "  " + ", ".join(added[1:]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=1000, help="of each operation in a round")
    arguments = parser.parse_args()
    compiler = shim_build.compiler() or ""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    print(machine_line(), f"· {version.stdout.splitlines()[0]} · load {os.getloadavg()[0]:.1f}")
    report(measure(arguments.rounds, arguments.samples))


if __name__ == "__main__":
    import plainly

    plainly.run(main)
