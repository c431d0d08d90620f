"""`contextpilot savings` over session files as Claude Code 2.1 and Codex 0.169 write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from contextpilot.agents.local_proxy import running_proxy
from contextpilot.cli import main
from contextpilot.dedup.messages import deduplicate_messages
from contextpilot.errors import CommandError
from contextpilot.savings.prices import read_prices
from contextpilot.savings.report import Savings, savings_lines
from contextpilot.savings.server import samples
from contextpilot.savings.stores import Call, read_sessions
from contextpilot.server.settings import Settings

FILE = "\n".join(f"line {n} of the file, which an agent reads: {n * 7919}" for n in range(60))
OTHER = "\n".join(f"another file's line {n}, also read: {n * 104729}" for n in range(40))
Lines = list[dict[str, Any]]
Save = Callable[[Sequence[dict[str, Any]]], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(lines: Sequence[dict[str, Any]]) -> Path:
        path = tmp_path / "session.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        return path

    return write


def claude_answer(number: int, usage: dict[str, Any], content: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"id": f"msg_{number}", "role": "assistant", "model": "claude-x-4"}
    message |= {"type": "message", "content": content, "usage": usage}
    return {"parentUuid": "a", "isSidechain": False, "message": message, "type": "assistant"}


def claude_result(number: int, text: str) -> dict[str, Any]:
    part = {"tool_use_id": f"t{number}", "type": "tool_result", "content": text}
    message = {"role": "user", "content": [part]}
    return {"type": "user", "message": message, "toolUseResult": {"stdout": text}}


def usage(fresh: int, read: int, written: int, long: int = 0) -> dict[str, Any]:
    lives = {"ephemeral_1h_input_tokens": long, "ephemeral_5m_input_tokens": written - long}
    return {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "cache_creation": lives,
        "output_tokens": 10,
    }


def claude(texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A session that reads texts one after another; each answer stands in two lines."""
    yield {"type": "queue-operation", "operation": "enqueue", "content": "Read"}
    yield {"type": "user", "message": {"role": "user", "content": "Read the files"}}
    yield {"type": "attachment", "attachment": {"type": "skill_listing"}}
    for number, text in enumerate(texts):
        yield claude_answer(number, usage(1, 0, 0), [{"type": "text", "text": "I read."}])
        call = {"type": "tool_use", "id": f"t{number}", "name": "Read", "input": {"path": "f"}}
        yield claude_answer(number, usage(5000, 200 * number, 300, 50), [call])
        yield claude_result(number, text)
    yield claude_answer(len(texts), usage(5000, 0, 0), [{"type": "text", "text": "Done."}])


