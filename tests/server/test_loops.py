"""An engine's address that leads back to the server: a request goes round once, not for ever."""

from __future__ import annotations

import re
import socket
import urllib.parse

import pytest
from servers import Client, Scripted, Start, wait_until

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hello"}]}


def num_passed_on(client: Client) -> int:
    """Return how many requests the server counted that were not refused."""
    text = client.get("/metrics").body.decode()
    lines = re.findall(r'requests_total\{[^}]*outcome="(?!refused)[^}]*\} ([\d.]+)', text)
    return int(sum(map(float, lines)))


def port_of(client: Client) -> int:
    return urllib.parse.urlsplit(client.url).port or 0


@pytest.mark.parametrize("name", ["127.0.0.1", "0.0.0.0", "2130706433", socket.gethostname()])
def test_a_server_that_is_its_own_engine_says_so(start: Start, name: str) -> None:
    client = start()
    url = f"http://{name}:{port_of(client)}"
    assert client.post("/engines", {"url": url, "name": "itself"}).status == 201
    reply = client.post(CHAT, BODY)
    if reply.status == 502:
        pytest.skip(f"{name} does not lead to the loopback address here")
    assert reply.status == 508
    assert "leads back to this server" in reply.json()["error"]["message"]
    assert num_passed_on(client) == 1
    assert (
        client.get("/dashboard/feed").json()["requests"]["why_refused"][0]["code"] == "goes-round"
    )


def test_two_servers_that_are_each_others_engines_say_so(start: Start) -> None:
    one = start()
    other = start(engine=(one.url,))
    assert one.post("/engines", {"url": other.url}).status == 201
    assert one.post(CHAT, BODY).status == 508
    assert (num_passed_on(one), num_passed_on(other)) == (1, 1)


def test_an_engine_beside_it_stands_in(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,))
    wait_until(lambda: client.get("/health").status == 200)
    client.post("/engines", {"url": client.url})
    wait_until(lambda: all(one["up"] for one in client.get("/health").json()["engines"]))
    assert [client.post(CHAT, BODY).status for _ in range(6)] == [200] * 6


def test_servers_in_a_row_are_no_loop_and_leave_others_marks_alone(
    start: Start, upstream: Scripted
) -> None:
    client = start(engine=(start(engine=(upstream.url,)).url,))
    assert client.post(CHAT, BODY, Via="1.1 gateway, 1.1 contextpilot-0").status == 200
    via = upstream.last.headers["via"]  # of several lines the last
    assert re.fullmatch(r"1\.1 contextpilot-[0-9a-f]{16}", via)


def test_clouds_are_told_nothing_more(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,), kind="openai")
    assert client.post(CHAT, BODY).status == 200
    assert "via" not in upstream.last.headers
