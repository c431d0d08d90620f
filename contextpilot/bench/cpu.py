"""CPU time of an engine on this machine: what a busy machine does not distort as it does times."""

from __future__ import annotations

import os
from pathlib import Path

from contextpilot.errors import CommandError

_PROC = Path("/proc")


class EngineCpu:
    """Counts the CPU time of a process and of all that it started, threads included. Linux only.

    Raises:
        CommandError: there is no such process, or no /proc.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._tick = os.sysconf("SC_CLK_TCK")
        if _stat(pid) is None:
            raise CommandError(f"--pid {pid}: there is no such process under {_PROC}")

    def seconds(self) -> float:
        """Return CPU seconds since the processes began."""
        return sum(self._ticks(pid) for pid in self._tree()) / self._tick

    def _tree(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for path in _PROC.iterdir():
            fields = _stat(int(path.name)) if path.name.isdigit() else None
            if fields is not None:
                children.setdefault(int(fields[1]), []).append(int(path.name))
        tree = [self._pid]
        for pid in tree:
            tree += children.get(pid, [])
        return tree

    def _ticks(self, pid: int) -> int:
        fields = _stat(pid)
        return 0 if fields is None else int(fields[11]) + int(fields[12])


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the name, from the state on."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
