"""What the proxy does with the prompts of tests/corpus: found, moved, altered, by family and kind.

    python scripts/check_corpus.py [--only TEXT] [--table | --write]

Each case is sent cold, after a session that held the same items in another order, and after one
that held some of them. Prints a line for each case that fails and a table; --table prints the table
alone, as docs/extraction.md shows it; --write notes the failing cases as known, for the test.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "corpus"), str(TESTS / "server")]

from corpus_cases import load  # noqa: E402
from corpus_run import Verdict, judge, proxy  # noqa: E402

import contextpilot  # noqa: E402

KNOWN = TESTS / "corpus" / "known_failures.json"
HEADER = ("family", "kind", "cases", "found", "moved", "altered", "as it must be")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose family, name or shape holds this")
    parser.add_argument("--table", action="store_true", help="print the table alone")
    parser.add_argument("--write", action="store_true", help="note what fails as known")
    args = parser.parse_args()
    cases = [c for c in load() if args.only.lower() in f"{c.family} {c.name} {c.shape}".lower()]
    with proxy() as client:
        verdicts = [judge(case, client) for case in cases]
    failed = [verdict for verdict in verdicts if verdict.problem]
    if not args.table:
        for verdict in failed:
            print(f"{verdict.case.kind} {verdict.case.family}/{verdict.case.name}")
            print(f"    {verdict.case.shape}: {verdict.problem}")
        print()
    print(table(verdicts))
    shapes = {case.shape for case in cases}
    print(
        f"\n{len(cases)} cases after {len(shapes)} templates and tools; contextpilot "
        f"{contextpilot.__version__}, Python {platform.python_version()}, {datetime.date.today()}"
    )
    if args.write:
        KNOWN.write_text(json.dumps(sorted(v.case.name for v in failed), indent=0) + "\n")
    return int(bool(failed))


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the figures by family and kind as a Markdown table."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.case.family, verdict.case.kind), []).append(verdict)
    for verdict in verdicts:
        groups.setdefault(("all", verdict.case.kind), []).append(verdict)
    rows = [HEADER, tuple("---" for _ in HEADER)]
    for (family, kind), own in groups.items():
        good = sum(not verdict.problem for verdict in own)
        counts = [
            len(own),
            sum(verdict.found > 0 for verdict in own),
            sum(bool(verdict.moved) for verdict in own),
            sum(bool(verdict.altered) for verdict in own),
        ]
        share = f"{good} ({100 * good / len(own):.0f} %)"
        rows.append((family.replace("_", " "), kind, *map(str, counts), share))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
