"""Runs the server: uvicorn, its limits, its logs, its graceful stop."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time

import uvicorn

from contextpilot.server.app import create_app
from contextpilot.server.garbage import collect_seldom
from contextpilot.server.protocol import Protocol
from contextpilot.server.settings import Settings

_BACKLOG = 2048
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
    """Send the logs of ContextPilot and uvicorn to standard error. For the command only."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else text)
    for name in ("contextpilot", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(settings.log_level.upper())
        logger.propagate = False


def make_server(settings: Settings) -> uvicorn.Server:
    """Return the server, not started; paths are not logged, since queries may hold keys."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        backlog=_BACKLOG,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_timeout_s)),
        http=Protocol.with_timeout(settings.client_timeout_s),
        ws="none",
    )
    return uvicorn.Server(config)


def serve(settings: Settings) -> int:
    """Serve until a signal ends it; return the exit status."""
    configure_logging(settings)
    server = make_server(settings)
    sys.setswitchinterval(_SWITCH_S)
    collect_seldom(server.config.app.state.activity)  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _stopped)
    try:
        server.run()
    except SystemExit:  # it could not start, and has logged why
        return 1
    return 0 if server.started else 1


def _stopped(*_: object) -> None:
    """Let a requested stop be a success: uvicorn raises the signal again once it has stopped."""
