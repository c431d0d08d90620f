"""Do ordinary files arrive as they are? Each is read once, after another session read parts of it.

    python scripts/check_files.py [--files 2000] [--seed 1]

Files of all types of the standard library, site-packages and the system's documentation.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "corpus"), str(TESTS / "server")]

from corpus_run import proxy  # noqa: E402
from files_read import arrives_changed, files, readable  # noqa: E402
from machine import machine_line  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(machine_line("contextpilot"))
    read: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    with proxy() as client:
        for path in files(args.files, args.seed):
            text = readable(path)
            if text is None:
                continue
            read[path.suffix or path.name] += 1
            if arrives_changed(path, text, client):
                changed[path.suffix or path.name] += 1
                print(f"changed: {path}")
    print(f"{sum(read.values())} files of {len(read)} types, {sum(changed.values())} changed")
    print(", ".join(f"{name} {count}" for name, count in changed.most_common()))
    return int(bool(changed))


if __name__ == "__main__":
    import plainly

    plainly.run(main)
