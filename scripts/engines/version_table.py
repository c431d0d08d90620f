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
HEAD = """# Engine versions

This page lists the engine versions that the hooks support. For each version, the engine's real
scheduler and cache classes ran random bursts of requests with shared prefixes, evictions and
resets, without a model or a device. `checked` counts the comparisons between what the index was
told and what the engine itself would reuse.
"""


def drive(engine: str, version: str, *arguments: str) -> list[dict[str, Any]]:
    """The lines of JSON that the engine's drive prints for one version and several modes."""
    script = CHECKOUT / "tests" / "engines" / f"{engine}_drive.py"
    files = versions.folder(engine, version)
    done = subprocess.run(
        [environment(engine).python, "-B", script, files, version, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        print(done.stderr.strip()[-500:], file=sys.stderr)
        return []
    return [json.loads(line) for line in lines]


HYBRIDS = ("exact:window", "exact:states", "eagle")


def vllm_row(version: str) -> list[str]:
    """version, verdict, checked, wrong, evicted, resets; sliding window, states, EAGLE."""
    seen, *hybrids = drive("vllm", version, "exact", *HYBRIDS) or [{"failed": True}]
    if "failed" in seen:
        return [version, "failed", *"----", *"---"]
    exact = not seen["mismatches"] and not seen["warnings"] and bool(seen["checks"])
    counts = [str(seen[key]) for key in ("checks", "mismatches", "evicted", "resets")]
    verdict = "exact" if exact else "not exact"
    return [version, verdict, *counts, *(vllm_verdict(each) for each in hybrids)]


def vllm_verdict(seen: dict[str, Any]) -> str:
    """What became of a model of another kind; every prompt was sent again, and in part."""
    if "failed" in seen:
        return "the engine fails"
    if seen["warnings"]:
        return "refused"
    checks = seen["checks"] + seen["shared"]
    wrong = seen["mismatches"] + seen["shared_above"] + seen["shared_below"]
    above = seen["above"] + seen["shared_above"]
    return f"exact, {checks}" if not wrong else f"{above} above, {wrong - above} below of {checks}"


def vllm() -> str:
    """The section on vLLM."""
    titles = ["version", "verdict", "checked", "wrong", "evicted blocks", "resets"]
    titles += ["sliding window", "states", "EAGLE"]
    return section("vllm", "vLLM (V1 engine)", titles, vllm_row)


PARTS = ("SWA", "MAMBA", "EAGLE")
WITHOUT_EAGLE = ("0.5.1", "0.5.2")


def sglang_row(version: str) -> list[str]:
    """version, cache, tree cores, verdict, checked, wrong, partly and wholly evicted; PARTS."""
    cores = ["python", "rust"] if int(version.split(".")[2]) >= 19 else ["radix"]
    absent = {} if cores != ["radix"] else dict.fromkeys(PARTS[:-1], "other classes, refused")
    absent |= {"EAGLE": "not available"} if version in WITHOUT_EAGLE else {}
    modes = ["", *(part for part in PARTS if part not in absent)]
    by_core = [sglang_modes(version, core, modes) for core in cores]
    driven = dict(zip(modes, zip(*by_core, strict=True), strict=True))
    seen = driven.pop("")
    runs = [run for each in seen for run in each.get("runs", ()) if run["engines"]]
    counts = [str(sum(run[key] for run in runs)) for key in ("checked", "partial", "gone")]
    wrong = sum(len(run["wrong"]) + (not run["cleared"]) for run in runs)
    verdicts = [f"{core}: {sglang_verdict(each)}" for core, each in zip(cores, seen, strict=True)]
    cache = "RadixCache" if cores == ["radix"] else "UnifiedRadixCache"
    row = [version, cache, ", ".join(verdicts).removeprefix("radix: "), counts[0], str(wrong)]
    others = [absent[p] if p in absent else sglang_part(cores, driven[p]) for p in PARTS]
    return [*row, *counts[1:], *others]


def sglang_modes(version: str, core: str, parts: list[str]) -> list[dict[str, Any]]:
    """What each kind of tree came to on one core; "" is the plain one."""
    modes = [f"exact:{part}".rstrip(":") for part in parts]
    return drive("sglang", version, "1,16", core, *modes) or [{"failed": True}] * len(modes)


def sglang_part(cores: list[str], seen: tuple[dict[str, Any], ...]) -> str:
    """What became of a tree with parts, or with pairs of tokens as keys, on each core."""
    verdicts = [sglang_verdict(each) for each in seen]
    runs = [run for each in seen for run in each.get("runs", ()) if run["engines"]]
    if len(set(verdicts)) > 1:
        return ", ".join(f"{core}: {text}" for core, text in zip(cores, verdicts, strict=True))
    return ", ".join([verdicts[0], *([str(sum(r["checked"] for r in runs))] if runs else [])])


def sglang_verdict(seen: dict[str, Any]) -> str:
    """What became of one version on one tree core."""
    if "failed" in seen:
        return "failed"
    if not any(run["engines"] for run in seen["runs"]):
        return "refused, one warning" if len(set(seen["messages"])) == 1 else "not followed"
    exact = not seen["messages"] and all(run["cleared"] for run in seen["runs"])
    return "exact" if exact and not any(run["wrong"] for run in seen["runs"]) else "not exact"


def sglang() -> str:
    """The section on SGLang."""
    titles = ["version", "prefix cache", "verdict", "checked", "wrong"]
    titles += ["partly evicted", "fully evicted", "sliding window", "states", "EAGLE"]
    return section("sglang", "SGLang", titles, sglang_row)


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


SECTIONS: dict[str, Callable[[], str]] = {"vllm": vllm, "sglang": sglang}


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
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import plainly

    plainly.run(main)