def codex(texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    def item(**payload: Any) -> dict[str, Any]:
        return {"timestamp": "t", "type": "response_item", "payload": payload}

    def told(number: int) -> dict[str, Any]:
        last = {"input_tokens": 1000, "cached_input_tokens": 600, "output_tokens": 10}
        total = {name: count * (number + 1) for name, count in last.items()}
        info = {"total_token_usage": total, "last_token_usage": last}
        return {"type": "event_msg", "payload": {"type": "token_count", "info": info}}

    yield {"type": "session_meta", "payload": {"id": "1", "base_instructions": {"text": "You"}}}
    yield {"type": "turn_context", "payload": {"model": "gpt-x"}}
    yield {"type": "event_msg", "payload": {"type": "token_count", "info": None}}
    part = {"type": "input_text", "text": "Read the files"}
    yield item(type="message", role="user", content=[part])
    for number, text in enumerate(texts):
        yield item(type="reasoning", encrypted_content="x", summary=[])
        call = {"name": "exec_command", "arguments": "{}", "call_id": f"c{number}"}
        yield item(type="function_call", **call)
        output = f"Chunk ID: {number}\nWall time: 0.{number}\nOutput:\n{text}"
        yield item(type="function_call_output", call_id=f"c{number}", output=output)
        yield told(number)
        yield told(number)  # told again when a limit changed
    answer = [{"type": "output_text", "text": "Done."}]
    yield item(type="message", role="assistant", content=answer)
    yield told(len(texts))


@pytest.mark.parametrize("store", [claude, codex])
def test_a_repeated_reading_is_counted_as_often_as_it_is_sent(
    store: Callable[[Sequence[str]], Iterator[dict[str, Any]]], save: Save
) -> None:
    savings = Savings()
    for session in read_sessions(save([*store([FILE, OTHER, FILE, "nothing new " * 9])])):
        savings.add(session)
    counts = savings.counts
    assert (savings.sessions, savings.calls, counts["results"]) == (1, 5, 4)
    assert counts["readings"] == 1
    assert len(FILE) <= counts["reading_chars"] <= len(FILE) + 60
    # the second reading stands in the last two prompts of five
    assert 2 * 0.9 * len(FILE) < counts["spared_chars"] < 2 * 1.1 * len(FILE)
    assert counts["spared_chars"] < counts["sent_chars"]
    assert savings.spared_tokens == pytest.approx(counts["spared_chars"] / 4, abs=5)


def test_what_is_spared_is_what_deduplicate_messages_spares(save: Save) -> None:
    (session,) = read_sessions(save([*claude([FILE, OTHER, FILE])]))
    savings = Savings()
    savings.add(session)
    _, report = deduplicate_messages(session.messages)
    assert savings.counts["run_chars"] == report.chars_saved > 0.9 * len(FILE)


@pytest.mark.parametrize("store", [claude, codex])
def test_nothing_is_found_where_nothing_repeats(
    store: Callable[[Sequence[str]], Iterator[dict[str, Any]]], save: Save
) -> None:
    savings = Savings()
    for session in read_sessions(save([*store([FILE, OTHER])])):
        savings.add(session)
    assert savings.counts["runs"] == savings.counts["spared_chars"] == savings.spared_tokens == 0


def test_counts_of_an_answer_in_several_lines_are_taken_once(save: Save) -> None:
    (session,) = read_sessions(save([*claude([FILE, OTHER])]))
    assert session.calls[1] == Call(4, "claude-x-4", 5500, 200, 300, 50, 10)
    assert [call.at for call in session.calls] == [1, 4, 7]


def test_codex_counts_and_its_prompts(save: Save) -> None:
    (session,) = read_sessions(save([*codex([FILE, OTHER])]))
    assert session.calls[1] == Call(4, "gpt-x", 1000, 600, output=10)
    assert [call.at for call in session.calls] == [1, 4, 7]


def test_after_a_compaction_nothing_before_is_in_the_prompt(save: Save) -> None:
    summary = {"role": "user", "content": "Summary"}
    compact = {"type": "user", "isCompactSummary": True, "message": summary}
    sessions = read_sessions(save([*claude([FILE]), compact, *claude([FILE])]))
    savings = Savings()
    for session in sessions:
        savings.add(session)
    assert (len(sessions), savings.counts["runs"]) == (2, 0)
    left = {"type": "compacted", "payload": {"message": "", "replacement_history": [summary]}}
    sessions = read_sessions(save([*codex([FILE]), left, *codex([FILE])]))
    assert [len(session.messages) for session in sessions] == [5, 6]


def test_half_a_line_and_strange_lines_are_passed_over(save: Save, tmp_path: Path) -> None:
    strange: Lines = [
        {"type": "user", "message": 7},
        {"type": "user", "message": {"role": "tool", "content": 7}},
        {"type": "assistant", "message": {"role": "assistant", "usage": {"input_tokens": "7"}}},
    ]
    path = save([*strange, *claude([FILE, FILE])])
    path.write_text(path.read_text("utf-8") + '[1]\n{"type": "us', "utf-8")
    savings = Savings()
    for session in read_sessions(path):
        savings.add(session)
    assert savings.counts["readings"] == 1
    path = tmp_path / "empty.jsonl"
    path.write_text('{"half', "utf-8")
    assert read_sessions(path) == []


# -- prices ----------------------------------------------------------------------------------------


def table(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(content), "utf-8")
    return path


def test_money_by_the_user_s_table(tmp_path: Path) -> None:
    price = {"input": 10, "cached": 1, "written": 12.5, "written_1h": 20, "output": 50}
    models = {"claude-x": price, "claude": {"input": 99}}
    savings = Savings(read_prices(table(tmp_path, {"currency": "EUR", "models": models})))
    million = 1_000_000
    call = Call(0, "claude-x-4-20260101", 10 * million, 6 * million, 2 * million, million, 10_000)
    savings.add_call(call, spared_tokens=1_000_000)
    prompt = 2 * 10 + 6 * 1 + 1 * 12.5 + 1 * 20
    assert savings.paid == pytest.approx(prompt + 0.5)
    assert savings.uncached == pytest.approx(10 * 10 + 0.5)
    assert savings.repeats == pytest.approx(prompt / 10)
    savings.add_call(Call(0, "another", 10))
    told = savings.as_dict()
    assert told["money"]["unpriced_calls"] == {"another": 1}
    assert any("59.00 EUR" in line for line in savings_lines(told))


def test_prices_left_out_and_the_default(tmp_path: Path) -> None:
    prices = read_prices(table(tmp_path, {"models": {"default": {"input": 4}}}))
    price = prices.of("whatever")
    assert price == (4, 4, 4, 4, 0)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([], "models"),
        ({"models": {}}, "models"),
        ({"models": {"m": {"cached": 1}}}, "models.m"),
        ({"models": {"m": {"input": -1}}}, "models.m.input"),
        ({"models": {"m": {"input": True}}}, "models.m.input"),
        ({"models": {"m": {"input": 1, "cache": 1}}}, "models.m.cache"),
        ({"models": {"m": {"input": 1}}, "currency": 7}, "currency"),
    ],
)
def test_a_wrong_table_is_named(content: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=named):
        read_prices(table(tmp_path, content))


