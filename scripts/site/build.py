"""Makes the documentation a site, and checks it: python scripts/site/build.py [--out FOLDER]

Needs the extra `docs`. Every warning of the generator, every link or anchor that leads nowhere,
and whatever a page would load from another place is an error. Pages that the navigation of
`.mkdocs.yml` leaves out stand at its end.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from links import faults
from pages import ROOT, gather

CONFIG = ROOT / ".mkdocs.yml"


def main() -> int:
    """Build and check; return 1 if something is wrong, each fault on a line of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    out = parser.parse_args().out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        pages = gather(source / "docs")
        (source / "mkdocs.yml").write_text(configuration(pages), encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        built = subprocess.run(command, cwd=source, check=False, capture_output=True, text=True)
        if built.returncode == 0:
            shutil.copytree(source / "site", out)
    found = (
        list(faults(out)) if built.returncode == 0 else [complaints(built.stdout + built.stderr)]
    )
    print("\n".join(found) or f"{len(pages)} pages in {out}")
    return 1 if found else 0


def complaints(said: str) -> str:
    """Return what the generator said, without its colours and its own traceback."""
    return re.sub("\x1b\\[[0-9;]*m", "", said).partition("Traceback")[0]


def configuration(pages: list[str]) -> str:
    """Return the configuration; pages that its navigation leaves out follow at the end."""
    settings = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    listed = str(settings["nav"])
    left = sorted(page for page in pages if f"'{page}'" not in listed and "files/" not in page)
    if left:
        settings["nav"].append({"More": left})
    return yaml.safe_dump(settings, sort_keys=False)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import plainly

    plainly.run(main)
