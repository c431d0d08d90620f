"""What is believed that never was, what is moved for nothing, and what is said of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import contextpilot as cp
from contextpilot.namespace import Namespaces
from contextpilot.server.pool.sync_by_age import SyncByAge

from .measurement import Measurement
from .served import BLOCKS, CHAT, answering, asking, served

_SYSTEM = {"role": "system", "content": "Be brief."}
_CLOUD_PROMPTS = 1_100_000
_REFUSALS = (400, 401, 404, 429, 500, 503)


def refused_prompts() -> float:
    """Let an engine refuse prompts; count the blocks that are believed of each afterwards."""
    believed = 0
    with served() as (client, engine):
        for status in _REFUSALS:
            blocks = [f"{status} {block}" for block in BLOCKS]
            engine.answer = answering(status)
            client.post(CHAT, asking(blocks))
            believed += client.post(CHAT, asking(blocks)).result["live_blocks"]
    return 100 * believed / (len(_REFUSALS) * len(BLOCKS))


def cloud_overflow() -> float:
    """Send more prompts than sync by age remembers, all behind one system prompt."""
    namespaces = Namespaces(10_000_000, 10, 10)
    index, sync = namespaces.get("n").planner.index, SyncByAge(namespaces)
    for number in range(_CLOUD_PROMPTS):
        index.insert(["system", number])
        sync.note("n", ["system", number])
    last = range(_CLOUD_PROMPTS - 1000, _CLOUD_PROMPTS)
    return sum(index.match(["system", number]) == 2 for number in last) / 10


def private_histories() -> float:
    """Plan later turns of conversations of their own; count those in which something moves."""
    pilot, moved = cp.ContextPilot(index_url=""), 0
    passages = [f"Passage {number}: " + "words of it " * 30 for number in range(40)]
    for session in range(20):
        history: list[dict[str, Any]] = []
        for turn in range(5):
            blocks = [passages[(7 * session + 3 * turn + 5 * at) % 40] for at in range(6)]
            query = f"Question {turn} of {session}"
            messages = pilot.optimize(blocks, query, history=history, system_instruction="Brief.")
            moved += bool(turn) and messages.order != tuple(sorted(messages.order))
            history = [*messages, {"role": "assistant", "content": f"Answer {session}"}]
    return moved


def field_and_message() -> float:
    """Hand blocks over with the question that the last message asks, too."""
    live = total = 0
    with served() as (client, _):
        for number in range(20):
            query = f"Question {number}?"
            asked = {"role": "user", "content": query}
            told = client.post(CHAT, asking(BLOCKS, _SYSTEM, asked, query=query)).result
            live, total = live + told["live_tokens"], total + told["total_tokens"]
    return 100 * live / total


def heads_that_change() -> float:
    """Let the system prompt change with every request; count the requests that are told."""
    told = 0
    with served() as (client, _):
        for number in range(20):
            system = {"role": "system", "content": f"You are helper number {number}."}
            asked = {"role": "user", "content": "Why?"}
            told += "reason" in client.post(CHAT, asking(BLOCKS, system, asked)).result
    return told


def wrong_token() -> float:
    """Ask the index API with another token; does the answer name the variable?"""
    with served(index_token="right") as (client, _):
        reply = client.get("/stats", Authorization="Bearer wrong")
    return float(b"CONTEXTPILOT_INDEX_TOKEN" in reply.body)


def synced_without_events() -> float:
    """Run `contextpilot bench --modes synced` on an engine that reports nothing; count its rows."""
    tests = Path(__file__).resolve().parents[2] / "tests"
    sys.path[:0] = [str(tests / room) for room in ("bench", "commands")]
    from prefix_engine import PrefixEngine, running

    with running(PrefixEngine()) as engine, tempfile.TemporaryDirectory() as folder:
        workload = Path(folder) / "w.jsonl"
        workload.write_text('{"query": "q", "contexts": ["one text of it", "two text of it"]}\n')
        ran = subprocess.run(
            [sys.executable, "-m", "contextpilot", "bench", "--engine", engine.url, "--modes",
             "plain,synced", "--workload", str(workload), "--repetitions", "1"],
            capture_output=True, text=True, check=False, cwd=folder,
        )  # fmt: skip
    assert ran.returncode == 0 or "CONTEXTPILOT_INDEX_URL" in ran.stderr, ran.stderr
    return sum(line.lstrip().startswith("synced ") for line in ran.stdout.splitlines())


MEASUREMENTS = [
    Measurement("believed of prompts that an engine refused", "%", "0", refused_prompts),
    Measurement("believed of the last 1,000 prompts to a cloud", "%", "100", cloud_overflow),
    Measurement("of 80 later turns reordered behind their own history", "", "0", private_histories),
    Measurement("hits with the question in field and message", "%", "95", field_and_message),
    Measurement("of 20 requests told that their head changes", "", "15", heads_that_change),
    Measurement("a wrong index token names its variable", "", "1", wrong_token),
    Measurement("rows of bench for synced without any event", "", "0", synced_without_events),
]
