"""Several runs over what one process imported, which takes most of a run's time."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any


def print_each(modes: Iterable[str], run: Callable[[str], dict[str, Any]]) -> None:
    """Print a line of JSON for each mode, run in a child of its own; "failed" for one that ends."""
    for mode in modes:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _run_and_exit(mode, run)
        if os.waitpid(child, 0)[1]:
            sys.stdout.write(json.dumps({"failed": mode}) + "\n")


def _run_and_exit(mode: str, run: Callable[[str], dict[str, Any]]) -> None:
    status = 1
    try:
        sys.stdout.write(json.dumps(run(mode)) + "\n")
        sys.stdout.flush()
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)
