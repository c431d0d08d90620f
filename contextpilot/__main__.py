"""`python -m contextpilot`: the same as the command `contextpilot`."""

from __future__ import annotations

import sys

from contextpilot.cli import main

if __name__ == "__main__":
    sys.exit(main())
