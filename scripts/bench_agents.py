"""What real agents send, to a scripted model: python scripts/bench_agents.py [AGENT[:MODE] ...]

Each reads two files, reads one again, prints both, edits a line of one, and reads that. Modes:
direct, run (behind `contextpilot run`), plugin. Agents are looked for in AGENTS_PATH
and PATH. Characters are those of the prompts' JSON, with the tools. Nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests" / "agents")]

from real_agents import AGENTS, find, run_agent  # noqa: E402

HEAD = "agent               mode    ended  prompts  extending  characters         longest prompt"


def wanted(arguments: list[str]) -> list[tuple[str, str]]:
    """Return agents and modes, the direct ones first; by default all that are there."""
    if arguments:
        pairs = [one.partition(":") for one in arguments]
        return [
            (name, mode) for name, _, given in pairs for mode in ([given] if given else modes(name))
        ]
    there = [name for name in AGENTS if find(AGENTS[name]) is not None and name != "aider"]
    return [(name, mode) for name in there for mode in modes(name)]


def modes(name: str) -> list[str]:
    """Return the modes that an agent has."""
    agent = AGENTS[name]
    return ["direct", "run", *(["plugin"] if agent.plugin else [])]


def _known(one: str) -> str:
    name, _, mode = one.partition(":")
    if name not in AGENTS or mode not in ("", *modes(name)):
        known = ", ".join(f"{each}:{'|'.join(modes(each))}" for each in AGENTS)
        raise argparse.ArgumentTypeError(f"{one!r} is none of {known}")
    return one


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("agents", nargs="*", type=_known, metavar="AGENT[:MODE]")
    agents = parser.parse_args().agents
    print(HEAD)
    direct: dict[str, tuple[int, int]] = {}
    for name, mode in wanted(agents):
        with tempfile.TemporaryDirectory() as folder:
            ran = run_agent(name, mode, Path(folder))
        engine = ran.engine
        longest = max(sum(map(len, prompt)) for prompt in engine.prompts)
        counts = (engine.chars(), longest)
        before = direct.setdefault(name, counts) if mode == "direct" else direct.get(name, counts)
        cells = "  ".join(
            f"{now:9,} ({100 * (now - was) / was:+5.1f} %)"
            for now, was in zip(counts, before, strict=True)
        )
        ended = "yes" if ran.status == 0 and "FINAL-ANSWER-42" in ran.output else "NO"
        pairs = f"{engine.extending()}/{len(engine.prompts) - 1}"
        print(f"{name:18}  {mode:6}  {ended:5}  {len(engine.prompts):7}  {pairs:>9}  {cells}")
        sys.stdout.flush()


if __name__ == "__main__":
    import plainly

    plainly.run(main)
