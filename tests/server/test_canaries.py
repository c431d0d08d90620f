"""Distinctive secrets sent in every way there is, errors provoked: they show up nowhere."""

from __future__ import annotations

import json
import logging
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contextpilot_hooks.ledger import Event, Ledger
from contextpilot_hooks.reporter import Reporter
from contextpilot_hooks.settings import Engine
from contextpilot_hooks.settings import Settings as HookSettings
from servers import Client, Reply, Scripted, free_port

import contextpilot as cp
from contextpilot.client import Client as IndexClient
from contextpilot.server.run import JsonFormatter
from contextpilot.server.settings import Settings

Start = Callable[..., Client]
CHAT = "/v1/chat/completions"
SECRETS = {
    name: f"CANARY{name}q7"
    for name in (
        *("PROMPT", "SYSTEM", "RESULT", "ARGUMENT", "DOCUMENT", "QUESTION", "KEY", "APIKEY"),
        *("TENANT", "SESSION", "URLUSER", "URLPASS", "QUERY", "SALT", "TOKEN", "ANSWER", "FIELD"),
        *("ENGINEERROR", "TALK", "COOKIE"),
    )
}


class Canary:
    """The secrets by name: `canary.KEY`."""

    def __getattr__(self, name: str) -> str:
        return SECRETS[name]


canary = Canary()
HEADERS = {
    "Authorization": f"Bearer {canary.KEY}",
    "X_Api_Key": canary.APIKEY,
    "X_ContextPilot_Namespace": canary.TENANT,
    "X_Session_Id": canary.SESSION + "0" * 16,
    "Cookie": canary.COOKIE,
}
WORDS = "words that fill a document until it is worth a reference "


