"""Run the launcher as a module: python -m contextpilot.llama_server."""

from __future__ import annotations

import sys

from contextpilot.llama_server.launcher import main

if __name__ == "__main__":
    sys.exit(main())
