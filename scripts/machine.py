"""The line above every figure: machine, versions, date."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def machine_line(*packages: str) -> str:
    """Return date, processor, cores, system, Python and the versions of `packages`."""
    parts = [
        datetime.date.today().isoformat(),
        f"{_processor()}, {os.cpu_count()} cores",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
    ]
    return " · ".join(parts + [f"{name} {_version(name)}" for name in packages])


def memory_mb(pid: int | str = "self") -> float:
    """Return the resident memory of a process; Linux only."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the process has gone")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
