"""A shared index server that is silent, slow, odd or gone hurts nobody and learns nothing twice."""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from collections.abc import Callable

import pytest
from socket_server import Connection, plans, socket_server

import contextpilot as cp
from contextpilot.block import BlockReader
from contextpilot.http.circuit import Circuit
from contextpilot.jobs import AnsweredJobs, encode_job
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job
from contextpilot.remote import RemotePlanning

TEXTS = [f"{word} " * 40 for word in ("alpha", "beta", "gamma")]


def until(done: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def probes() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "contextpilot-probe"]


def silent(connection: Connection) -> bool:
    return True


def planning(connection: Connection) -> bool:
    job = json.loads(connection.bodies[-1])
    return connection.send(200, plans(*[list(range(len(c)))[::-1] for c in job["contexts"]]))


def order_of(pilot: cp.ContextPilot, count: int = 3) -> tuple[int, ...]:
    return pilot.optimize(TEXTS[:count], "q").order


# -- the circuit -----------------------------------------------------------------------------------


def test_one_call_waits_for_a_silent_server_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    with (
        socket_server(silent) as server,
        cp.ContextPilot(index_url=server.url, index_timeout_s=0.2) as pilot,
        caplog.at_level(logging.WARNING, "contextpilot"),
    ):
        for _ in range(50):
            assert order_of(pilot) == (0, 1, 2)
        assert len(server.jobs()) == 1
        assert len(probes()) == 1
    assert sum("planning here" in record.message for record in caplog.records) == 1
    until(lambda: not probes())


def test_planning_returns_to_a_server_that_answers_again(caplog: pytest.LogCaptureFixture) -> None:
    with (
        socket_server(silent) as server,
        cp.ContextPilot(index_url=server.url, index_timeout_s=0.2) as pilot,
        caplog.at_level(logging.WARNING, "contextpilot"),
    ):
        order_of(pilot)
        server.answer = planning
        until(lambda: order_of(pilot) == (2, 1, 0))
        assert not probes()
        assert order_of(pilot) == (2, 1, 0)
    assert sum("plans again" in record.message for record in caplog.records) == 1


def test_the_probe_ends_when_nobody_asks() -> None:
    asked = threading.Event()

    def probe() -> bool:
        asked.set()
        return False

    circuit = Circuit(probe, first_pause_s=0.01)
    circuit.failed()
    assert asked.wait(10)
    until(lambda: not probes())
    asked.clear()
    assert not circuit.allows()  # the next caller starts it again
    assert asked.wait(10)
    circuit.close()
    until(lambda: not probes())


def test_pauses_grow_until_a_call_succeeds() -> None:
    times: list[float] = []
    circuit = Circuit(lambda: bool(times.append(time.monotonic())), first_pause_s=0.02)
    circuit.failed()

    def enough() -> bool:
        assert not circuit.allows()
        return len(times) >= 4

    until(enough)
    circuit.close()
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert all(gap >= least for gap, least in zip(gaps, (0.04, 0.08, 0.16), strict=False))
    circuit.succeeded()
    assert circuit._pause == 0.02


