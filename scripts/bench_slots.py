"""Print what each rule of choosing llama-server's slot would hit: ours, and the server's own.

    python scripts/bench_slots.py [--workload FILE ...] [--requests N] [--head TOKENS]

Every request is planned one at a time by `optimize` and runs alone in a simulated llama-server
without a RAM cache, whose slots hold the prompt that they ran last. Tokens are the blocks', with
`--head` and those of a system prompt that all begin with. Default workload: the demo's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from bench_sync import Request, read_requests
from machine import machine_line

import contextpilot as cp
from contextpilot.block import BlockReader
from contextpilot.server.pool.slot_choice import NO_PROMPT, Prompt, Slots

SIMILAR = 0.1  # llama-server's --slot-prompt-similarity (b11434)
Choose = Callable[[Prompt], int]


def planned(requests: Sequence[Request], head: int) -> list[Prompt]:
    """Return the prompts of requests that are planned one at a time, behind so many tokens."""
    pilot, reader = cp.ContextPilot(), BlockReader()
    prompts = []
    for number, request in enumerate(requests):
        blocks = reader.read(request.documents, "documents")
        order = pilot.optimize(request.documents, request.query).order
        ends, end = [head], head
        for rank in order:
            end += blocks[rank].weight
            ends.append(end)
        keys = ["head", *(blocks[rank].key for rank in order)]
        prompts.append(Prompt(str(number), keys, ends))
    return prompts


def hit_ratio(prompts: Sequence[Prompt], num_slots: int, choose: Choose) -> float:
    """Return the percentage of tokens that are in the slot chosen."""
    held = [NO_PROMPT] * num_slots
    hits = 0
    for prompt in prompts:
        slot = choose(prompt)
        hits += held[slot].shared(prompt)
        held[slot] = prompt
    return 100 * hits / sum(prompt.tokens for prompt in prompts)


def ours(num_slots: int) -> Choose:
    """Return our rule."""
    slots = Slots(num_slots)

    def choose(prompt: Prompt) -> int:
        slot = slots.take(prompt)
        assert slot is not None  # all are idle
        slots.free(slot)
        return slot

    return choose


def its_own(num_slots: int) -> Choose:
    """Return llama-server's rule: the most similar slot, else the one not used longest."""
    held, used = [NO_PROMPT] * num_slots, list(range(-num_slots, 0))

    def choose(prompt: Prompt) -> int:
        shared = [last.shared(prompt) for last in held]
        slot = shared.index(max(shared))
        if shared[slot] <= SIMILAR * prompt.tokens:
            slot = used.index(min(used))
        held[slot], used[slot] = prompt, max(used) + 1
        return slot

    return choose


def main() -> None:
    """Print one line for each workload and number of slots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--workload", type=Path, nargs="*", default=[None])
    parser.add_argument("--head", type=int, default=0)
    arguments = parser.parse_args()
    print(machine_line())
    print("percent of tokens in the slot chosen: llama-server's own choice, ours")
    for path in arguments.workload:
        prompts = planned(read_requests(path)[: arguments.requests], arguments.head)
        name = path.name.split(".")[0] if path else "demo"
        for num_slots in (2, 4, 8):
            own = hit_ratio(prompts, num_slots, its_own(num_slots))
            mine = hit_ratio(prompts, num_slots, ours(num_slots))
            print(f"{name}, {num_slots} slots: {own:.1f}, {mine:.1f}", flush=True)


if __name__ == "__main__":
    import plainly

    plainly.run(main)
