"""Runs the server: uvicorn, its limits, its logs, its graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import signal
import socket
import sys
import time
from dataclasses import replace
from typing import Any

import uvicorn

from contextpilot.http.address import is_loopback
from contextpilot.server.app import create_app
from contextpilot.server.garbage import collect_seldom
from contextpilot.server.greeting import greeting
from contextpilot.server.log_lines import LineFormatter, LineHandler, open_standard_streams
from contextpilot.server.protocol import Protocol
from contextpilot.server.proxy.outcome import Observer
from contextpilot.server.settings import Settings

logger = logging.getLogger("contextpilot.server")

_BACKLOG = 2048
_NEW_TOKEN = (
    "other machines can reach {host}, so the index requires a token. No --index-token was given; "
    "the one for this run is\n  CONTEXTPILOT_INDEX_TOKEN={token}\nfor engines, applications and "
    "the dashboard. /v1 requires none.\n"
)
_MAX_DESCRIPTORS = 65_536
_OWN_DESCRIPTORS = 64
"""For files, health checks and the like."""
_SWITCH_S = 0.001
"""Within which a thread at work gives way to the event loop."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, logger, message, and the fields passed as `extra={"fields": ...}`."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        content = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(content)


def configure_logging(settings: Settings) -> None:
    """Send all logs to standard error, those of others from warnings on. For the command only."""
    handler = LineHandler()
    text = LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else text)
    logging.getLogger().handlers = [handler]  # asyncio's, too: else each writes past the bounds
    logging.getLogger().setLevel(logging.WARNING)
    for name in ("contextpilot", "uvicorn"):
        named = logging.getLogger(name)
        named.handlers = []
        named.setLevel(settings.log_level.upper())
        named.propagate = True
    if settings.log_level == "info":  # what it says of its own start, we say in words
        logging.getLogger("uvicorn").setLevel(logging.WARNING)


class Server(uvicorn.Server):
    """Says at its start what it will do.

    Attributes:
        port: that it listens at, once it has started.
    """

    port = 0

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings
        self._greeted: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen; the rest is said once the engines were asked."""
        await super().startup(sockets)
        self.port = self.servers[0].sockets[0].getsockname()[1]
        self._greeted = asyncio.create_task(self._greet(self.port))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running requests end."""
        logger.info(
            "stopping: running requests have %g s to finish", self._settings.shutdown_timeout_s
        )
        await super().shutdown(sockets)

    async def _greet(self, port: int) -> None:
        app: Any = self.config.app
        for line in await greeting(self._settings, port, app.state.service.pool):
            logger.log(logging.WARNING if line.is_warning else logging.INFO, line.text)


def make_server(settings: Settings, observer: Observer | None = None) -> Server:
    """Return the server, not started; paths are not logged, since queries may hold keys."""
    config = uvicorn.Config(
        create_app(settings, observer=observer),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        backlog=_BACKLOG,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_timeout_s)),
        http=Protocol.with_limits(settings.client_timeout_s, _max_connections(settings)),
        ws="none",
    )
    return Server(config, settings)


def _max_connections(settings: Settings) -> int:
    """Return how many clients may be connected: each may need a connection to an engine, too."""
    try:
        import resource
    except ImportError:  # not on Windows
        return settings.max_connections
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return settings.max_connections
    return min(settings.max_connections, max(1, (descriptors - _OWN_DESCRIPTORS) // 2))


def guarded(settings: Settings) -> tuple[Settings, str]:
    """Return the settings, with a new index token where strangers could reach an index without.

    Returns:
        The settings, and the new token; empty where none was made.
    """
    if settings.index_token or settings.open_index or is_loopback(settings.host):
        return settings, ""
    token = secrets.token_urlsafe(24)
    return replace(settings, index_token=token), token


def serve(settings: Settings) -> int:
    """Serve until a signal ends it; return the exit status."""
    open_standard_streams()
    _raise_descriptor_limit()
    configure_logging(settings)
    settings, new_token = guarded(settings)
    if new_token:  # to the terminal, not through the loggers, which may be sent elsewhere
        sys.stderr.write(_NEW_TOKEN.format(host=settings.host, token=new_token))
    server = make_server(settings)
    sys.setswitchinterval(_SWITCH_S)
    collect_seldom(server.config.app.state.activity)  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _stopped)
    try:
        server.run()
    except SystemExit:  # it could not start, and has logged why
        logger.error("not started: check that %s:%s is free, or set --port", *_place(settings))
        return 1
    return 0 if server.started else 1


def _raise_descriptor_limit() -> None:
    """Let the process have as many connections as the system allows it, not as a shell begins."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_bounded = most != resource.RLIM_INFINITY
    wanted = min(most, _MAX_DESCRIPTORS) if is_bounded else _MAX_DESCRIPTORS
    if resource.RLIM_INFINITY != now < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _place(settings: Settings) -> tuple[str, int]:
    return settings.host, settings.port


def _stopped(*_: object) -> None:
    """Let a requested stop be a success: uvicorn raises the signal again once it has stopped."""
