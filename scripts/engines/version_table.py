"""Write docs/engines.md: the engine versions that were driven, and what came out.

    python scripts/engines/version_table.py [vllm] [sglang]     without names: both

Each version's real classes run under the hooks (tests/engines/*_drive.py). Versions that are not
fetched are left out; the table says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import versions
from environments import environment

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "engines.md"
HEAD = """# Engines

What the hooks support. Below, every version's real scheduler and cache classes ran random bursts of
requests with shared prefixes, evictions and resets, without model and device; `checked` counts the
comparisons between what the index was told and what the engine itself would reuse.
"""


def drive(engine: str, version: str, *arguments: str) -> dict[str, Any]:
    """The JSON that the engine's drive prints for one version."""
    script = CHECKOUT / "tests" / "engines" / f"{engine}_drive.py"
    files = versions.folder(engine, version)
    done = subprocess.run(
        [environment(engine).python, "-B", script, files, version, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def vllm_row(version: str) -> list[str]:
    """version, verdict, checked, wrong, evicted, resets, models with other layers."""
    seen, other = drive("vllm", version), drive("vllm", version, "hybrid")
    if "failed" in seen:
        return [version, "failed", *"----", "-"]
    exact = not seen["mismatches"] and not seen["warnings"] and bool(seen["checks"])
    refused = len(other.get("warnings", ())) == 1 and not other["engines"]
    counts = [str(seen[key]) for key in ("checks", "mismatches", "evicted", "resets")]
    return [version, "exact" if exact else "not exact", *counts, "refused" if refused else "?"]


def vllm() -> str:
    """The section on vLLM."""
    titles = ["version", "verdict", "checked", "wrong", "evicted blocks", "resets", "hybrid layers"]
    return section("vllm", "vLLM (V1 engine)", titles, vllm_row)


def section(engine: str, title: str, titles: list[str], row: Callable[[str], list[str]]) -> str:
    """One engine's heading, date and table."""
    lines = [f"## {title}", "", f"Run on {datetime.date.today().isoformat()}, on the CPU.", ""]
    lines += [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    present = versions.present(engine)
    for version in present:
        cells = row(version)
        print(" ".join(cells), flush=True)
        lines.append(f"| {' | '.join(cells)} |")
    absent = [name for name in versions.SOURCES[engine].versions if name not in present]
    if absent:
        lines += ["", f"Not driven this time: {', '.join(absent)}."]
    return "\n".join(lines)


SECTIONS: dict[str, Callable[[], str]] = {"vllm": vllm}


def merge(page: str, engine: str, text: str) -> str:
    """Replace the part between the engine's markers, or append it."""
    start, end = f"<!-- {engine}: made by version_table.py -->", f"<!-- {engine}: end -->"
    block = f"{start}\n{text}\n{end}"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page)
    return f"{page.rstrip()}\n\n{block}\n"


def main() -> int:
    """Drive the versions and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engines", nargs="*", choices=[*SECTIONS])
    for engine in parser.parse_args().engines or SECTIONS:
        text = SECTIONS[engine]()
        page = PAGE.read_text() if PAGE.exists() else HEAD
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(merge(page, engine, text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
