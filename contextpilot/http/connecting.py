"""Opens connections for the pooled client: directly, over a proxy, or through its tunnel."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

from contextpilot.http.address import Address, basic_key
from contextpilot.http.connection import Connection
from contextpilot.http.environment import proxy_for, tls_context
from contextpilot.http.reason import reason
from contextpilot.http.response import Headers


class UpstreamError(Exception):
    """An engine did not answer.

    Attributes:
        status: what a gateway replies then.
        cause: why no connection came about, where the system said so.
        was_sent: whether the engine may have read the request.
    """

    def __init__(
        self,
        status: int,
        message: str,
        cause: OSError | None = None,
        *,
        was_sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause
        self.was_sent = was_sent

    @property
    def why(self) -> str:
        """The message, with the system's own reason: for whoever runs the engine."""
        said, cause = str(self), self.cause
        if cause is None or str(cause) in said or isinstance(cause, ssl.SSLCertVerificationError):
            return said
        return f"{said}: {reason(cause)}"


class Way(NamedTuple):
    """How a server is reached.

    Attributes:
        prefix: what stands before a request's target: a proxy is told the whole address.
        headers: for the proxy; with a tunnel they are for the tunnel alone.
        proxy: None where it is reached directly.
    """

    prefix: str = ""
    headers: Headers = ()
    proxy: Address | None = None


class Connector:
    """Opens connections. For use within one event loop; the environment is asked once a server."""

    def __init__(self, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._connect_timeout = connect_timeout_s or None
        self._read_timeout = read_timeout_s
        self._tls: ssl.SSLContext | None = None
        self._ways: dict[Address, Way] = {}

    def way(self, server: Address) -> Way:
        """Return how a server is reached. Raises UpstreamError for a proxy of another kind."""
        way = self._ways.get(server)
        if way is None:
            way = self._ways[server] = _find_way(server)
        return way

    async def connect(self, server: Address) -> Connection:
        """Return a new connection. Raises UpstreamError when none comes about in time."""
        way = self.way(server)
        try:
            return await asyncio.wait_for(self._open(server, way), self._connect_timeout)
        except asyncio.TimeoutError:
            raise UpstreamError(504, "the engine cannot be reached in time") from None
        except ssl.SSLCertVerificationError as error:
            text = f"the engine's certificate is not trusted: {error.verify_message}"
            raise UpstreamError(502, f"{text}; SSL_CERT_FILE names authorities", error) from None
        except OSError as error:
            text = "the engine cannot be reached"
            if way.proxy is not None:
                text += f" over the proxy {way.proxy.url}: {error}"
            raise UpstreamError(502, text, error) from None
        except ValueError:
            raise UpstreamError(502, "the engine cannot be reached") from None

    async def _open(self, server: Address, way: Way) -> Connection:
        if way.proxy is None:
            return await self._to(server)
        connection = await self._to(way.proxy)
        if server.scheme == "http":
            return connection
        try:
            place = f"{server.bracketed}:{server.port}".encode()
            answer = await connection.request(
                b"CONNECT", place, [(b"host", place), *way.headers], b""
            )
            if not 200 <= answer.status < 300:
                raise ConnectionError(f"it answers {answer.status}")
            await connection.start_tls(self._context(), server.host)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _to(self, place: Address) -> Connection:
        loop = asyncio.get_running_loop()
        tls = self._context() if place.scheme == "https" else None
        made = await loop.create_connection(
            lambda: Connection(loop, self._read_timeout), place.host, place.port, ssl=tls
        )
        return made[1]

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = tls_context()
        return self._tls


def _find_way(server: Address) -> Way:
    url = proxy_for(server)
    if url is None:
        return Way()
    try:
        proxy, key = Address.of(url), basic_key(url)
    except ValueError:
        raise UpstreamError(502, "the environment's proxy is not an http(s) address") from None
    if server.scheme == proxy.scheme == "https":
        raise UpstreamError(502, "https needs a proxy with an http:// URL: set HTTPS_PROXY to one")
    headers = [(b"proxy-authorization", key)] if key is not None else []
    prefix = f"http://{server.place}" if server.scheme == "http" else ""
    return Way(prefix, headers, proxy)
