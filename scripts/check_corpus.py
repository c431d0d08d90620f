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
from collections.abc import Mapping, Sequence
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "corpus"), str(TESTS / "server")]

from corpus_cases import load  # noqa: E402
from corpus_repeats import repeats  # noqa: E402
from corpus_run import TalkVerdict, Verdict, judge, judge_talk, prompt_problem, proxy  # noqa: E402
from corpus_talks import talks  # noqa: E402
from known import FILE  # noqa: E402
from system_prompts import system_prompts  # noqa: E402

import contextpilot  # noqa: E402

HEADER = ("family", "kind", "cases", "found", "moved", "altered", "correct")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose family, name or shape holds this")
    parser.add_argument("--table", action="store_true", help="print the table alone")
    parser.add_argument("--write", action="store_true", help="note what fails as known")
    args = parser.parse_args()
    cases = [c for c in load() if args.only.lower() in f"{c.family} {c.name} {c.shape}".lower()]
    with proxy() as client:
        verdicts = [judge(case, client) for case in cases]
        chosen = (talk for talk in [*talks(), *repeats()] if args.only.lower() in talk.name)
        told = [judge_talk(talk, client) for talk in chosen]
        prompts = [each for each in system_prompts() if args.only.lower() in each.name]
        altered = {each.name: prompt_problem(each, client) for each in prompts}
    failed = [verdict for verdict in verdicts if verdict.problem]
    broken = [verdict for verdict in told if verdict.problem]
    if not args.table:
        for verdict in failed:
            print(f"{verdict.case.kind} {verdict.case.family}/{verdict.case.name}")
            print(f"    {verdict.case.shape}: {verdict.problem}")
        for one in broken:
            print(f"conversation {one.talk.name}\n    {one.problem}")
        for name, problem in altered.items():
            if problem:
                print(f"system prompt {name}\n    {problem}")
        print()
    print(table(verdicts) + talk_rows(told) + prompt_row(altered))
    shapes = {case.shape for case in cases}
    print(
        f"\n{len(cases)} cases after {len(shapes)} templates and tools; contextpilot "
        f"{contextpilot.__version__}, Python {platform.python_version()}, {datetime.date.today()}"
    )
    if args.write:
        names = [v.case.name for v in failed] + [v.talk.name for v in broken]
        names += [name for name, problem in altered.items() if problem]
        FILE.write_text(json.dumps(sorted(names), indent=0) + "\n", encoding="utf-8")
    return int(bool(failed or broken or any(altered.values())))


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


def talk_rows(told: Sequence[TalkVerdict]) -> str:
    """Return the row of the conversations: how many save anything, and how much they do."""
    if not told:
        return ""
    good = sum(not verdict.problem for verdict in told)
    saving = sum(verdict.saved > 0 for verdict in told)
    share = f"{good} ({100 * good / len(told):.0f} %)"
    return f"\n| conversations | references | {len(told)} | – | – | {saving} | {share} |"


def prompt_row(altered: Mapping[str, str]) -> str:
    """Return the row of the system prompts."""
    if not altered:
        return ""
    bad = sum(bool(problem) for problem in altered.values())
    share = f"{len(altered) - bad} ({100 - 100 * bad / len(altered):.0f} %)"
    return f"\n| system prompts | must_stay | {len(altered)} | – | – | {bad} | {share} |"


if __name__ == "__main__":
    import plainly

    plainly.run(main)
