"""Print what an installation brings: python scripts/install_sizes.py [EXTRA...]

Each extra, and the base alone, goes into a virtual environment of its own, which is removed again.
The sizes are those of the packages without pip, as this platform and Python get them today.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import venv
from pathlib import Path
from typing import NamedTuple

from machine import machine_line

ROOT = Path(__file__).resolve().parents[1]
NUM_LARGEST = 3


class Installed(NamedTuple):
    """Packages that came, their megabytes, and the largest folders among them."""

    num_packages: int
    megabytes: float
    largest: list[str]


def install(extra: str) -> Installed:
    """Install the checkout with an extra ("" for none) into a fresh environment."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        wanted = f"{ROOT}[{extra}]" if extra else str(ROOT)
        subprocess.run([python, "-m", "pip", "install", "--quiet", wanted], check=True)
        (site,) = Path(folder).glob("lib/python*/site-packages")
        sizes = {path.name: size(path) for path in site.iterdir() if not path.match("pip*")}
        packages = [name for name in sizes if name.endswith(".dist-info")]
    largest = sorted(sizes, key=lambda name: -sizes[name])[:NUM_LARGEST]
    told = [f"{name} {sizes[name] / 1e6:.0f}" for name in largest]
    return Installed(len(packages), sum(sizes.values()) / 1e6, told)


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> int:
    """Install and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="default: the base alone")
    extras = ["", *parser.parse_args().extras]
    print(machine_line())
    for extra in extras:
        found = install(extra)
        name = extra or "base"
        print(
            f"{name}: {found.num_packages} packages, {found.megabytes:.0f} MB "
            f"(the largest: {', '.join(found.largest)})"
        )
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)
