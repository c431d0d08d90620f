"""Real agents, as far as they are installed: plugins, and `contextpilot run`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from real_agents import AGENTS, NEW, Ran, find, run_agent

from contextpilot.agents.continuation import parts_of
from contextpilot.prompt.apis.paths import shape_of

pytestmark = pytest.mark.slow

WITH_PLUGIN = [name for name, agent in AGENTS.items() if agent.plugin]
ASKED = [name for name, agent in AGENTS.items() if agent.is_asked and name != "aider"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("agents")
    _session.cache_clear()


@cache
def _session(name: str, mode: str, folder: Path) -> Ran:
    return run_agent(name, mode, folder / f"{name}-{mode}")


def session(name: str, mode: str, folder: Path) -> Ran:
    agent = AGENTS[name]
    if find(agent) is None:
        pytest.skip(f"{agent.install}, and name its folder in AGENTS_PATH")
    ran = _session(name, mode, folder)
    assert ran.status == 0, ran.output[-2000:]
    assert "FINAL-ANSWER-42" in ran.output
    assert NEW in ran.alpha, "the edit by the exact text, after a second reading"
    return ran


@pytest.mark.parametrize("name", WITH_PLUGIN)
def test_a_session_with_the_plugin_ends_as_without(name: str, folder: Path) -> None:
    direct, plugin = session(name, "direct", folder), session(name, "plugin", folder)
    assert len(plugin.engine.prompts) == len(direct.engine.prompts)
    assert plugin.engine.extending() == direct.engine.extending()
    assert plugin.engine.results()[:2] == [
        text.replace(str(folder / f"{name}-direct"), str(folder / f"{name}-plugin"))
        for text in direct.engine.results()[:2]
    ], "what is read for the first time arrives whole"
    assert plugin.engine.chars() < 0.97 * direct.engine.chars()
    through = session(name, "run", folder)
    a_tool = 300 * len(plugin.engine.prompts)
    assert plugin.engine.chars() < through.engine.chars() + a_tool


@pytest.mark.parametrize("name", [name for name in WITH_PLUGIN if name != "hermes"])
def test_without_a_server_nothing_changes(name: str, folder: Path) -> None:
    direct, alone = session(name, "direct", folder), session(name, "plugin-alone", folder)
    assert len(alone.engine.prompts) == len(direct.engine.prompts)
    assert not any("omitted, same as" in text for text in alone.engine.results())


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
    if find(AGENTS["aider"]) is None:
        pytest.skip("pip install aider-chat, and name its folder in AGENTS_PATH")
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
