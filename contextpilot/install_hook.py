"""Switch the engine hooks on or off: python -m contextpilot.install_hook [--remove | --status].

pip brings the start-up files along; where it did not, as in a bare checkout, two small files go
into the site-packages of the interpreter that runs this: a `.pth` and, for Python versions that no
longer run code from those (PEP 829), a `.start`. Both do nothing unless CONTEXTPILOT_INDEX_URL is
set when an interpreter starts. `--remove` takes away what was written here; where pip wrote it, or
an engine finds the hooks as its plugin, a file beside them switches the hooks off. Whatever is
written here is entered in pip's list, so that `pip uninstall` takes it along.
"""

from __future__ import annotations

import argparse
import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import NamedTuple

PTH = "contextpilot_hook.pth"
START = "contextpilot_hook.start"
SWITCH = "contextpilot_hook.off"
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
        off: the switch that keeps the hooks off; None where they may start.
        active: a fresh interpreter with CONTEXTPILOT_INDEX_URL set starts the hooks.
        url: CONTEXTPILOT_INDEX_URL in this environment, "" when unset.
    """

    python: str
    folder: Path
    installed: bool
    ours: bool
    off: Path | None
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
        off=_switch(),
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
    """Write the start-up files, or switch those on that pip has put; returns their folder.

    Raises FileExistsError where pip's are on already, OSError where a folder cannot be written.
    """
    there, switch = _installed_in(), _switch()
    if switch is not None:
        switch.unlink()
        _enter(switch.parent, [SWITCH], is_there=False)
    if there is not None and not _is_ours(there):
        if switch is not None:
            return there
        raise FileExistsError(f"{there / PTH} is already there, put by pip with its package")
    folder = there or target_folder()
    folder.mkdir(parents=True, exist_ok=True)
    # An old file of ours may be what makes the hooks importable.
    (folder / PTH).unlink(missing_ok=True)
    (folder / PTH).write_text("\n".join([MARK, *_path_lines(folder), PTH_LINE, ""]))
    (folder / START).write_text(START_LINE + "\n")
    _enter(folder, [PTH, START], is_there=True)
    return folder


def remove() -> Path | None:
    """Switch the hooks off; returns the folder of what changed, or None when they were off.

    What `install` wrote is removed; pip's files stay, and a switch beside them is written.

    Raises OSError where the folder cannot be written.
    """
    folder = _installed_in()
    if folder is not None and _is_ours(folder):
        (folder / PTH).unlink()
        (folder / START).unlink(missing_ok=True)
        _enter(folder, [PTH, START], is_there=False)
        if not _is_plugin():
            return folder
    elif _switch() is not None or (folder is None and not _is_plugin()):
        return None
    place = folder or target_folder()
    (place / SWITCH).write_text("hooks off: python -m contextpilot.install_hook switches them on\n")
    _enter(place, [SWITCH], is_there=True)
    return place


def _is_ours(folder: Path) -> bool:
    return MARK in (folder / PTH).read_text(errors="replace")


def _is_plugin() -> bool:
    """Whether engines find the hooks in this environment without any start-up file."""
    groups = ("vllm.general_plugins", "sglang.srt.plugins")
    return any(point.value == START_LINE for group in groups for point in entry_points(group=group))


def _switch() -> Path | None:
    return next((f / SWITCH for f in _site_folders() if (f / SWITCH).exists()), None)


def _enter(folder: Path, names: Sequence[str], *, is_there: bool) -> None:
    """Enter files in the list of what `pip uninstall` removes, or strike them out."""
    record = _record(folder)
    if record is None:
        return
    lines = record.read_text().splitlines()
    kept = [line for line in lines if line.partition(",")[0] not in names]
    added = [f"{name},," for name in names] if is_there else []
    record.write_text("\n".join([*kept, *added, ""]))


def _record(folder: Path) -> Path | None:
    """The list of the installed package's files, if it is installed in this folder."""
    try:
        package = distribution("contextpilot")
    except PackageNotFoundError:
        return None
    found = [file.locate() for file in package.files or () if file.name == "RECORD"]
    paths = [Path(os.fspath(path)) for path in found]
    return next((path for path in paths if path.parent.parent == folder), None)


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
        "import sys; sys.exit('contextpilot_hooks.importhook' not in sys.modules)",
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
            f"active       {'yes' if now.active else 'no'}"
            + (f", switched off by {now.off}" if now.off else ""),
            f"index        {now.url or 'CONTEXTPILOT_INDEX_URL is not set: hooks are inactive'}",
        ]
    )


def _told(error: OSError) -> str:
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str):
        return str(error)
    return (
        f"{error.filename} may not be written by this user; ask whoever owns the folder "
        "(unset, CONTEXTPILOT_INDEX_URL keeps the hooks off)"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when done, 1 with the reason on stderr when not."""
    parser = argparse.ArgumentParser(
        prog="python -m contextpilot.install_hook", description=(__doc__ or "").splitlines()[0]
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--remove", action="store_true", help="switch the hooks off")
    action.add_argument("--status", action="store_true", help="only show what is installed where")
    arguments = parser.parse_args(argv)
    try:
        if arguments.remove:
            folder = remove()
            print(f"switched off in {folder}" if folder else "the hooks are off already")
        elif not arguments.status:
            print(f"switched on in {install()}")
        if not arguments.remove:
            print(_describe(status()))
    except FileExistsError as error:
        print(f"{error}: nothing to do")
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"cannot do that: {_told(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
