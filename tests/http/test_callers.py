"""Who may call: addresses and local names; web pages of strangers may not."""

from __future__ import annotations

import socket

import pytest

from contextpilot.http.callers import AllowedCallers

FIX = "start it with --allowed-host NAME"
PLAIN = "text/plain;charset=UTF-8"
JSON = "application/json"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "127.0.0.1",
        "127.0.0.1:8765",
        "10.0.0.7:80",
        "[::1]:8765",
        "[fe80::1%25eth0]:8765",
        "localhost:8765",
        "contextpilot:8765",
        "Host.Docker.Internal:8765",
        "index.serving.svc:8765",
        "index.serving.svc.cluster.local",
        "nas.local.",
        socket.gethostname(),
    ],
)
def test_addresses_and_names_that_no_stranger_can_own_pass(host: str) -> None:
    assert AllowedCallers((), FIX).refusal("POST", host, None, JSON) is None


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "attacker.example:8765",
        "127.0.0.1.attacker.example",
        "localhost.attacker.example:8765",
        "local.example",
        "1.2.3.4.5",
        "0x7f.1.example",
        "a" * 60_000,
    ],
)
def test_other_names_are_refused_and_the_flag_is_named(host: str) -> None:
    for method in ("GET", "POST"):
        refusal = AllowedCallers((), FIX).refusal(method, host, None, None)
        assert refusal is not None
        assert "--allowed-host" in refusal
        assert host.partition(":")[0][:100] in refusal
        assert len(refusal) < 300


def test_names_are_allowed_one_by_one_with_all_below_or_all() -> None:
    named = AllowedCallers(["LLM.example.com", ".corp.example"], FIX)
    for host in ("llm.example.com:443", "a.corp.example", "b.a.corp.example."):
        assert named.refusal("POST", host, None, JSON) is None, host
    for host in ("example.com", "x.llm.example.com", "notcorp.example", "corp.example"):
        assert named.refusal("POST", host, None, JSON) is not None, host
    assert AllowedCallers(["*"], FIX).refusal("GET", "any.example", None, None) is None


@pytest.mark.parametrize("kind", [None, "", PLAIN, "multipart/form-data; boundary=x", "TEXT/PLAIN"])
def test_a_foreign_page_may_post_nothing_that_browsers_send_unasked(kind: str | None) -> None:
    callers = AllowedCallers((), FIX)
    here = "127.0.0.1:8765"
    for origin in ("https://page.example", "null", "http://127.0.0.1:3000"):
        assert callers.refusal("POST", here, origin, kind) is not None
        assert callers.refusal("POST", here, origin, JSON) is None  # browsers ask first
        assert callers.refusal("GET", here, origin, None) is None  # and show no answer unasked
    assert callers.refusal("POST", here, f"http://{here}", kind) is None
    assert callers.refusal("POST", here, None, kind) is None  # no browser
    named = AllowedCallers(["page.example"], FIX)
    assert named.refusal("POST", here, "https://page.example", kind) is None
