"""The address of a server, taken apart once and shown without what is secret in it."""

from __future__ import annotations

import base64
import ipaddress
import urllib.parse
from typing import Any, NamedTuple

PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """An http(s) address; user, password, query and fragment are left out.

    Attributes:
        path: without a slash at its end.
        has_user: whether a user or a password was left out.
    """

    scheme: str
    host: str
    port: int
    path: str = ""
    has_user: bool = False

    @classmethod
    def of(cls, url: Any) -> Address:
        """Take a URL apart. Raises ValueError, which tells nothing of it: it may hold keys."""
        try:
            parts = urllib.parse.urlsplit(url.strip()) if isinstance(url, str) else None
            port = parts.port if parts else None
        except ValueError:  # the port is no number, or the host no IPv6 address
            parts = port = None
        if parts is None or parts.scheme not in PORTS or not parts.hostname or port == 0:
            raise ValueError("is not an http(s) address")
        return cls(
            parts.scheme,
            parts.hostname,
            port or PORTS[parts.scheme],
            parts.path.rstrip("/"),
            bool(parts.username or parts.password),
        )

    @property
    def bracketed(self) -> str:
        """The host, an IPv6 address in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def place(self) -> str:
        """Host and, where it is not the scheme's own, port, as a Host header names them."""
        host = self.bracketed
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as it may be asked and shown."""
        return f"{self.scheme}://{self.place}{self.path}"


def base_address(url: Any) -> Address:
    """Take a URL apart to which paths are added.

    Raises ValueError where those would be swallowed or led astray: by a query, a fragment, steps
    upwards, or signs that are none of ASCII's.
    """
    address = Address.of(url)
    text = url.strip()
    is_plain = all("!" <= sign <= "~" and sign not in "?#" for sign in text)
    if not is_plain or ".." in urllib.parse.unquote(address.path).split("/"):
        raise ValueError("is no base address")
    return address


def quoted(url: object) -> str:
    """Return what was given for a URL as an error may quote it: no password or key is in it."""
    if not isinstance(url, str):
        return repr(url)
    place, mark, _ = url.rpartition("@")[2].partition("?")
    return repr(f"{place}{mark and '?...'}")


def basic_key(url: str) -> bytes | None:
    """Return the value of an Authorization header for a URL's user and password (RFC 7617)."""
    parts = urllib.parse.urlsplit(url)
    if parts.username is None and parts.password is None:
        return None
    user, word = (urllib.parse.unquote(part or "") for part in (parts.username, parts.password))
    return b"Basic " + base64.b64encode(f"{user}:{word}".encode())


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address leads to its own machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
