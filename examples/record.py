"""Your own requests as a workload file, replayed without an engine: python examples/record.py

Writes what retrieval returned for each question to a file, and lets `contextpilot simulate` say
what planning would save. The same file works with `contextpilot bench` and a running engine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from retrieval import QUESTIONS, retrieve


def main() -> None:
    """Record every question, then simulate."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for question in QUESTIONS:
                request = {"query": question, "contexts": retrieve(question)}
                file.write(json.dumps(request) + "\n")
        command = [sys.executable, "-m", "contextpilot", "simulate", path]
        subprocess.run([*command, "--capacity", "unlimited", "5%"], check=True)


if __name__ == "__main__":
    main()
