"""Real agents, as far as they are installed: plugins, and `contextpilot run`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from missing_agents import is_missing
from real_agents import AGENTS, NEW, Ran, find, run_agent

from contextpilot.agents.continuation import parts_of
from contextpilot.prompt.apis.paths import shape_of

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))

from references import followed, is_reference

pytestmark = pytest.mark.slow

WITH_PLUGIN = [name for name, agent in AGENTS.items() if agent.plugin]
ASKED = [
    name
    for name, agent in AGENTS.items()
    if agent.is_asked and name not in ("aider", "openai-agents-chat")
]
FULL_AT = {"openclaw": 7}
"""Which prompt fills the window, so that the host compacts: OpenClaw does so between its turns."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("agents")
    _session.cache_clear()


@cache
def _session(name: str, mode: str, folder: Path) -> Ran:
    return run_agent(name, mode, folder / f"{name}-{mode}")


def session(name: str, mode: str, folder: Path) -> Ran:
    need(name)
    return ended(_session(name, mode, folder))


def need(name: str) -> None:
    agent = AGENTS[name]
    if find(agent) is None:
        is_missing(agent.install, agent.stack)


def ended(ran: Ran) -> Ran:
    assert ran.status == 0, ran.output[-2000:]
    assert "FINAL-ANSWER-42" in ran.output
    assert NEW in ran.alpha, "the edit by the exact text, after a second reading"
    return ran


@pytest.mark.parametrize("name", WITH_PLUGIN)
def test_a_session_with_the_plugin_ends_as_without(name: str, folder: Path) -> None:
    """The agent's own prompts are those that the proxy was given."""
    plugin, through = session(name, "plugin", folder), session(name, "run", folder)
    assert len(plugin.engine.prompts) == len(through.engine.prompts)
    assert plugin.engine.extending() == through.engine.extending()
    files = plugin.engine.results()[:2]
    for text, file in zip(files, ("alpha line", "beta line"), strict=True):
        assert len(re.findall(rf"{file} \d+: \w+ \w+ \d+", text)) == 90, "read once: whole"
    assert plugin.engine.chars() < 0.97 * through.told["given"]["chars"]
    a_tool = 300 * len(plugin.engine.prompts)
    assert plugin.engine.chars() < through.engine.chars() + a_tool


def test_without_a_server_nothing_changes(folder: Path) -> None:
    """Here in OpenClaw; `test_javascript_plugins` has both, and all ways to fail."""
    alone, through = session("openclaw", "plugin-alone", folder), session("openclaw", "run", folder)
    assert len(alone.engine.prompts) == len(through.engine.prompts)
    assert not any("omitted, same as" in text for text in alone.engine.results())


@pytest.mark.parametrize("name", WITH_PLUGIN)
def test_after_a_compaction_files_are_read_whole(name: str, folder: Path) -> None:
    """The host drops the readings that references named; what is read again arrives anew."""
    need(name)
    full_at = FULL_AT.get(name, 4)
    turns = 2 if full_at > 4 else 1
    place = folder / f"{name}-full"
    ran = ended(run_agent(name, "plugin", place, full_at=full_at, turns=turns))
    pairs = pairwise(ran.engine.prompts)
    assert any(one[:-1] != two[: len(one) - 1] for one, two in pairs), "it was compacted"
    for _, body in ran.engine.received:  # the request for a summary among them
        for _, text in followed(body):
            assert not any(map(is_reference, text.split("\n"))), "it leads nowhere"
            for file in ("alpha", "beta"):
                is_cut = "truncated" in text  # by the host: for a summary, or in an error
                if f"{file} line 0: " in text and not is_cut:
                    assert len(set(re.findall(rf"{file} line (\d+): ", text))) == 90
    assert "same as tool result" in ran.engine.last_prompt()


@pytest.mark.parametrize("name", ASKED)
def test_the_summary_is_what_the_model_saw(name: str, folder: Path) -> None:
    ran = session(name, "run", folder)
    sent = 0
    for path, body in ran.engine.received:
        shape = shape_of("POST", path.partition("?")[0])
        assert shape is not None
        sent += sum(len(part.text) for part in parts_of(shape, body))
    told = ran.told
    assert told["requests"] == len(ran.engine.received)
    assert told["sent"]["chars"] == sent
    assert told["given"]["chars"] > 1.03 * sent
    assert told["failed"] == told["given"]["broken"] == told["sent"]["broken"] == 0
    assert ran.engine.extending() == len(ran.engine.prompts) - 1


def test_the_files_of_aider_are_written_as_before(folder: Path) -> None:
    """Each start gives them in another order."""
    need("aider")
    state = str(folder / "orders.sqlite")
    given, sent = set(), set()
    for start in range(3):
        mode = run_agent("aider", "run", folder / "aider", CONTEXTPILOT_STATE=state)
        direct = run_agent("aider", "direct", folder / "aider-direct", PYTHONHASHSEED=str(start))
        for ran, seen in ((mode, sent), (direct, given)):
            (_, body), *_ = ran.engine.received
            texts = (message["content"] for message in body["messages"])
            seen.add(next(text for text in texts if "READ ONLY files, provided" in text))
    assert len(given) > 1
    assert len(sent) == 1
