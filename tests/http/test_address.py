"""Addresses taken apart, and which of them a proxy stands before."""

from __future__ import annotations

import pytest
from network import no_variables

from contextpilot.http.address import Address
from contextpilot.http.environment import proxy_for

__all__ = ["no_variables"]  # a fixture that is used without being named


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        (" http://host/ ", "http://host"),
        ("https://host:443/a/", "https://host/a"),
        ("http://user:word@host:80/a?key=1#x", "http://host/a"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, shown: str) -> None:
    assert Address.of(url).url == shown
    assert Address.of(url).has_user == ("@" in url)


@pytest.mark.parametrize(
    "url", ["", "host:80", "ftp://host", "http://", "http://host:x", "http://host:0", "http://[", 5]
)
def test_what_is_no_address_is_refused_without_being_told(url: object) -> None:
    with pytest.raises(ValueError, match=r"^is not an http\(s\) address$"):
        Address.of(url)


@pytest.mark.parametrize(
    ("url", "goes"),
    [
        ("http://engine.example:8000", True),
        ("https://engine.example", False),
        ("http://10.1.2.3:8000", False),
        ("http://11.1.2.3:8000", True),
        ("http://[fd00::5]:8000", False),
        ("http://a.inner:8000", False),
        ("http://winner:8000", True),
        ("http://localhost:8000", False),
        ("http://127.8.9.1:8000", False),
        ("http://[::1]", False),
    ],
)
def test_who_is_asked_by_the_proxy(url: str, goes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8, fd00::/8,.inner")
    assert proxy_for(Address.of(url)) == ("http://proxy.example:3128" if goes else None)


def test_one_proxy_may_be_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://all.example:1")
    assert proxy_for(Address.of("https://engine.example")) == "http://all.example:1"
    monkeypatch.setenv("NO_PROXY", "*")
    assert proxy_for(Address.of("https://engine.example")) is None
