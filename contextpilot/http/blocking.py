"""Blocking HTTP to one server, on requests: one deadline a call, one safe rule for repeating.

Its adapter is used without its session, which would add cookies, keys out of .netrc and redirects.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidHeader
from urllib3.exceptions import HTTPError, ReadTimeoutError

from contextpilot.http.address import Address
from contextpilot.http.deadline import CALL, MAX_IDLE, POOLS, Call, OnlyUnread
from contextpilot.http.environment import proxy_for, tls_context

_MAX_REPLY_BYTES = 64 << 20
_PIECE_BYTES = 1 << 16
_MAX_TEMPLATES = 32


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes


class BlockingHttp:
    """Calls to one server. Thread-safe; each thread that calls has a connection of its own.

    Args:
        url: base URL; user and password in it are ignored.
        headers: sent with every request.
        connect_timeout_s: longest time that connecting to one address may take.

    Raises:
        ValueError: `url` is no http(s) address.
    """

    def __init__(self, url: str, headers: Mapping[str, str], connect_timeout_s: float) -> None:
        self._address = Address.of(url)
        self._headers = {"Accept-Encoding": "identity", **headers}
        self._connect_timeout = connect_timeout_s
        proxy = proxy_for(self._address)
        self._proxies = {self._address.scheme: proxy} if proxy else {}
        self._templates: dict[tuple[str, str], requests.PreparedRequest] = {}
        self._adapter: _Adapter | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @property
    def shown_url(self) -> str:
        """The base URL as it may be shown: without user, password and query."""
        return self._address.url

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request and return its answer, both within `timeout_s`.

        Args:
            headers: of this request, beside those of all.

        Raises:
            OSError: no whole answer came; TimeoutError when it did not come in time,
                ConnectionRefusedError when nobody listened.
        """
        call = Call(timeout_s, self._connect_timeout)
        token = CALL.set(call)
        try:
            return self._exchange(method, path, body, call, headers or {})
        except (OSError, HTTPError, ValueError) as error:
            raise self._typed(_root(error), call) from None
        finally:
            CALL.reset(token)

    def close(self) -> None:
        """Close the idle connections; the next call opens one again."""
        with self._lock:
            adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.close()

    def _exchange(
        self, method: str, path: str, body: bytes | None, call: Call, headers: Mapping[str, str]
    ) -> Reply:
        request = self._request(method, path, body)
        request.headers.update(headers)
        timeout = (call.left_to_connect(), call.left())
        response = self._open().send(request, True, timeout, proxies=self._proxies)
        try:
            return Reply(response.status_code, _read(response.raw))
        finally:
            response.close()

    def _request(self, method: str, path: str, body: bytes | None) -> requests.PreparedRequest:
        """Return a request. Its address is prepared once: that is a fifth of a call's time."""
        template = self._templates.get((method, path))
        if template is None:
            url = self._address.url + path
            template = requests.Request(method, url, self._headers).prepare()
            if len(self._templates) < _MAX_TEMPLATES:
                self._templates[method, path] = template
        request = template.copy()
        request.prepare_body(body, None)
        return request

    def _open(self) -> _Adapter:
        if self._pid != os.getpid():  # a forked child: its parent speaks over these connections
            self._lock, self._pid = threading.Lock(), os.getpid()
            self._adapter = None
        with self._lock:
            if self._adapter is None:
                self._adapter = _Adapter(self._address.scheme == "https")
            return self._adapter

    def _typed(self, error: BaseException, call: Call) -> OSError:
        """Return the error of a call, by what it began with."""
        if not isinstance(error, (TimeoutError, ReadTimeoutError)):
            kind = type(error) if type(error) is ConnectionRefusedError else ConnectionError
            if isinstance(error, InvalidHeader):  # its text shows the header, which may be a key
                return kind("a header cannot be sent: it holds a line break or the like")
            return kind(str(error) or type(error).__name__)
        if call.is_connected:
            return TimeoutError("no answer in time")
        return TimeoutError(f"no connection within {self._connect_timeout:g} s")


class _Adapter(HTTPAdapter):
    """requests' adapter over connections that keep a deadline, with the system's certificates."""

    def __init__(self, is_tls: bool) -> None:
        self._more: dict[str, Any] = {"ssl_context": tls_context()} if is_tls else {}
        super().__init__(pool_connections=1, pool_maxsize=MAX_IDLE, max_retries=OnlyUnread())

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **named: Any
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, **named, **self._more)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **named, **self._more)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def cert_verify(self, *_: Any) -> None:
        """Add no certificates to the system's."""


def _read(raw: Any) -> bytes:
    pieces, size = [], 0
    for piece in raw.stream(_PIECE_BYTES, decode_content=False):
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_REPLY_BYTES:
            raise ConnectionError("the answer is too long")
    if raw.length_remaining:
        raise ConnectionError("the answer broke off")
    return b"".join(pieces)


def _root(error: BaseException) -> BaseException:
    """Return what an error of the layers above began with."""
    below = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error if below is None else _root(below)