# -- the command -----------------------------------------------------------------------------------


def test_the_command_tells_counts_and_no_text(
    save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save([*claude([FILE, FILE])])
    prices = table(tmp_path, {"models": {"default": {"input": 3}}})
    assert main(["savings", str(path.parent), "--prices", str(prices)]) == 0
    shown = capsys.readouterr().out
    assert "read again: 1 of" in shown
    assert "at your prices" in shown
    assert main(["savings", "--json", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told[str(path)]["repeats"]["readings"] == 1
    assert "line 7 of the file" not in shown + json.dumps(told)


def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["savings", str(tmp_path)]) == 1
    assert "no session file" in capsys.readouterr().err
    (tmp_path / "a.jsonl").write_text('{"type": "other"}\n', "utf-8")
    assert main(["savings", str(tmp_path)]) == 1
    assert "Claude Code" in capsys.readouterr().err
    assert main(["savings", "http://127.0.0.1:9"]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_a_server_tells_its_sums(capsys: pytest.CaptureFixture[str]) -> None:
    with running_proxy(Settings(port=0), lambda _: None) as url:
        assert main(["savings", "--json", url]) == 0
        told = json.loads(capsys.readouterr().out)[url]
    assert (told["calls"], told["repeats"], told["spared_tokens"]) == (0, None, 0)


def test_samples_are_summed_over_labels() -> None:
    text = (
        "# HELP contextpilot_requests_total x\n"
        'contextpilot_requests_total{api="chat",outcome="planned"} 7.0\n'
        'contextpilot_requests_total{api="messages",outcome="refused"} 2.0\n'
        "contextpilot_prefix_cache_queries_total 1.5e+06\n"
        "other_total 3.0\n"
    )
    assert samples(text) == {"requests_total": 9, "prefix_cache_queries_total": 1_500_000}
