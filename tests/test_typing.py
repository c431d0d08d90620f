"""What type checkers see: options by name, and messages that the official clients take."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from contextpilot.options import CallOptions, Options
from contextpilot.plan.bounds import Bounds

pytest.importorskip("mypy", reason="pip install mypy")

SNIPPET = """
import anthropic
import openai

import contextpilot as cp
from contextpilot.openai import planned, wrap

pilot = cp.ContextPilot(annotate=False, displacement_cost=20)
messages = pilot.optimize(["a", "b"], "why?", deduplicate=False, max_shift=None)
batch, order = cp.optimize_batch([["a"]], ["why?"], reorder=False, namespace="n")
done = pilot.rewrite([{"role": "user", "content": "x"}], scope=["user"], annotate="{ranking}")
pilot.reorder(["a", "b"], anchor="end")
openai.OpenAI().chat.completions.create(model="m", messages=messages)
openai.OpenAI().chat.completions.create(model="m", messages=done.messages)
openai.OpenAI().responses.create(model="m", input=done.messages, instructions=done.system)
anthropic.Anthropic().messages.create(
    model="m", max_tokens=9, messages=done.messages, system=done.system
)
pilot.unsent(done.request_id)
other = cp.AsyncContextPilot(pilot)


async def awaited() -> None:
    planned = await other.optimize(["a"], "why?", history=[], annotate=False)
    print(planned.citations("[1]")[0].rank)
    await other.rewrite(planned, mode="xml")
    await other.optimize_batch([["a"]], ["why?"], historie=[])  # wrong
    await other.rewrite(planned, namespac="n")  # wrong


client = wrap(openai.OpenAI(), pilot, namespace="n", annotate=False)
done_with = planned(client.chat.completions.create(model="m", messages=[]))
print(done_with.order if done_with is not None else "")
wrap(openai.OpenAI(), anotate=False)  # wrong
cp.ContextPilot(anotate=False)  # wrong
pilot.optimize(["a"], "why?", anotate=False)  # wrong
pilot.optimize(["a"], "why?", annotate=7)  # wrong
pilot.optimize_batch([["a"]], ["why?"], reoder=False)  # wrong
pilot.rewrite([], max_shft=3)  # wrong
pilot.reorder(["a"], pin_frist=1)  # wrong
cp.optimize(["a"], "why?", anotate=False)  # wrong
cp.optimize_batch([["a"]], ["why?"], namespce="n")  # wrong
"""


@pytest.mark.slow
def test_a_misspelt_option_is_an_error_and_the_clients_take_messages(tmp_path: Path) -> None:
    source = tmp_path / "snippet.py"
    source.write_text(SNIPPET)
    cache = str(tmp_path / "cache")
    run = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, str(source)]
    told = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, check=False).stdout
    lines = SNIPPET.splitlines()
    wrong = {number for number, line in enumerate(lines, start=1) if line.endswith("# wrong")}
    assert {int(found) for found in re.findall(r"snippet\.py:(\d+): error", told)} == wrong, told


def test_every_option_is_typed() -> None:
    known = {*_names(Options), *_names(Bounds), "reorder"} - {"bounds", "enabled"}
    assert {*CallOptions.__annotations__} == known


def _names(kind: type) -> list[str]:
    return [each.name for each in fields(kind)]
