"""What an index server that is dead or odd costs a caller, and what becomes of its prompts' ids."""

from __future__ import annotations

import contextlib
import copy
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from operator import add
from pathlib import Path
from typing import Any

from weights.texts import COUNTED, TEXTS

import contextpilot
from contextpilot.block import estimate_tokens

from .measurement import Measurement

sys.path.insert(0, str(Path(contextpilot.__file__).parents[1] / "hooks"))  # this checkout's, too

_BLOCKS = [f"words of a block, number {number}. " * 20 for number in range(8)]
_ID = "cp-" + "0" * 24
_KEPT = [[0, list(range(8)), 0, {"request_id": _ID, "reason": "cold"}]]
_OFF: list[Any] = [
    *([], None, {"plans": None}, {"plans": [[]]}, {"plans": [[5, [0], 0, {}]]}),
    {"plans": [["0", list(range(8)), 0, {"request_id": _ID}]]},
    {"plans": [[0, [0.0, *range(1, 8)], 0, {"request_id": _ID}]]},
    {"plans": [[0, list(range(8)), 99, {"request_id": _ID}]]},
    {"plans": [[0, list(range(8)), True, {"request_id": None}]]},
]


def first_call() -> float:
    """Ask a server that accepts and never answers."""
    return _calls(1)[0]


def later_call() -> float:
    """Ask it again."""
    return 1000 * min(_calls(3)[1:])


def _calls(number: int) -> list[float]:
    took = []
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        contextpilot.ContextPilot(index_url=_url(server)) as pilot,
    ):
        for _ in range(number):
            started = time.perf_counter()
            pilot.optimize(_BLOCKS, "why?")
            took.append(time.perf_counter() - started)
    return took


def jobs_after_a_timeout() -> float:
    """Keep a connection, then answer no more; count what the second call sends."""
    jobs: list[bytes] = []

    def answer(connection: socket.socket, body: bytes) -> None:
        jobs.append(body)
        if len(jobs) == 1:
            _send(connection, {"plans": _KEPT})

    with _serving(answer) as url, contextpilot.ContextPilot(index_url=url) as pilot:
        pilot.optimize(_BLOCKS, "why?")
        pilot.optimize(_BLOCKS, "how?")
    return sum(json.loads(body)["contexts"] != [] for body in jobs) - 1


def odd_answers_that_count() -> float:
    """Count the odd answers that raise, or are taken for a plan."""
    bad = 0
    for content in _OFF:

        def answer(connection: socket.socket, _: bytes, content: Any = content) -> None:
            _send(connection, content)

        with _serving(answer) as url, contextpilot.ContextPilot(index_url=url) as pilot:
            try:
                messages = pilot.optimize(_BLOCKS, "why?")
            except Exception:
                bad += 1
            else:
                name = getattr(messages, "plan_id", messages.request_id)
                bad += name in (_ID, None, "")
    return bad


def errors_of_another_kind() -> float:
    """Count calls to a listening instance whose error is none of ours, or no error."""
    from contextpilot.client import Client
    from contextpilot.errors import ContextPilotError

    good = 0
    with contextpilot.ContextPilot(listen="127.0.0.1:0") as pilot:
        client = Client(pilot.index_url or "")
        calls: list[Callable[[], Any]] = [
            lambda: client.plan({}),
            lambda: client.evict([3]),  # type: ignore[list-item]
            lambda: client.sync({}),
            client.stats,
            lambda: client.optimize(["a"], "q"),
        ]
        for call in calls:
            try:
                call()
            except ContextPilotError:
                good += 1
            except Exception:
                continue
        client.close()
    return len(calls) - good


def default_instances() -> float:
    """Ask for the process-wide instance from four threads at once, two hundred times."""
    from contextpilot import default

    sys.setswitchinterval(1e-6)
    return max(_instances(default) for _ in range(200))


def _instances(default: Any) -> int:
    seen: list[Any] = []
    start = threading.Barrier(4)
    forget = getattr(default, "drop_default_pilot", None) or default.default_pilot.cache_clear
    forget()

    def ask() -> None:
        start.wait()
        seen.append(default.default_pilot())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(set(map(id, seen)))


def ids_that_arrive() -> float:
    """Send messages in ten forms through the OpenAI client; return how many carry their id."""
    import openai

    system = {"role": "system", "content": "be brief"}
    forms: list[Callable[[Any], Any]] = [
        *(lambda m: m, lambda m: add([system], m), lambda m: [system, *m], list, lambda m: m[:]),
        *(lambda m: m.copy(), lambda m: add(m, []), copy.deepcopy),
        *(lambda m: [dict(one) for one in m], lambda m: json.loads(json.dumps(m))),
    ]
    heads: list[bytes] = []

    def answer(connection: socket.socket, body: bytes) -> None:
        heads.append(body)
        _send(connection, {})

    with (
        _serving(answer) as url,
        contextpilot.ContextPilot(listen="127.0.0.1:0") as pilot,
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        for number, form in enumerate(forms):
            messages = form(pilot.optimize(_BLOCKS, f"question {number}"))
            client.chat.completions.create(model="m", messages=messages)
    return sum("rid" in json.loads(body) for body in heads)


def weights_off() -> float:
    """Return the mean error of estimates, in per cent of what tokenizers count."""
    errors = [
        abs((estimate_tokens(TEXTS[name]) - 3) / count - 1) for name, count in COUNTED.items()
    ]
    return 100 * sum(errors) / len(errors)


@contextlib.contextmanager
def _serving(answer: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """Give each request's body to `answer`, one thread a connection."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=_read, args=(connection, answer), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield _url(server)
    finally:
        server.close()


def _read(connection: socket.socket, answer: Callable[[socket.socket, bytes], None]) -> None:
    with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as stream:
        while line := stream.readline():
            length = 0
            while line.strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                line = stream.readline()
            answer(connection, stream.read(length))


def _send(connection: socket.socket, content: Any) -> None:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    connection.sendall(head.encode() + b"\r\n\r\n" + body)


def _url(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


MEASUREMENTS = [
    Measurement("optimize, silent index server: first call", "s", "≤ 2.1", first_call),
    Measurement("optimize, silent index server: a later call", "ms", "≤ 1", later_call),
    Measurement("jobs sent by a call that times out", "jobs", "1", jobs_after_a_timeout),
    Measurement("odd answers raised or followed", f"of {len(_OFF)}", "0", odd_answers_that_count),
    Measurement("errors of listen= that are none of ours", "of 5", "0", errors_of_another_kind),
    Measurement("default instances for 4 threads", "instances", "1", default_instances),
    Measurement("ids that arrive, messages rebuilt", "of 10", "10", ids_that_arrive),
    Measurement("weights, 12 languages and kinds", "% off", "≤ 20", weights_off),
]
