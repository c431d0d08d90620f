"""Written orders: what next turns repeat, whoever asks, through restarts, whatever the file is."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Client, Scripted, Start, serving

from contextpilot.prompt.conversation.written_orders import GroupKeys, WrittenOrders
from contextpilot.server.proxy import state_file as state_module
from contextpilot.server.proxy.state_file import StateFile
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

CHAT = "/v1/chat/completions"
TEXTS = [f"Facts about {name}: " + f"{name} is old and {name} is far away. " * 5 for name in "abcd"]
KEYS_OF_VERSION_2 = [
    "a932feb0d72215c614afe0cff472388260cbab9181b028240f11a747498d2fbd",
    "a932feb0d72215c614afe0cff4723882a8900715a7e1382b66f8b51f1687009a",
]
SECRET = "the number of the account is 4711"


@contextlib.contextmanager
def serve(upstream: Scripted, path: Path | str) -> Iterator[Client]:
    settings = Settings(port=0, kind="other", engine=(upstream.url,), state=str(path))
    with serving(make_server(settings)) as url:
        yield Client(url)


def asked(texts: list[str], question: str) -> dict[str, Any]:
    documents = "".join(f'<document id="{t[12]}">\n{t}\n</document>\n' for t in texts)
    return {"role": "user", "content": f"{documents}\n{question} {SECRET}"}


def moved(client: Client, upstream: Scripted, **headers: str) -> dict[str, Any]:
    """Ask so that the second prompt is written in another order; return its message."""
    client.post(CHAT, {"messages": [asked(TEXTS, "why?")]}, **headers)
    client.post(CHAT, {"messages": [asked(TEXTS[::-1], "how?")]}, **headers)
    written: dict[str, Any] = upstream.last.json()["messages"][0]
    assert written != asked(TEXTS[::-1], "how?")
    return written


def next_turn(client: Client, upstream: Scripted, **headers: str) -> dict[str, Any]:
    """Send the turn after that; return the first message as it arrives."""
    answer = {"role": "assistant", "content": "so"}
    turns = [asked(TEXTS[::-1], "how?"), answer, {"role": "user", "content": "and then?"}]
    client.post(CHAT, {"messages": turns}, **headers)
    first: dict[str, Any] = upstream.last.json()["messages"][0]
    return first


def test_choices_outlive_the_server(upstream: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with serve(upstream, path) as client:
        written = moved(client, upstream)
    with serve(upstream, path) as client:
        assert next_turn(client, upstream) == written
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert SECRET.encode() not in kept
    assert b"Facts" not in kept
    assert path.stat().st_mode & 0o077 == 0


def test_without_a_file_what_was_sent_before_stays_as_the_client_has_it(
    upstream: Scripted,
) -> None:
    with serve(upstream, "") as client:
        moved(client, upstream)
    with serve(upstream, "") as client:
        assert next_turn(client, upstream) == asked(TEXTS[::-1], "how?")


@pytest.mark.parametrize("damage", ["text", "cut", "version", "folder", "missing"])
def test_a_file_that_cannot_be_used_is_named_and_nothing_fails(
    upstream: Scripted, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    if damage == "text":
        path.write_text("this is no database, but a text that is long enough for one" * 40)
    elif damage == "folder":
        path.mkdir()
    elif damage == "missing":
        path = tmp_path / "no folder" / "state.db"
    else:
        StateFile(str(path)).open()
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:700])
        else:
            with contextlib.closing(sqlite3.connect(path)) as file:
                file.execute("PRAGMA user_version = 99")
    with caplog.at_level(logging.ERROR, "contextpilot"), serve(upstream, path) as client:
        written = moved(client, upstream)
        assert next_turn(client, upstream) == written
    told = [record.getMessage() for record in caplog.records if "state file" in record.msg]
    assert len(told) == 1
    assert str(path) in told[0]


def test_what_another_user_may_have_written_is_not_believed(
    upstream: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    with serve(upstream, path) as client:
        written = moved(client, upstream)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o606)
    with serve(upstream, path) as client:
        assert next_turn(client, upstream) == asked(TEXTS[::-1], "how?")
    assert "another user may have written it" in caplog.text
    path.chmod(0o660)  # as volumes with a group of their own have it
    with serve(upstream, path) as client:
        assert next_turn(client, upstream) == written


@pytest.mark.parametrize("end", ["-journal", "-wal"])
def test_what_another_user_planted_beside_it_is_not_believed(
    upstream: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    path = tmp_path / "state.db"
    with serve(upstream, path) as client:
        moved(client, upstream)
    planted = tmp_path / f"state.db{end}"
    planted.touch()
    planted.chmod(0o666)
    with serve(upstream, path) as client:
        assert next_turn(client, upstream) == asked(TEXTS[::-1], "how?")
    assert "another user may have written it" in caplog.text


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives a link away"
)
def test_a_link_that_another_user_made_is_not_followed(upstream: Scripted, tmp_path: Path) -> None:
    path, victim = tmp_path / "state.db", tmp_path / "victim"
    path.symlink_to(victim)
    os.chown(path, 1234, 1234, follow_symlinks=False)
    with serve(upstream, path) as client:
        moved(client, upstream)
    assert not victim.exists()
    path.unlink()
    path.symlink_to(victim)
    with serve(upstream, path) as client:
        moved(client, upstream)
    assert victim.exists()


@pytest.mark.parametrize("ranks", ["0 0 0 0", "9 8 7 6", "-1 -2 -3 -4", "0", "", "3 2 1 0 0"])
def test_an_order_that_is_none_loses_no_document(
    upstream: Scripted, tmp_path: Path, ranks: str
) -> None:
    path = tmp_path / "state.db"
    with serve(upstream, path) as client:
        moved(client, upstream)
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        assert file.execute("UPDATE choices SET ranks = ?", (ranks,)).rowcount > 0
    with serve(upstream, path) as client:
        written = next_turn(client, upstream)["content"]
    assert sorted(written) == sorted(asked(TEXTS, "how?")["content"])
    assert all(written.count(text) == 1 for text in TEXTS)


def test_a_file_of_an_older_version_begins_anew(
    upstream: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    StateFile(str(path)).open()
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO choices VALUES (x'00', '1 0', 1)")
        file.execute("PRAGMA user_version = 1")
    with caplog.at_level(logging.WARNING, "contextpilot"), serve(upstream, path) as client:
        written = moved(client, upstream)
    told = [record.getMessage() for record in caplog.records if "state file" in record.msg]
    assert len(told) == 1
    assert "its 1 stored orders are of version 1" in told[0]
    with serve(upstream, path) as client:
        assert next_turn(client, upstream) == written
    assert b"\0" not in keys_in(path)


def test_keys_are_of_the_version_that_the_file_tells(upstream: Scripted, tmp_path: Path) -> None:
    """Where this fails, raise the version in `state_file`: keys that were kept fit no more."""
    path = tmp_path / "state.db"
    with serve(upstream, path) as client:
        moved(client, upstream)
    assert state_module._VERSION == 2
    assert sorted(key.hex() for key in keys_in(path)) == KEYS_OF_VERSION_2


def keys_in(path: Path) -> list[bytes]:
    with contextlib.closing(sqlite3.connect(path)) as file:
        return [bytes(key) for (key,) in file.execute("SELECT key FROM choices")]


def test_a_locked_file_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(state_module, "_LOCK_S", 0.01)
    monkeypatch.setattr(state_module, "FLUSH_S", 0.01)
    path = tmp_path / "state.db"
    kept = StateFile(str(path))
    kept.open()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        kept.orders.add(GroupKeys(b"one", None), (1, 0))
        while not caplog.records:
            kept._closing.wait(0.01)
        kept.orders.add(GroupKeys(b"two", None), (2, 0, 1))
        other.rollback()
    monkeypatch.setattr(state_module, "_LOCK_S", 60.0)  # nobody else has it: only load delays
    kept.close()
    assert ["cannot be written" in record.getMessage() for record in caplog.records] == [True]
    again = StateFile(str(path))
    again.open()
    again.close()
    assert again.orders.get(GroupKeys(b"one", None)) == (1, 0)
    assert again.orders.get(GroupKeys(b"two", None)) == (2, 0, 1)


_ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
_TABLE = "CREATE TABLE choices (key BLOB PRIMARY KEY, ranks TEXT NOT NULL, used INTEGER NOT NULL)"


@pytest.mark.parametrize(
    "statements",
    [
        [f"CREATE VIEW choices AS {_ENDLESS} SELECT x AS key, '0' AS ranks, x AS used FROM c"],
        [
            f"{_TABLE} WITHOUT ROWID",
            "CREATE TRIGGER more AFTER INSERT ON choices BEGIN "
            "INSERT INTO choices SELECT randomblob(8), ranks, used FROM choices; END",
        ],
        [f"{_TABLE} WITHOUT ROWID", f"INSERT INTO choices VALUES (x'00', '0', {2**63 - 1})"],
        [f"{_TABLE} WITHOUT ROWID", "INSERT INTO choices VALUES (x'00', '0', -1)"],
    ],
)
def test_a_file_that_does_more_than_keep_orders_is_not_used(
    tmp_path: Path, statements: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        for statement in [*statements, "PRAGMA user_version = 2"]:
            file.execute(statement)
    path.chmod(0o600)
    kept = StateFile(str(path))
    with caplog.at_level(logging.ERROR, "contextpilot"):
        kept.open()
        kept.orders.add(GroupKeys(b"one", None), (1, 0))
        kept.close()
    assert kept.orders.get(GroupKeys(b"one", None)) == (1, 0)
    assert "cannot be used" in caplog.text


def test_the_file_is_bounded(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    for begin in range(0, 30, 6):
        kept = StateFile(path, max_orders=10)
        kept.open()
        for number in range(begin, begin + 6):
            kept.orders.add(GroupKeys(bytes([number]), None), (number,))
        kept.close()
    kept = StateFile(path, max_orders=10)
    kept.open()
    kept.close()
    assert len(kept.orders) == 10
    assert kept.orders.get(GroupKeys(bytes([29]), None)) == (29,)
    assert kept.orders.get(GroupKeys(bytes([19]), None)) is None


def test_orders_of_many_blocks_count_by_their_ranks(tmp_path: Path) -> None:
    orders, long = WrittenOrders(max_ranks=100), tuple(range(40))
    for number in range(1000):
        orders.add(GroupKeys(b"%d" % number, None), long)
        orders.add(GroupKeys(b"%d" % number, None), long)  # a next turn
    assert len(orders) == 2
    orders.add(GroupKeys(b"one", None), tuple(range(1000)))
    assert len(orders) == 1
    orders.forget()
    for number in range(50):
        orders.add(GroupKeys(b"%d" % number, None), (1, 0))
    assert len(orders) == 50

    kept = StateFile(str(tmp_path / "state.db"))
    kept.open()
    kept.orders.add(GroupKeys(b"long", None), tuple(range(3000)))
    kept.orders.add(GroupKeys(b"short", None), (1, 0))
    kept.close()
    again = StateFile(str(tmp_path / "state.db"))
    again.open()
    again.close()
    assert again.orders.get(GroupKeys(b"long", None)) is None
    assert again.orders.get(GroupKeys(b"short", None)) == (1, 0)


def test_the_oldest_orders_go() -> None:
    orders = WrittenOrders(max_orders=2)
    for key in (b"one", b"two", b"one", b"three"):
        orders.add(GroupKeys(key, None), (0,))
    found = [orders.get(GroupKeys(key, None)) for key in (b"one", b"two", b"three")]
    assert found == [(0,), None, (0,)]


SESSION = "0f2d7c1e-93b1-4d0a-a7a2-5b1c7e0d9f11"


@pytest.mark.parametrize("name", ["session-id", "x-session-id", "x-claude-code-session-id"])
def test_a_session_goes_on_under_another_key(proxy: Client, upstream: Scripted, name: str) -> None:
    written = moved(proxy, upstream, Authorization="Bearer one", **{name: SESSION})
    assert next_turn(proxy, upstream, Authorization="Bearer two", **{name: SESSION}) == written
    other = {name: SESSION[::-1]}
    as_sent = asked(TEXTS[::-1], "how?")
    assert next_turn(proxy, upstream, Authorization="Bearer three", **other) == as_sent


def test_names_that_may_be_shared_tell_no_session(proxy: Client, upstream: Scripted) -> None:
    moved(proxy, upstream, Authorization="Bearer one", x_session_id="main")
    found = next_turn(proxy, upstream, Authorization="Bearer two", x_session_id="main")
    assert found == asked(TEXTS[::-1], "how?")
    for name in (
        "customer-support-of-2026",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "1" * 16,
        "a" * 50_000,
    ):
        moved(proxy, upstream, Authorization=f"Bearer {name}", x_session_id=name)
        found = next_turn(proxy, upstream, Authorization="Bearer two", x_session_id=name)
        assert found == asked(TEXTS[::-1], "how?")


def test_sessions_count_for_nothing_where_a_gateway_names_tenants(
    upstream: Scripted, start: Start
) -> None:
    client = start(engine=(upstream.url,), tenants="header")
    moved(client, upstream, x_contextpilot_namespace="one", x_session_id=SESSION)
    found = next_turn(client, upstream, x_contextpilot_namespace="two", x_session_id=SESSION)
    assert found == asked(TEXTS[::-1], "how?")


def test_a_moving_cache_mark_changes_nothing(proxy: Client, upstream: Scripted) -> None:
    def marked(message: dict[str, Any]) -> dict[str, Any]:
        mark = {"type": "ephemeral"}
        part = {"type": "text", "text": message["content"], "cache_control": mark}
        return {"role": message["role"], "content": [part]}

    def plain(message: dict[str, Any]) -> dict[str, Any]:
        return {**message, "content": [{"type": "text", "text": message["content"]}]}

    for texts, question in ((TEXTS, "why?"), (TEXTS[::-1], "how?")):
        proxy.post("/v1/messages", {"messages": [marked(asked(texts, question))]})
    written = upstream.last.json()["messages"][0]["content"][0]["text"]
    assert written != asked(TEXTS[::-1], "how?")["content"]
    answer = {"role": "assistant", "content": "so"}
    follow = marked({"role": "user", "content": "and then?"})
    turns = [plain(asked(TEXTS[::-1], "how?")), answer, follow]
    proxy.post("/v1/messages", {"messages": turns})
    assert upstream.last.json()["messages"][0]["content"][0]["text"] == written
