"""Rows: what the server itself runs out of."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import tempfile
import time
import urllib.error
from pathlib import Path
from typing import Any

from faults.load import Load, Send, through
from faults.machines import Index, health
from faults.world import Outcome, Row, World, outcome_of

FILE_BYTES = 60_000
"""Largest file that the server may write: a disk that is full, as far as it can tell."""
NUM_DESCRIPTORS = 150
MAX_TRIES = 20
CLIENT_TIMEOUT_S = 2.0


def _disk(world: World) -> Outcome:
    """The state file and the log cannot be written; written orders are known in memory."""
    load, good = Load(), 0
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.db"
        options = {"state": str(state), "log_level": "warning"}
        limits = {"RLIMIT_FSIZE": FILE_BYTES}
        with world.pair(limits, **options) as (index, _, _), load.running(through(index.url)):
            for _ in range(world.times):
                load.wait(100)
                good += health(index.url)["status"] == "ok"
        good = good if os.path.getsize(state) <= FILE_BYTES else 0
    return outcome_of(load, world.times, good)


def _descriptors(world: World) -> Outcome:
    """Idle connections take all that clients may have; what engines need is left."""
    load, good = Load(), 0
    limits = {"RLIMIT_NOFILE": NUM_DESCRIPTORS}
    with world.pair(limits, client_timeout_s=CLIENT_TIMEOUT_S) as (index, _, _):
        for _ in range(world.times):
            with contextlib.ExitStack() as held:
                for _ in range(2 * NUM_DESCRIPTORS):
                    connection = socket.create_connection(("127.0.0.1", index.port), 10)
                    held.enter_context(connection)
                load.tell(patient(through(index.url)), load.rng)
            good += _num_down(index) == 0
    return outcome_of(load, world.times, good)


def patient(send: Send) -> Send:
    """Return what sends again where it is told to come later, as clients do."""

    def sent(rng: random.Random) -> Any:
        for _ in range(MAX_TRIES):
            try:
                return send(rng)
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503):
                    raise
                time.sleep(float(error.headers["Retry-After"]))
            except urllib.error.URLError:  # refused before all was sent
                time.sleep(1.0)
        return send(rng)

    return sent


def _num_down(index: Index) -> int:
    return sum(one["up"] is False for one in index.engine_states().values())


ROWS = [
    Row("disk full", "what cannot be written is kept in memory, with one warning", _disk),
    Row(
        "out of descriptors",
        "clients are told to retry until idle connections are closed; engines stay up",
        _descriptors,
    ),
]
