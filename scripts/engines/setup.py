"""Set up real engines for tests and benchmarks: python scripts/engines/setup.py vllm sglang.

Each engine gets its own virtual environment below `$CONTEXTPILOT_ENGINES_DIR` (default
`~/.cache/contextpilot/engines`), and all of them share one tiny random model. What is current is
left alone, so the command can be run before every test session. Standard library only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from environments import environment, set_up_all
from recipes import RECIPES
from tiny_model import ensure_model


def set_up(engine: str) -> str:
    """Build one engine's environment and its model; returns a report line."""
    built = environment(engine)
    seconds = built.ensure()
    ensure_model(built.python)
    state = f"built in {seconds:.0f} s" if seconds else "current"
    return f"{engine} {built.recipe.version}: {state} ({built.root})"


def main() -> int:
    """Set up the engines named on the command line, in parallel."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engines", nargs="+", choices=sorted(RECIPES), help="engines to set up")
    names = sorted(set(parser.parse_args().engines))
    return set_up_all(names, set_up, len(names))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import plainly

    plainly.run(main)
