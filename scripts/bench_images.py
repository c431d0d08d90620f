"""Print what planning brings on a real vLLM whose prompts hold images that overlap.

    python scripts/bench_images.py [--requests 32]

A tiny random model of LLaVA's form, on the CPU (scripts/engines/tiny_vision.py): what hits is the
engine's own, 64 tokens an image. Retrieved pages come in an order of their own for each question;
frames of a video are every request's own sample, in order of time. Each way has a system prompt of
its own, so that none finds what another left.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from machine import machine_line

import contextpilot as cp

sys.path.append(str(Path(__file__).resolve().parent / "engines"))

from environments import environment
from launch import Server, launch
from tiny_vision import IMAGE_TOKENS, PIXELS, ensure_torchvision, ensure_vision

POOL, SHOWN, TOPICS, COMMON = 24, 8, 3, 4
FLAGS = ["--limit-mm-per-prompt", '{"image": 16}', "--max-num-seqs", "4"]

Contexts = list[list[cp.Image]]
Way = Callable[[Contexts, str], Iterable[Any]]


def picture(number: int) -> bytes:
    """A PNG of one colour, another for each number."""
    rows = (b"\0" + (number * 60_000).to_bytes(3, "big") * PIXELS) * PIXELS
    header = struct.pack(">IIBBBBB", PIXELS, PIXELS, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def pages(count: int) -> Contexts:
    """Retrieved pages: most of one topic, some that all topics share, in an order of their own."""
    chance = random.Random(7)
    pool = [
        cp.Image(picture(n), label=f"Page {n}", tokens=IMAGE_TOKENS) for n in range(POOL + COMMON)
    ]
    topics = [pool[POOL:] + pool[at:POOL:TOPICS] for at in range(TOPICS)]
    return [chance.sample(chance.choice(topics), SHOWN) for _ in range(count)]


def video(count: int) -> Contexts:
    """Samples of a video's frames, each in order of time."""
    chance = random.Random(8)
    frames = [
        cp.Image(picture(100 + n), time=float(n), tokens=IMAGE_TOKENS) for n in range(POOL // 2)
    ]
    picks = [sorted(chance.sample(range(len(frames)), SHOWN)) for _ in range(count)]
    return [[frames[at] for at in pick] for pick in picks]


def questions(contexts: Contexts) -> list[str]:
    """A question for each request."""
    return [f"Question {number}: what do they show?" for number in range(len(contexts))]


def one_by_one(contexts: Contexts, system: str, **options: Any) -> Iterable[Any]:
    """Each planned when it is sent."""
    pilot = cp.ContextPilot(**options)
    for context, question in zip(contexts, questions(contexts), strict=True):
        yield pilot.optimize(context, question, system_instruction=system)


def as_given(contexts: Contexts, system: str) -> Iterable[Any]:
    """In the caller's order."""
    return one_by_one(contexts, system, reorder=False)


def full_gain(contexts: Contexts, system: str) -> Iterable[Any]:
    """Each planned when it is sent, whatever moves."""
    return one_by_one(contexts, system, displacement_cost=0)


def together(contexts: Contexts, system: str) -> Iterable[Any]:
    """Planned as a batch."""
    found = cp.ContextPilot().optimize_batch(
        contexts, questions(contexts), system_instruction=system
    )
    return found[0]


WAYS: dict[str, Way] = {
    "as given": as_given,
    "online, default": one_by_one,
    "online, full gain": full_gain,
    "batch": together,
}


def sent(server: Server, prompts: Iterable[Any]) -> tuple[int, int]:
    """Send prompts one after the other; return their tokens, and those from the cache."""
    tokens = cached = 0
    for messages in prompts:
        body = {"model": "tiny", "max_tokens": 1, "messages": list(messages)}
        answer: Any = server.post("/v1/chat/completions", body)
        usage = answer["usage"]
        tokens += usage["prompt_tokens"]
        cached += (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0
    return tokens, cached


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=32)
    options = parser.parse_args()
    engine = environment("vllm")
    python = engine.python
    model, more = ensure_vision(python), {"PYTHONPATH": str(ensure_torchvision(python))}
    print(f"{machine_line()} · vLLM {engine.recipe.version}", flush=True)
    print(f"| prompts | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}", flush=True)
    with launch("vllm", model=model, env=more, hooks=False, extra_flags=FLAGS) as server:
        for make in (pages, video):
            contexts = make(options.requests)
            print(f"| {make.__name__} |", end="", flush=True)
            for name, way in WAYS.items():
                tokens, cached = sent(server, way(contexts, f"Answer. ({make.__name__}, {name})"))
                print(f" {100 * cached / tokens:.1f} % |", end="", flush=True)
            print(flush=True)
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)
