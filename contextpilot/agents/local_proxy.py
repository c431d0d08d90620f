"""A proxy in a thread of this process, for as long as a block of code runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from contextpilot.errors import CommandError
from contextpilot.server.proxy.outcome import Observer
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

_START_S = 30.0
_STOP_S = 10.0
_LOOK_EVERY_S = 0.01


@contextmanager
def running_proxy(settings: Settings, observer: Observer) -> Iterator[str]:
    """Run a proxy on the loopback address; give its URL, without /v1.

    Raises:
        CommandError: it did not start, as a rule because its port is taken.
    """
    server = make_server(settings, observer)
    thread = threading.Thread(target=server.run, name="contextpilot-proxy", daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_S
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    if not server.started:
        raise CommandError(f"the proxy did not start: check that port {settings.port} is free")
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.should_exit = True
        thread.join(_STOP_S)