def test_many_threads_find_one_probe() -> None:
    with (
        socket_server(silent) as server,
        cp.ContextPilot(index_url=server.url, index_timeout_s=0.2) as pilot,
    ):
        threads = [threading.Thread(target=order_of, args=(pilot,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(probes()) == 1
        assert pilot.stats()["default"]["requests"] == 16


def test_an_answer_that_drips_ends_at_the_deadline() -> None:
    def drip(connection: Connection) -> bool:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 10_000:
            if server.stopping.wait(0.02):
                break
            connection.socket.sendall(bytes([byte]))
        return False

    with (
        socket_server(drip) as server,
        cp.ContextPilot(index_url=server.url, index_timeout_s=0.2) as pilot,
    ):
        assert order_of(pilot) == (0, 1, 2)
        assert order_of(pilot) == (0, 1, 2)
        assert len(server.jobs()) == 1


@pytest.mark.parametrize("timeout", [0, -1, 1e9, float("nan")])
def test_a_time_out_out_of_range_is_named(timeout: float) -> None:
    with pytest.raises(ValueError, match="index_timeout_s"):
        cp.ContextPilot(index_url="http://127.0.0.1:9", index_timeout_s=timeout)
    with pytest.raises(TypeError, match="index_timeout_s"):
        cp.ContextPilot(index_url="http://127.0.0.1:9", index_timeout_s="2")  # type: ignore[arg-type]


# -- learnt once -----------------------------------------------------------------------------------


def test_a_kept_connection_that_times_out_is_not_asked_again() -> None:
    def first_only(connection: Connection) -> bool:
        return planning(connection) if len(connection.bodies) == 1 else silent(connection)

    with (
        socket_server(first_only) as server,
        cp.ContextPilot(index_url=server.url, index_timeout_s=0.3) as pilot,
    ):
        assert order_of(pilot) == (2, 1, 0)
        assert order_of(pilot, 2) == (0, 1)
        assert [len(job["contexts"][0]) for job in server.jobs()] == [3, 2]
        assert server.num_connections == 1


def test_a_kept_connection_that_was_closed_costs_no_request() -> None:
    def once(connection: Connection) -> bool:
        planning(connection)
        return False

    with socket_server(once) as server, cp.ContextPilot(index_url=server.url) as pilot:
        for _ in range(5):
            assert order_of(pilot) == (2, 1, 0)
        assert len(server.jobs()) == 5


def test_a_job_that_is_sent_again_carries_its_id() -> None:
    def read_and_close(connection: Connection) -> bool:
        """Close a kept connection in answer to its second request, as a restart may."""
        return len(connection.bodies) == 1 and planning(connection)

    with socket_server(read_and_close) as server, cp.ContextPilot(index_url=server.url) as pilot:
        assert order_of(pilot) == order_of(pilot) == (2, 1, 0)
        first, second, again = server.jobs()
        assert second == again
        assert first["id"] != second["id"]
        assert server.num_connections == 2


def test_a_new_connection_that_is_closed_is_not_asked_again() -> None:
    def never(connection: Connection) -> bool:
        return False

    with socket_server(never) as server, cp.ContextPilot(index_url=server.url) as pilot:
        assert order_of(pilot) == (0, 1, 2)
        assert len(server.jobs()) == 1


def test_the_endpoint_answers_a_job_twice_and_learns_it_once() -> None:
    job = Job("default", BlockReader().read_batch([TEXTS]), Bounds(), NO_HEAD, [0])
    with cp.ContextPilot(listen="127.0.0.1:0") as server:
        from contextpilot.client import Client

        with Client(server.index_url or "") as client:
            first = client.plan(encode_job(job, "a"))
            assert client.plan(encode_job(job, "a")) == first
            assert server.stats()["default"]["requests"] == 1
            assert client.plan(encode_job(job, "b")) != first
            assert client.plan(encode_job(job)) != client.plan(encode_job(job))
        assert server.stats()["default"]["requests"] == 4


def test_a_repeat_waits_for_the_first_and_a_failure_may_be_asked_again() -> None:
    job = Job("", BlockReader().read_batch([TEXTS]), Bounds(), NO_HEAD, [0])
    jobs = AnsweredJobs()
    answer, is_first = jobs.claim("a", job)
    again, is_again_first = jobs.claim("a", job)
    assert (is_first, is_again_first) == (True, False)
    assert again is answer
    assert jobs.give("a", answer, lambda: {"plans": []}) == again.result(0)
    other, _ = jobs.claim("b", job)
    with pytest.raises(ZeroDivisionError):
        jobs.give("b", other, lambda: {"plans": 1 // 0})
    assert jobs.claim("b", job)[1]


def test_answers_are_bounded_by_number_and_by_size() -> None:
    job = Job("", BlockReader().read_batch([TEXTS]), Bounds(), NO_HEAD, [0])
    few, small = AnsweredJobs(max_jobs=2), AnsweredJobs(max_ranks=7)
    for jobs in (few, small):
        for name in "abc":
            jobs.claim(name, job)
        assert [jobs.claim(name, job)[1] for name in "bc"] == [False, False]
        assert jobs.claim("a", job)[1]
        assert len(jobs._known) == 2
        assert jobs._num_ranks == 6


# -- refusals, counts, closing --------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_token_names_its_variable(status: int, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(connection: Connection) -> bool:
        return connection.send(status, {"error": {"message": "no", "field": None}})

    with (
        socket_server(refuse) as server,
        cp.ContextPilot(index_url=server.url) as pilot,
        caplog.at_level(logging.WARNING, "contextpilot"),
    ):
        order_of(pilot)
        order_of(pilot)
        assert len(server.jobs()) == 1
    assert "CONTEXTPILOT_INDEX_TOKEN" in caplog.records[0].message


def test_a_refusal_of_one_job_leaves_the_others_to_the_server() -> None:
    def choosy(connection: Connection) -> bool:
        if len(json.loads(connection.bodies[-1])["contexts"][0]) == 3:
            return connection.send(422, {"error": {"message": "namespace: no", "field": "x"}})
        return planning(connection)

    with socket_server(choosy) as server, cp.ContextPilot(index_url=server.url) as pilot:
        assert order_of(pilot) == (0, 1, 2)
        assert order_of(pilot, 2) == (1, 0)


def test_what_is_counted_is_worked_out_here_and_under_the_lock() -> None:
    def boast(connection: Connection) -> bool:
        told = {"matched_tokens": 10**15, "total_tokens": 0, "reachable_tokens": 10**15}
        return connection.send(200, plans([2, 1, 0], **told))

    with socket_server(boast) as server, cp.ContextPilot(index_url=server.url) as pilot:
        explained = pilot.explain(pilot.optimize(TEXTS, "q"))
        total = sum(block.weight for block in BlockReader().read(TEXTS))
        assert (explained.matched_tokens, explained.total_tokens) == (0, total)
        assert explained.reachable_tokens == total
        space = pilot._namespaces.get("default")
        done = threading.Event()
        thread = threading.Thread(target=lambda: (order_of(pilot), done.set()))
        with space.lock:
            thread.start()
            until(lambda: len(server.jobs()) == 2)
            assert not done.wait(0.1)
        thread.join(10)
        assert pilot.stats()["default"]["requests"] == 2


def test_closing_while_the_server_is_silent_ends_the_probe_and_calls_go_on() -> None:
    with socket_server(silent) as server:
        namespaces = Namespaces(100, 10, 2)
        remote = RemotePlanning(server.url, namespaces, timeout_s=0.2)
        job = Job("", BlockReader().read_batch([TEXTS]), Bounds(), NO_HEAD, [0])
        assert len(list(remote.run(job))) == 1
        remote.close()
        until(lambda: not probes())
        assert len(list(remote.run(job))) == 1
        remote.close()
        until(lambda: not probes())
