"""Each request is sent once, whoever asks, and whatever dies: without Ray, over sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from answering import answering
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.integrations.ray import outbox as outbox_module
from contextpilot.integrations.ray.journal import Answer, Journal
from contextpilot.integrations.ray.outbox import Outbox


class Endpoint:
    """Answers each request with its number, after `gate` opens; keeps what arrived."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.ids: list[str | None] = []
        self.statuses: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.url = ""

    def times(self) -> Counter[int]:
        return Counter(body["n"] for body in self.seen)

    def answer(self, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
        self.seen.append(body)
        self.keys.append(headers["Idempotency-Key"])
        self.ids.append(headers.get("X-Request-Id"))
        status = self.statuses.pop(0) if self.statuses else 200
        self.gate.wait(30)
        return status, {"n": body["n"]}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    told = Endpoint()
    with answering(told.answer) as address:
        told.url = f"{address}/v1/chat/completions?x=1"
        yield told
        told.gate.set()


def body(number: int) -> bytes:
    return json.dumps({"n": number}).encode()


def answer(number: int) -> tuple[int, str]:
    return 200, json.dumps({"n": number})


def test_a_request_is_sent_once_and_answered_as_often_as_it_is_asked(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    path = str(tmp_path / "made" / "journal.jsonl")
    box = Outbox(path)
    for _ in range(3):
        assert box.ask("k1", endpoint.url, body(1)) == answer(1)
    assert box.ask("k2", endpoint.url, body(2), {"X-Request-Id": "cp"}) == answer(2)
    assert box.counts() == {"answered": 2}
    box.close()
    again = Outbox(path)
    assert again.ask("k1", endpoint.url, body(1)) == answer(1)
    assert endpoint.seen == [{"n": 1}, {"n": 2}]
    assert endpoint.keys == ["k1", "k2"]
    again.close()


def test_who_asks_while_it_is_on_its_way_waits_for_the_same_answer(endpoint: Endpoint) -> None:
    box = Outbox()
    endpoint.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(box.ask, f"k{n % 2}", endpoint.url, body(n % 2)) for n in range(8)]
        while len(endpoint.seen) < 2:
            time.sleep(0.01)
        endpoint.gate.set()
        assert [one.result() for one in asked] == [answer(n % 2) for n in range(8)]
    assert endpoint.times() == {0: 1, 1: 1}


CHILD = """
import json, sys
from contextpilot.integrations.ray.outbox import Outbox
box = Outbox(sys.argv[1])
for number in range(100):
    body, name = json.dumps({"n": number}).encode(), {"X-Request-Id": f"cp{number}"}
    box.ask(f"k{number}", sys.argv[2], body, name)
    print(number, flush=True)
"""


@pytest.mark.parametrize("in_doubt", ["again", "leave"])
def test_a_process_killed_half_way_loses_nothing_and_repeats_nothing_that_was_answered(
    endpoint: Endpoint, tmp_path: Path, in_doubt: str
) -> None:
    path = str(tmp_path / "journal.jsonl")
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, path, endpoint.url], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        while child.stdout.readline() != "4\n":
            pass
        endpoint.gate.clear()
        known = len(endpoint.seen)
        while len(endpoint.seen) == known:  # a request is on its way, and not answered
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    endpoint.gate.set()
    on_its_way = endpoint.seen[-1]["n"]
    box = Outbox(path, in_doubt)
    told = [
        box.ask(f"k{number}", endpoint.url, body(number), {"X-Request-Id": f"cp{number}"})
        for number in range(12)
    ]
    box.close()
    known_answers = [n for n in range(12) if n != on_its_way or in_doubt == "again"]
    assert [told[n] for n in known_answers] == [answer(n) for n in known_answers]
    repeated = {n: times for n, times in endpoint.times().items() if times > 1}
    assert repeated == ({on_its_way: 2} if in_doubt == "again" else {})
    if in_doubt == "leave":
        assert told[on_its_way][0] == 0
        assert "in doubt" in told[on_its_way][1]
    else:  # the endpoint can tell that it is the same
        keys = [key for key, one in zip(endpoint.keys, endpoint.seen, strict=True)
                if one["n"] == on_its_way]  # fmt: skip
        assert len(keys) == 2
        assert len({*keys}) == 1
        assert f"cp{on_its_way}-2" in endpoint.ids  # an engine may still run the first


