"""Make Python start the engine hooks: python -m contextpilot.install_hook [--remove | --status].

A wheel brings the start-up files along, so this is for editable installs and bare checkouts. Two
small files go into the site-packages of the interpreter that runs this: a `.pth` and, for Python
versions that no longer run code from those (PEP 829), a `.start`. Both do nothing unless
CONTEXTPILOT_INDEX_URL is set when an interpreter starts.
"""

from __future__ import annotations

import argparse
import os
import site
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

PTH = "contextpilot_hook.pth"
START = "contextpilot_hook.start"
MARK = "# written by contextpilot.install_hook"
PTH_LINE = (
    r'import os; exec("try:\n from contextpilot_hooks.start import start\n start()\n'
    r'except Exception: pass") if os.environ.get("CONTEXTPILOT_INDEX_URL") else None'
)
START_LINE = "contextpilot_hooks.start:start"


class Status(NamedTuple):
    """What stands where, for the interpreter `python`.

    Attributes:
        folder: where the start-up file is, or would go.
        installed: a start-up file is there.
        ours: it was written by this module, not by pip.
        active: a fresh interpreter with CONTEXTPILOT_INDEX_URL set starts the hooks.
        url: CONTEXTPILOT_INDEX_URL in this environment, "" when unset.
    """

    python: str
    folder: Path
    installed: bool
    ours: bool
    active: bool
    url: str


def status() -> Status:
    """Look at this interpreter; starts a second one to see whether the hooks are active."""
    folder = _installed_in() or target_folder()
    path = folder / PTH
    installed = path.exists()
    return Status(
        python=sys.executable,
        folder=folder,
        installed=installed,
        ours=installed and MARK in path.read_text(errors="replace"),
        active=_is_active(),
        url=os.environ.get("CONTEXTPILOT_INDEX_URL", ""),
    )


def target_folder() -> Path:
    """The site-packages to write to: the environment's own, else the user's if Python reads it.

    An environment (venv, conda) that is not writable is never replaced by the user's folder, which
    other interpreters read too.
    """
    own = Path(sysconfig.get_path("purelib"))
    if os.access(own, os.W_OK) or sys.prefix != sys.base_prefix or not site.ENABLE_USER_SITE:
        return own
    return Path(site.getusersitepackages())


def install() -> Path:
    """Write the start-up files; returns their folder.

    Raises FileExistsError where pip has put them, OSError where the folder cannot be written.
    """
    there = _installed_in()
    if there is not None and not status().ours:
        raise FileExistsError(f"{there / PTH} is already there, put by pip with its package")
    folder = there or target_folder()
    folder.mkdir(parents=True, exist_ok=True)
    # An old file of ours may be what makes the hooks importable.
    (folder / PTH).unlink(missing_ok=True)
    (folder / PTH).write_text("\n".join([MARK, *_path_lines(folder), PTH_LINE, ""]))
    (folder / START).write_text(START_LINE + "\n")
    return folder


def remove() -> Path | None:
    """Remove what `install` wrote; returns its folder, or None when nothing was there.

    Raises PermissionError for files that are pip's.
    """
    folder = _installed_in()
    if folder is None:
        return None
    if MARK not in (folder / PTH).read_text(errors="replace"):
        raise PermissionError(f"{folder / PTH} belongs to pip; run: pip uninstall contextpilot")
    (folder / PTH).unlink()
    (folder / START).unlink(missing_ok=True)
    return folder


def _site_folders() -> list[Path]:
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    folders += site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return list(dict.fromkeys(map(Path, folders)))


def _installed_in() -> Path | None:
    return next((folder for folder in _site_folders() if (folder / PTH).exists()), None)


def _path_lines(folder: Path) -> list[str]:
    """The checkout's hooks folder, where a fresh interpreter would not find the hooks itself."""
    if _fresh("import contextpilot_hooks.start"):
        return []
    checkout = Path(__file__).resolve().parents[1] / "hooks"
    if (checkout / "contextpilot_hooks").is_dir():
        return [str(checkout)]
    raise FileNotFoundError(
        f"contextpilot_hooks is in neither {folder} nor {checkout}; pip install a checkout"
    )


def _is_active() -> bool:
    return _fresh(
        "import sys; sys.exit('contextpilot_hooks.start' not in sys.modules)",
        CONTEXTPILOT_INDEX_URL="http://127.0.0.1:9",
    )


def _fresh(code: str, **variables: str) -> bool:
    """Whether `code` ends well in a new interpreter, away from the current folder."""
    environ = {k: v for k, v in os.environ.items() if k != "CONTEXTPILOT_INDEX_URL"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environ, **variables},
        cwd=Path(sys.executable).parent,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _describe(now: Status) -> str:
    by = "by contextpilot.install_hook" if now.ours else "by pip"
    place = f"{now.folder / PTH} ({by})" if now.installed else f"not in {now.folder}"
    return "\n".join(
        [
            f"interpreter  {now.python}",
            f"start-up     {place}",
            f"active       {'yes' if now.active else 'no'}",
            f"index        {now.url or 'CONTEXTPILOT_INDEX_URL is not set: the hooks stay out'}",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when done, 1 with the reason on stderr when not."""
    parser = argparse.ArgumentParser(
        prog="python -m contextpilot.install_hook", description=(__doc__ or "").splitlines()[0]
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--remove", action="store_true", help="remove the start-up files again")
    action.add_argument("--status", action="store_true", help="only say what stands where")
    arguments = parser.parse_args(argv)
    try:
        if arguments.remove:
            folder = remove()
            print(f"removed from {folder}" if folder else "nothing to remove")
        elif not arguments.status:
            print(f"installed in {install()}")
        if not arguments.remove:
            print(_describe(status()))
    except FileExistsError as error:
        print(f"{error}: nothing to do")
    except OSError as error:
        print(f"cannot do that: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
