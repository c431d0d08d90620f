"""Fixtures of the command line's tests: commands in this process, and workload files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from runner import Runner

Save = Callable[..., Path]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    """`run("simulate", path)`: run a command line in this process."""
    return Runner(capsys)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """`save(contexts)`: write a JSON Lines workload; returns its path."""

    def write(contexts: Sequence[Sequence[Any]], name: str = "requests.jsonl") -> Path:
        lines = [
            json.dumps({"query": f"q{i}", "contexts": list(c)}) for i, c in enumerate(contexts)
        ]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write
