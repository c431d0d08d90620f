"""Runs a script: what its user can mend is one line and a status, never a traceback.

Standard library only, and nothing of contextpilot: scripts run with engines' interpreters, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

_INTERRUPTED = 130
_PIPE_CLOSED = 141
_WORKLOADS = (".json.gz", ".jsonl.gz", "workloads")
_MENDABLE = (
    OSError,
    EOFError,
    ImportError,
    UnicodeDecodeError,
    json.JSONDecodeError,
    subprocess.CalledProcessError,
    zlib.error,
)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and exit with its status; 1 with one line on standard error when it cannot."""
    name = Path(sys.argv[0]).name
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{name}: interrupted\n")
        status = _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = _PIPE_CLOSED
    except Exception as error:
        if not _is_mendable(error):
            raise
        sys.stderr.write(f"{name}: {_words(error)}\n")
        status = 1
    sys.exit(status)


def _is_mendable(error: Exception) -> bool:
    """Whether the user can mend it; errors of contextpilot's commands are known by their names."""
    ours = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, _MENDABLE) or "CommandError" in ours


def _words(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"what was read is not JSON: {error}"
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed in {sys.executable}: pip install {error.name}"
    if isinstance(error, FileNotFoundError) and str(error.filename).endswith(_WORKLOADS):
        return f"{error}: python scripts/workloads.py --help tells how workloads are built"
    return str(error) or type(error).__name__
