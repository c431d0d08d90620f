"""What the environment says: where the index listens, and under which name this engine reports.

| variable                  | meaning                                                             |
|---------------------------|---------------------------------------------------------------------|
| CONTEXTPILOT_INDEX_URL    | http(s) address of the index; unset or empty: the hooks stay out     |
| CONTEXTPILOT_INDEX_TOKEN  | sent as `Authorization: Bearer`, when set                            |
| CONTEXTPILOT_ENGINE_ID    | name of this engine, stable across restarts                          |
| CONTEXTPILOT_HOOK_MAX_... | bounds on what is followed; see `read_bound` and docs/engines.md     |
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

logger = logging.getLogger("contextpilot.hooks")

_MAX_DIGITS = 12


class Settings(NamedTuple):
    """Address of the index. `path` has no slash at its end."""

    secure: bool
    host: str
    port: int
    path: str
    token: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables. Raises ValueError that names the variable and the fix."""
        url = environ.get("CONTEXTPILOT_INDEX_URL", "").strip()
        try:
            parts, port = urlsplit(url), urlsplit(url).port
        except ValueError:  # no port, or no IPv6 address
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            shown = url.rpartition("@")[2]  # what stands before it may be a password
            raise ValueError(
                f"CONTEXTPILOT_INDEX_URL={shown!r} must look like http://127.0.0.1:8765"
            )
        secure = parts.scheme == "https"
        token = environ.get("CONTEXTPILOT_INDEX_TOKEN", "").strip()
        if not (token.isascii() and token.isprintable()):  # an error of http.client would show it
            raise ValueError("CONTEXTPILOT_INDEX_TOKEN must be one line of printable ASCII")
        return cls(
            secure, parts.hostname, port or (443 if secure else 80), parts.path.rstrip("/"), token
        )


class Engine(NamedTuple):
    """Who reports; the fields go into every message.

    dropped: tokens at the end of what could be reused that are computed anew (EAGLE, MTP).
    sparse: a cached prompt can be reused at its points only.
    """

    name: str
    kind: str
    version: str
    block_size: int
    dropped: int = 0
    sparse: bool = False


def read_bound(what: str, default: int, environ: Mapping[str, str] = os.environ) -> int:
    """CONTEXTPILOT_HOOK_MAX_`what`, an integer of at least 1; `default`, with a warning if bad."""
    variable = f"CONTEXTPILOT_HOOK_MAX_{what}"
    text = environ.get(variable, "").strip()
    if not text:
        return default
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) > 0:
        return int(text)
    logger.warning(
        "contextpilot: %s=%r must be an integer of at least 1; it stays at %d",
        variable,
        text[:80],
        default,
    )
    return default


def engine_name(
    kind: str,
    replica: int | None = None,
    environ: Mapping[str, str] = os.environ,
    argv: Sequence[str] | None = None,
) -> str:
    """CONTEXTPILOT_ENGINE_ID, else kind-hostname-port, else kind-hostname-pid.

    `replica` is the rank of a data-parallel replica (appended as -dpN), None without such.
    """
    name = environ.get("CONTEXTPILOT_ENGINE_ID", "").strip()
    if not name:
        port = _port(sys.argv if argv is None else argv)
        name = f"{kind}-{socket.gethostname()}-{port or os.getpid()}"
    return name if replica is None else f"{name}-dp{replica}"


def _port(argv: Sequence[str]) -> str:
    for position, word in enumerate(argv):
        option, _, value = word.partition("=")
        if option == "--port":
            value = value or (argv[position + 1] if position + 1 < len(argv) else "")
            return value if value.isdigit() else ""
    return ""