class Log(logging.Handler):
    """Keeps every record of every logger, as each of our forms writes it, tracebacks too."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter("%(name)s %(message)s").format(record))
        self.lines.append(JsonFormatter().format(record))


@pytest.fixture
def log() -> Iterator[Log]:
    handler, root = Log(), logging.getLogger()
    names = ["contextpilot", "contextpilot.hooks", "uvicorn", "uvicorn.error", "asyncio", "urllib3"]
    loggers = [root, *map(logging.getLogger, names)]
    levels = [one.level for one in loggers]
    root.addHandler(handler)
    for one in loggers:
        one.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    for one, level in zip(loggers, levels, strict=True):
        one.setLevel(level)


def leaked(texts: list[str]) -> set[str]:
    """Return which secrets stand in any of the texts, written as they are or escaped for a URL."""
    whole = "\n".join(texts)
    return {
        name
        for name, secret in SECRETS.items()
        if secret in whole or urllib.parse.quote(secret) in whole
    }


def conversation() -> list[dict[str, Any]]:
    """A conversation with every kind of text that an agent sends."""
    documents = "".join(
        f'<document index="{n}">{canary.DOCUMENT} {n} {WORDS * 4}</document>\n' for n in (1, 2, 3)
    )
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "read", "arguments": json.dumps({"path": canary.ARGUMENT})},
    }
    result = f"{canary.RESULT}\n" + "\n".join(f"{WORDS} {n}" for n in range(12))
    return [
        {"role": "system", "content": f"{canary.SYSTEM} be brief"},
        {"role": "user", "content": f"<documents>\n{documents}</documents>\n{canary.QUESTION}?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
        {"role": "tool", "tool_call_id": "call_1", "content": result + "\nend"},
        {"role": "user", "content": f"{canary.PROMPT}?"},
    ]


def watched(client: Client) -> list[str]:
    """Return what the server shows to whoever may look."""
    named = {"Authorization": f"Bearer {canary.TOKEN}"}
    paths = ["/health", "/metrics", "/stats", "/requests", "/engines", "/dashboard/feed", "/"]
    seen = [client.get(path, **named) for path in paths]
    records = client.get("/requests", **named).json()["requests"]
    seen += [client.get(f"/explain/{record['request_id']}", **named) for record in records]
    return [text for reply in seen for text in texts_of(reply)]


def texts_of(reply: Reply) -> list[str]:
    return [reply.body.decode("latin-1"), json.dumps(reply.headers)]


def provoked(client: Client) -> list[str]:
    """Make everything fail that a client can make fail; return what it is told."""
    field = {"contextpilot": {canary.FIELD: 1}, "messages": []}
    contexts = {"contextpilot": {"contexts": [{"n": 7}], "query": [canary.QUESTION]}}
    token = {"Authorization": f"Bearer {canary.TOKEN}"}
    wrong = {"contexts": [[canary.DOCUMENT], 3], "namespace": canary.TENANT}
    event = {"event": canary.FIELD, "request": canary.FIELD}
    message = {"version": 3, "engine": "e", "epoch": "1", "seq": 0, "events": [event]}
    replies = [
        client.post(f"{CHAT}?key={canary.QUERY}", field, **HEADERS),
        client.post(CHAT, {**contexts, "messages": conversation()}, **HEADERS),
        client.request("POST", CHAT, f'{{"messages": "{canary.PROMPT}'.encode(), **HEADERS),
        client.post(CHAT, {}, **{**HEADERS, "X_ContextPilot_Mode": canary.FIELD}),
        client.post("/reorder", wrong, **token),
        client.post("/optimize", {"contexts": [canary.DOCUMENT], "query": [1]}, **token),
        client.post("/reorder", wrong, Authorization=f"Bearer {canary.KEY}"),
        client.request("POST", "/sync", f'{{"{canary.FIELD}'.encode(), **token),
        client.get(f"/explain/{canary.FIELD}?key={canary.QUERY}", **token),
        client.get(f"/v1/../{canary.QUERY}", **HEADERS),
    ]
    assert all(400 <= reply.status < 600 or reply.status == 200 for reply in replies)
    client.post("/sync", message, **token)  # names what it refuses, to whoever has the token
    return [json.dumps(reply.headers) for reply in replies]


@pytest.mark.parametrize("ending", ["answers", "fails", "is gone"])
def test_secrets_of_the_proxy_show_up_nowhere(
    upstream: Scripted, start: Start, log: Log, tmp_path: Path, ending: str
) -> None:
    state = tmp_path / "state"
    place = upstream.url.removeprefix("http://")
    if ending == "is gone":
        place = f"127.0.0.1:{free_port()}"
    elif ending == "fails":
        upstream.answer = failing
    client = start(
        engine=(f"http://{canary.URLUSER}:{canary.URLPASS}@{place}",),
        index_token=canary.TOKEN,
        salt_secret=canary.SALT,
        state=str(state),
        log_level="debug",
    )
    body = {"model": "m", "messages": conversation(), "user": canary.SESSION}
    headers = [json.dumps(client.post(CHAT, body, **HEADERS).headers) for _ in range(2)]
    field = {"contexts": [canary.DOCUMENT + WORDS, WORDS], "conversation": canary.TALK}
    replies = [
        client.post(CHAT, {"messages": [], "contextpilot": field}, **HEADERS),
        client.post("/v1/messages", {**body, "max_tokens": 1}, **HEADERS),
        client.post("/v1/responses", {"input": conversation()[1:2]}, **HEADERS),
        client.post("/v1/completions", {"prompt": canary.PROMPT}, **HEADERS),
    ]
    headers += [json.dumps(reply.headers) for reply in replies] + provoked(client)
    token = {"Authorization": f"Bearer {canary.TOKEN}"}
    indexed = {"contexts": [canary.DOCUMENT, WORDS], "query": canary.QUESTION}
    named = {"conversation_id": canary.TALK, "namespace": canary.TENANT}
    assert client.post("/optimize", {**indexed, **named}, **token).status == 200
    assert leaked(watched(client)) == set()
    assert leaked(log.lines) == set()
    assert leaked(headers) == set()
    assert any("contextpilot" in line for line in log.lines)


async def failing(_: Any, send: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": canary.ENGINEERROR.encode()})


def test_secrets_are_in_no_state_file(
    upstream: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from servers import serving

    from contextpilot.server.run import make_server

    state = tmp_path / "state"
    settings = Settings(
        port=0, kind="other", engine=(upstream.url,), state=str(state), reorder=True
    )
    with serving(make_server(settings)) as url:
        for _ in range(2):
            Client(url).post(CHAT, {"messages": conversation()}, **HEADERS)
    kept = state.read_bytes()
    assert len(kept) > 20
    assert leaked([kept.decode("latin-1")]) == set()


def test_a_failure_of_ours_tells_nothing_of_the_prompt(
    proxy: Client, upstream: Scripted, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError(f"while reading {canary.PROMPT}")

    monkeypatch.setattr("contextpilot.prompt.conversation.prepare.look", fails)
    reply = proxy.post(CHAT, {"messages": conversation()}, **HEADERS)
    assert reply.result["reason"] == "planning failed"
    assert upstream.last.json()["messages"] == conversation()
    assert leaked([*log.lines, json.dumps(reply.headers), *watched(proxy)]) == set()


def test_secrets_of_the_library_are_in_no_log(log: Log) -> None:
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        done = pilot.optimize([canary.DOCUMENT, WORDS], canary.QUESTION, namespace=canary.TENANT)
        pilot.rewrite(conversation())
        pilot.reorder([[canary.DOCUMENT, WORDS], [WORDS, canary.PROMPT]])
        for wrong in ([canary.DOCUMENT, object()], [[canary.DOCUMENT]], {canary.DOCUMENT}):
            with pytest.raises((TypeError, ValueError)):
                pilot.optimize(wrong, canary.QUESTION)  # type: ignore[arg-type]
        with pytest.raises(cp.UnknownConversationError):
            pilot.deduplicate([canary.DOCUMENT], conversation_id=canary.TALK)
        assert pilot.explain(done)
        shown = [json.dumps(pilot.stats()), json.dumps(pilot.engines())]
    assert leaked(log.lines) == set()
    assert leaked(shown) <= {"TENANT"}  # the caller's own names of namespaces


def test_secrets_of_the_hooks_go_nowhere_but_to_the_index(log: Log) -> None:
    dead = f"http://{canary.URLUSER}:{canary.URLPASS}@127.0.0.1:{free_port()}/"
    variables = {"CONTEXTPILOT_INDEX_URL": dead, "CONTEXTPILOT_INDEX_TOKEN": canary.TOKEN}
    reporter = Reporter(
        Ledger(), HookSettings.from_environ(variables), Engine("e", "vllm", "1", 16), timeout=0.2
    )
    reporter._stop.wait = lambda timeout=None: False  # type: ignore[method-assign]
    message = reporter._encode([Event("cached", "cp-1", 16, 32)], snapshot=False)
    reporter._deliver(message)
    assert reporter.counts.failures == 1
    assert "127.0.0.1" in "\n".join(log.lines)
    assert leaked([*log.lines, message.body.decode()]) == set()


@pytest.mark.parametrize("url", ["http://{user}:{word}@host:port", "ftp://{user}:{word}@host"])
def test_secrets_of_a_url_that_is_none_are_not_shown(url: str) -> None:
    url = url.format(user=canary.URLUSER, word=canary.URLPASS)
    for refuses in (
        lambda: Settings(engine=(url,)),
        lambda: HookSettings.from_environ({"CONTEXTPILOT_INDEX_URL": url}),
        lambda: cp.ContextPilot(index_url=url),
        lambda: IndexClient(url),
    ):
        with pytest.raises(ValueError, match="http") as told:
            refuses()
        assert leaked([str(told.value)]) == set()
