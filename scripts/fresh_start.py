"""Try guides as a newcomer would: python scripts/fresh_start.py [GUIDE...] --python python3.10

Runs the commands that stand under "Five minutes" in docs/GUIDE.md, exactly as they stand there, in
a copy of the checkout, with an empty home folder (so that pip has cached nothing) and the Python
that is named. Printed is a transcript with the seconds that each command took, and at the end those
of the processor, which tell how long it takes on a machine that nobody else uses.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from machine import machine_line

ROOT = Path(__file__).resolve().parents[1]
NOT_A_NEWCOMERS = re.compile(r"PYTHON|VIRTUAL_ENV|CONTEXTPILOT_|PIP_CACHE|XDG_CACHE|CONDA")
"""Variables that are not handed on."""


class Step(NamedTuple):
    """A command of a guide, what it printed, and how it ended."""

    command: str
    output: str
    seconds: float
    status: int

    @property
    def is_preparation(self) -> bool:
        """Whether it installs, rather than measures."""
        return "pip install" in self.command or "venv" in self.command


def guides() -> list[str]:
    """Return the names of the pages that can be tried."""
    return sorted(page.stem for page in (ROOT / "docs").glob("*.md") if commands_of(page.stem))


def commands_of(guide: str) -> list[str]:
    """Return the commands of the first console block under "Five minutes"."""
    text = (ROOT / "docs" / f"{guide}.md").read_text(encoding="utf-8")
    section = text.partition("\n## Five minutes\n")[2]
    block = re.search(r"^```console\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\$ (.+)$", block[1], re.MULTILINE) if block else []


def tried(commands: list[str], python: Path) -> Iterator[Step]:
    """Run commands in one shell, in a fresh copy of the checkout, up to the first that fails."""
    with tempfile.TemporaryDirectory() as folder:
        home, checkout, names = (Path(folder) / name for name in ("home", "contextpilot", "bin"))
        home.mkdir()
        names.mkdir()
        copy_checkout(checkout)
        for name in ("python", "python3"):
            (names / name).symlink_to(python)
        kept = {name: text for name, text in os.environ.items() if not NOT_A_NEWCOMERS.match(name)}
        path = f"{names}{os.pathsep}{kept.get('PATH', os.defpath)}"
        with subprocess.Popen(
            ["bash"], cwd=checkout, text=True, env={**kept, "PATH": path, "HOME": str(home)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as shell:  # fmt: skip
            for command in commands:
                step = entered(shell, command)
                yield step
                if step.status:
                    break
            assert shell.stdin is not None
            shell.stdin.close()


def copy_checkout(folder: Path) -> None:
    """Copy the checkout without what tools leave in it."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, folder, ignore=left_out, symlinks=True)


def entered(shell: subprocess.Popen[str], command: str) -> Step:
    """Enter a command into a shell, and wait for its end."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    mark = f"end-{time.monotonic_ns()}"
    started, lines = time.monotonic(), list[str]()
    shell.stdin.write(f'{{ {command}\n}} </dev/null\nprintf "\\n{mark} %s\\n" $?\n')
    shell.stdin.flush()
    for line in shell.stdout:
        if line.startswith(mark):
            seconds = time.monotonic() - started
            return Step(command, "".join(lines).strip("\n"), seconds, int(line.split()[1]))
        lines.append(line)
    return Step(command, "".join(lines), time.monotonic() - started, shell.wait() or 1)


def told(step: Step) -> str:
    """Return a command and what it printed, of pip how many packages came."""
    output = step.output
    if "pip install" in step.command and not step.status:
        came = re.findall(r"^Successfully installed (.*)$", output, re.MULTILINE)
        output = f"({sum(len(line.split()) for line in came)} packages)"
    return "\n".join(filter(None, (f"$ {step.command}   # {step.seconds:.0f} s", output)))


def try_out(guide: str, python: Path) -> bool:
    """Print the transcript of one guide; return whether all its commands worked."""
    version = subprocess.run([python, "-V"], check=True, capture_output=True, text=True).stdout
    print(f"== {guide}, {version.strip()}", flush=True)
    steps, before = list[Step](), processor_seconds()
    for step in tried(commands_of(guide), python):
        steps.append(step)
        print(told(step), flush=True)
    busy = processor_seconds() - before
    prepared = sum(step.seconds for step in steps if step.is_preparation)
    total = sum(step.seconds for step in steps)
    worked = not any(step.status for step in steps)
    end = "" if worked else f"; the last command ended with {steps[-1].status}"
    parts = f"{prepared:.0f} to install, {total - prepared:.0f} to run"
    print(f"{total:.0f} s: {parts}; {busy:.0f} s of the processor{end}\n", flush=True)
    return worked


def processor_seconds() -> float:
    """Return what all commands that have ended used of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def interpreter(name: str) -> Path:
    """Return where a Python is; FileNotFoundError if it is nowhere."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is no Python here: name one as --python PATH")
    shown = "import sys; print(sys.executable)"
    told = subprocess.run([found, "-c", shown], check=True, capture_output=True, text=True).stdout
    return Path(told.strip())


def main() -> int:
    """Try the guides named on the command line, or all, with each Python."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = guides()
    parser.add_argument("guides", nargs="*", metavar="GUIDE", help=", ".join(known))
    parser.add_argument(
        "--python", action="append", metavar="PYTHON", help="a name or path; may be repeated"
    )
    chosen = parser.parse_args()
    unknown = [name for name in chosen.guides if name not in known]
    if unknown:
        parser.error(f"unknown: {unknown[0]}; the guides are {', '.join(known)}")
    pythons = [interpreter(name) for name in chosen.python or [sys.executable]]
    print(f"{machine_line()}, load average {os.getloadavg()[0]:.1f}\n")
    worked = [try_out(name, each) for name in chosen.guides or known for each in pythons]
    return 0 if all(worked) else 1


if __name__ == "__main__":
    import plainly

    plainly.run(main)
