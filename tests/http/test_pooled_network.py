"""The pooled client on its way through a network: TLS, proxies, tunnels, connections kept."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from network import authority, no_variables, proxy_server, web_server

from contextpilot.http.pooled import Upstream, UpstreamError

__all__ = ["no_variables"]  # a fixture that is used without being named

T = TypeVar("T")
Runner = Callable[[Coroutine[Any, Any, Any]], Any]


def on_uvloop(work: Coroutine[Any, Any, T]) -> T:
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


@pytest.fixture(params=[asyncio.run, on_uvloop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    return request.param


async def using(use: Callable[[Upstream], Awaitable[T]], connect_timeout_s: float = 20) -> T:
    upstream = Upstream(connect_timeout_s, 20)
    try:
        return await use(upstream)
    finally:
        upstream.close()
        await asyncio.sleep(0.05)  # TLS says goodbye


def asking(*urls: str) -> Coroutine[Any, Any, list[bytes]]:
    async def use(upstream: Upstream) -> list[bytes]:
        bodies = []
        for url in urls:
            async with upstream.open("POST", url, [(b"x-a", b"b")], b"{}") as answer:
                assert answer.status == 200
                bodies.append(await answer.read())
        return bodies

    return using(use)


def test_a_custom_authority_is_trusted_when_named_and_not_otherwise(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with authority(tmp_path, "localhost") as (ca, tls), web_server(tls) as port:
        with pytest.raises(UpstreamError, match=r"not trusted.*SSL_CERT_FILE") as caught:
            run(asking(f"https://localhost:{port}/"))
        assert caught.value.status == 502
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        assert (
            run(asking(*[f"https://localhost:{port}/v1/x?y=%7e"] * 2)) == [b"POST /v1/x?y=%7e"] * 2
        )
        with pytest.raises(UpstreamError, match="not trusted"):
            run(asking(f"https://127.0.0.1:{port}/"))


def test_a_proxy_tunnels_tls_once_a_connection(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        authority(tmp_path, "engine.test") as (ca, tls),
        web_server(tls) as port,
        proxy_server() as proxy,
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        monkeypatch.setenv("HTTPS_PROXY", f"http://us%20er:word@127.0.0.1:{proxy.port}")
        assert run(asking(*[f"https://engine.test:{port}/v1"] * 3)) == [b"POST /v1"] * 3
    assert proxy.asked == [f"CONNECT engine.test:{port} HTTP/1.1"]
    assert "proxy-authorization: Basic dXMgZXI6d29yZA==" in proxy.heads[0]
    assert not any(line.startswith("x-a") for line in proxy.heads[0])


def test_a_proxy_is_told_the_whole_address_without_tls(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server() as port, proxy_server() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://u:w@127.0.0.1:{proxy.port}")

        async def use(upstream: Upstream) -> bytes:
            url = f"http://engine.test:{port}/v1/models"
            async with upstream.open("GET", url, [(b"x-a", b"b")], b"") as answer:
                return await answer.read()

        assert run(using(use)) == b"GET /v1/models"
        monkeypatch.setenv("NO_PROXY", "engine.test")
        with pytest.raises(UpstreamError, match="cannot be reached"):
            run(using(use))
    (head,) = proxy.heads
    assert head[0] == f"GET http://engine.test:{port}/v1/models HTTP/1.1"
    assert {f"host: engine.test:{port}", "x-a: b", "proxy-authorization: Basic dTp3"} <= set(head)


def test_this_machine_is_asked_directly(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with web_server() as port:
        assert run(asking(f"http://localhost:{port}/")) == [b"POST /"]


def test_a_proxy_that_refuses_is_told(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_server() as proxy:
        proxy.refuses = True
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(UpstreamError, match=r"over the proxy .* 403") as caught:
            run(asking("https://engine.test/"))
    assert caught.value.status == 502


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://"])
def test_a_proxy_of_another_kind_is_told(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(UpstreamError, match="proxy"):
        asyncio.run(asking("https://engine.test/"))


@pytest.mark.parametrize("stage", ["tunnel", "tls"])
def test_connecting_ends_in_time(run: Runner, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        if stage == "tunnel":
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")

        async def use(upstream: Upstream) -> None:
            host = "engine.test" if stage == "tunnel" else f"127.0.0.1:{port}"
            async with upstream.open("GET", f"https://{host}/", (), b""):
                pass

        with pytest.raises(UpstreamError, match="in time") as caught:
            run(using(use, 0.2))
    assert caught.value.status == 504


def test_connections_of_a_burst_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server() as port:

        async def use(upstream: Upstream) -> None:
            async def one() -> None:
                async with upstream.open("GET", f"http://127.0.0.1:{port}/", (), b"") as answer:
                    await answer.read()

            await asyncio.gather(*(one() for _ in range(20)))
            (idle,) = upstream._idle.values()
            assert len(idle) > 1
            monkeypatch.setattr("contextpilot.http.pooled.KEEP_ALIVE_S", 0.02)
            await asyncio.sleep(0.05)
            await one()
            assert len(idle) == 1

        asyncio.run(using(use))
