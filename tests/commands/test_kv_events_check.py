"""What `doctor` says of the KV events that engines publish."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kv_publisher import Publisher, stored
from scripted import Script, scripted

from contextpilot.commands.checks import kv_events
from contextpilot.commands.checks.kv_events import check_kv_events, judge_kv_events


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    yield made
    made.close()


def test_events_that_arrive(publisher: Publisher) -> None:
    publisher.publish(stored([1], [1] * 4))
    [check] = check_kv_events([publisher.address], None)
    assert (check.status, check.detail) == ("ok", "1 messages, 0 gaps")


def test_events_of_a_prompt_that_is_sent_meanwhile(publisher: Publisher) -> None:
    [check] = check_kv_events([publisher.address], lambda: publisher.publish(stored([1], [1] * 4)))
    assert check.status == "ok"


def test_nothing_there_and_nothing_published(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_events, "_WAIT_S", 1.0)
    [check] = check_kv_events([publisher.address], None)
    assert (check.status, check.detail) == ("warn", "connected, but nothing arrived")
    publisher.close()
    [check] = check_kv_events([publisher.address], None)
    assert (check.status, check.detail) == ("warn", "nothing publishes there")
    assert "replay_endpoint" in check.fix


@pytest.mark.parametrize("is_named", [False, True], ids=["beside", "in the address"])
def test_an_engine_is_asked_for_what_its_events_leave_out(
    publisher: Publisher, is_named: bool
) -> None:
    publisher.publish(stored([1], [1] * 4))
    state = {"memory_usage": {"token_capacity": 9, "token_capacity_swa": 7}}
    said = {"version": "0.5.23", "internal_states": [state]}
    script: Script = {"/model_info": (200, {"model_path": "m"}), "/server_info": (200, said)}
    with scripted(script) as engine:
        address = f"{publisher.address},engine={engine.url}" if is_named else publisher.address
        [check] = check_kv_events([address], None, () if is_named else [engine.url])
        assert check.status == "warn"
        assert "a sliding window" in check.detail
        state["memory_usage"]["token_capacity_swa"] = None  # type: ignore[assignment]
        [check] = check_kv_events([address], None, () if is_named else [engine.url])
        assert check.status == "ok"


def test_an_address_that_is_none() -> None:
    [check] = check_kv_events(["tcp://*:5557"], None)
    assert check.status == "fail"
    assert "host by name" in check.detail
    assert not list(check_kv_events([], None))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"refused": "blocks of different sizes"}, "blocks of different sizes"),
        ({"state": "exact", "num_malformed": 2}, "unknown form"),
        ({"state": "exact", "num_differing": 1}, "disagree with the hooks"),
        ({"state": "approximate"}, "before we connected"),
        ({"state": "exact", "num_agreed": 7}, "the hooks agree on 7"),
    ],
)
def test_what_a_server_says(state: dict[str, object], said: str) -> None:
    whole = {"num_messages": 3, "num_gaps": 0, "num_agreed": 0, **state}
    assert said in judge_kv_events("x", whole).detail