def test_refusals_are_sent_again_and_failures_by_whoever_asks_later(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_PAUSES_S", (0.01,))
    box = Outbox(str(tmp_path / "journal.jsonl"), "leave")
    endpoint.statuses = [503, 429, 200, 500, 200, 400]
    assert box.ask("busy", endpoint.url, body(1)) == answer(1)
    assert box.ask("fails", endpoint.url, body(2))[0] == 500
    assert box.ask("fails", endpoint.url, body(2)) == answer(2)
    assert box.ask("wrong", endpoint.url, body(3))[0] == 400
    assert box.ask("wrong", endpoint.url, body(3))[0] == 400  # it would be refused again
    assert [one["n"] for one in endpoint.seen] == [1, 1, 1, 2, 2, 3]
    box.close()


def test_nobody_there_is_no_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_PAUSES_S", (0.01,))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        box = Outbox(str(tmp_path / "journal.jsonl"), "leave", timeout_s=0.2)
        status, told = box.ask("k", url, b"{}")
        assert status == 0
        assert "no connection" in told
        assert not box._journal.doubts("k")
        box.close()


def test_an_answer_that_does_not_come_in_time_is_in_doubt(endpoint: Endpoint) -> None:
    box = Outbox(None, "leave", timeout_s=1.2)
    endpoint.gate.clear()
    assert box.ask("k", endpoint.url, body(1))[0] == 0
    endpoint.gate.set()
    assert box.ask("k", endpoint.url, body(1)) == (
        0, "in doubt: sent before, and its answer is not known",
    )  # fmt: skip
    assert len(endpoint.seen) == 1


def test_errors_name_the_argument(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in_doubt must be one of again, leave, not 'never'"):
        Outbox(None, "never")
    with pytest.raises(ValueError, match="timeout_s"):
        Outbox(None, timeout_s=0)
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes\n")
    with pytest.raises(ValueError, match="is not a journal: see byte 0"):
        Outbox(str(path))
    assert path.read_text() == "these are my notes\n"


def test_a_journal_belongs_to_one_process(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j")
    with pytest.raises(OSError, match="is open in another process"):
        Journal(tmp_path / "j")
    first.close()
    Journal(tmp_path / "j").close()


RECORDS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["sending", "unsent", "answered"]), st.text())
)


@given(RECORDS, st.integers(0, 40))
def test_a_torn_file_gives_back_every_whole_record(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[str, str, str]], torn: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    journal = Journal(path)
    answers: dict[str, Answer] = {}
    waiting: Counter[str] = Counter()
    ends = [(0, answers, waiting)]
    for key, what, text in records:
        if what == "answered":
            answers = {**answers, key: Answer(200, text)}
            journal.answered(key, answers[key])
        else:
            getattr(journal, what)(key)
        waiting = Counter(waiting)
        waiting[key] = waiting[key] + 1 if what == "sending" else 0
        ends.append((os.path.getsize(path), answers, waiting))
    journal.close()
    left = max(0, os.path.getsize(path) - torn)
    os.truncate(path, left)
    _, answers, waiting = max((one for one in ends if one[0] <= left), key=lambda one: one[0])
    again = Journal(path)
    for key in "abc":
        assert again.answer(key) == answers.get(key)
        assert again.doubts(key) == waiting[key]
    again.answered("d", Answer(200, "after"))
    again.close()
    last = Journal(path)
    assert last.answer("d") == Answer(200, "after")
    last.close()
