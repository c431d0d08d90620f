"""The command `contextpilot`, also as `python -m contextpilot`."""

from __future__ import annotations

import sys

_INTERRUPTED = 130


def main() -> int:
    """Run this process's command line, quiet if interrupted early; return the exit status."""
    try:
        from contextpilot.cli import main as run  # reading it takes a while

        return run()
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
