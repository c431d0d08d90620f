"""Builds the wheel twice, in another place, at another time, with another umask: equal bytes?

    python scripts/reproducible.py [--keep FOLDER]

Prints the SHA-256 of both; fails, and names the members that differ, where they are not one. Takes
the files of the checkout that git knows. The build sets every member's time itself
(SOURCE_DATE_EPOCH, or the build backend's own date), so any machine gets these bytes from them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[1]


class Place(NamedTuple):
    """Where and how one wheel is built."""

    folder: str
    umask: int
    mtime: int
    zone: str


PLACES = (
    Place("here", 0o022, 1_500_000_000, "UTC"),
    Place("elsewhere/and deeper", 0o077, 1_700_000_000, "Asia/Tokyo"),
)


def built(root: Path, place: Place) -> Path:
    """Return the wheel of a copy of the checkout."""
    source, out = root / place.folder / "source", root / place.folder / "out"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        target = source / name
        if (CHECKOUT / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / name, target)
            target.chmod(0o666 & ~place.umask)
            os.utime(target, (place.mtime, place.mtime))
    quiet = ["--no-deps", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *quiet, "-w", str(out), str(source)],
        check=True,
        env={**os.environ, "TZ": place.zone},
        umask=place.umask,
    )
    (wheel,) = out.glob("*.whl")
    return wheel


def differences(one: Path, two: Path) -> list[str]:
    """Return the members of two wheels that differ, in content, time, mode or place."""
    with zipfile.ZipFile(one) as first, zipfile.ZipFile(two) as second:
        members = [
            {
                info.filename: (info.CRC, info.date_time, info.external_attr, info.header_offset)
                for info in wheel.infolist()
            }
            for wheel in (first, second)
        ]
    names = sorted(members[0].keys() | members[1].keys())
    return [name for name in names if members[0].get(name) != members[1].get(name)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, help="put the wheel there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheels = [built(Path(folder), place) for place in PLACES]
        for wheel in wheels:
            print(f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}", flush=True)
        if wheels[0].read_bytes() != wheels[1].read_bytes():
            found = differences(*wheels) or ["the bytes between the members"]
            sys.stderr.write(f"the wheels differ in {', '.join(found)}\n")
            return 1
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(wheels[0], args.keep)
    print("one and the same wheel")
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)
