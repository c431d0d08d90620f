"""The reporter against a real HTTP server, healthy and in every fault."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import contextpilot_hooks
import pytest
from contextpilot_hooks.ledger import Ledger, Mark
from contextpilot_hooks.reporter import Reporter
from contextpilot_hooks.settings import Engine, Settings
from receiver import Receiver, eventually

ENGINE = Engine("vllm-test-1", "vllm", "0.32.0", 16)
HOOKS = str(Path(contextpilot_hooks.__file__).parents[1])
ID = "cp-" + "0" * 23


@pytest.fixture
def make(receiver):
    """Reporters of a fresh ledger to `receiver` or another address; closed at the end."""
    made = []

    def build(url=None, timeout=0.3, heartbeat=5.0, **more):
        settings = Settings.from_environ({"CONTEXTPILOT_INDEX_URL": url or receiver.url})
        engine = ENGINE._replace(**more)
        made.append(Reporter(Ledger(), settings, engine, timeout=timeout, heartbeat=heartbeat))
        return made[-1]

    yield build
    for reporter in made:
        reporter.close(0.2)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_schema(receiver, make):
    reporter = make()
    reporter.ledger.set(ID + "1", 32, 40)
    receiver.wait(lambda: receiver.tokens(ID + "1") == 32)
    reporter.ledger.set(ID + "1", 16, 40)
    receiver.wait(lambda: receiver.tokens(ID + "1") == 16)
    reporter.ledger.clear()
    receiver.wait(lambda: receiver.tokens(ID + "1") == 0)
    first, second, third = receiver.messages
    assert first == {
        "version": 1,
        "engine": "vllm-test-1",
        "epoch": reporter.epoch,
        "seq": 0,
        "kind": "vllm",
        "engine_version": "0.32.0",
        "block_size": 16,
        "snapshot": True,
        "events": [{"event": "cached", "request": ID + "1", "tokens": 32, "prompt_tokens": 40}],
    }
    assert second["events"] == [{"event": "truncated", "request": ID + "1", "tokens": 16}]
    assert third["events"] == [{"event": "cleared"}]
    assert [m["seq"] for m in receiver.messages] == [0, 1, 2]
    assert not any(m["snapshot"] for m in receiver.messages[1:])
    assert len(reporter.epoch) == 16
    assert receiver.headers[0]["Content-Type"] == "application/json"
    assert "Authorization" not in receiver.headers[0]
    assert receiver.connections == 1


def test_token(receiver):
    settings = Settings.from_environ(
        {"CONTEXTPILOT_INDEX_URL": receiver.url + "/", "CONTEXTPILOT_INDEX_TOKEN": "secret"}
    )
    reporter = Reporter(Ledger(), settings, ENGINE)
    reporter.wake()
    receiver.wait(lambda: receiver.messages)
    assert receiver.headers[0]["Authorization"] == "Bearer secret"
    reporter.close()


def test_heartbeat(receiver, make):
    make(heartbeat=0.05).wake()
    receiver.wait(lambda: len(receiver.messages) >= 4)
    assert all(m["events"] == [] for m in receiver.messages)
    assert [m["seq"] for m in receiver.messages] == list(range(len(receiver.messages)))


def test_many_changes_come_in_bounded_messages(receiver, make):
    reporter = make()
    reporter.wake()
    receiver.wait(lambda: receiver.messages)
    for number in range(2000):
        reporter.ledger.set(f"cp-{number:024x}", 16, 20)
    receiver.wait(lambda: len(receiver.state["vllm-test-1"]) == 2000)
    assert max(len(m["events"]) for m in receiver.messages[1:]) <= 512


def test_a_large_snapshot_comes_in_bounded_messages(receiver, make):
    receiver.fault = "500"  # until all is there that the snapshot shall hold
    reporter = make()
    for number in range(1200):
        reporter.ledger.set(f"cp-{number:024x}", 16, 20)
    receiver.fault = None
    receiver.wait(lambda: len(receiver.state.get("vllm-test-1", ())) == 1200)
    assert [len(m["events"]) for m in receiver.messages] == [512, 512, 176]
    assert [m["snapshot"] for m in receiver.messages] == [True, False, False]
    assert [m.get("more", 0) for m in receiver.messages] == [688, 176, 0]


def test_changes_that_were_dropped_are_told_with_a_snapshot(receiver, make):
    reporter = make()
    reporter.ledger.max_requests = 20
    reporter.wake()
    receiver.wait(lambda: receiver.messages)
    receiver.fault = "500"
    for number in range(500):
        reporter.ledger.set(f"cp-{number:024x}", 16, 20)
    assert reporter.ledger.lost
    receiver.fault = None
    receiver.wait(lambda: f"cp-{499:024x}" in receiver.state["vllm-test-1"])
    assert len(receiver.state["vllm-test-1"]) <= 20
    assert receiver.messages[-1]["snapshot"]


def test_unfollowed_is_told_to_an_index_that_knows_it(receiver, make):
    reporter = make()
    reporter.ledger.set(ID + "1", 32, 40)
    receiver.wait(lambda: receiver.tokens(ID + "1") == 32)
    reporter.ledger.unfollow(ID + "1")
    receiver.wait(lambda: len(receiver.messages) == 2)
    assert receiver.messages[1]["events"] == [{"event": "unfollowed", "request": ID + "1"}]
    assert [m["version"] for m in receiver.messages] == [1, 2]


def test_an_older_index_is_told_that_it_is_gone(receiver, make):
    receiver.version = 1
    reporter = make()
    reporter.ledger.set(ID + "1", 32, 40)
    receiver.wait(lambda: receiver.tokens(ID + "1") == 32)
    reporter.ledger.unfollow(ID + "1")
    receiver.wait(lambda: len(receiver.messages) == 2)
    gone = {"event": "truncated", "request": ID + "1", "tokens": 0}
    assert receiver.messages[1]["events"] == [gone]
    assert [m["version"] for m in receiver.messages] == [1, 1]


def test_an_older_index_that_takes_the_place_of_a_newer_one_gets_a_snapshot(receiver, make):
    reporter = make()
    for number in "12":
        reporter.ledger.set(ID + number, 32, 40)
    receiver.wait(lambda: receiver.tokens(ID + "2") == 32)
    receiver.version = 1
    reporter.ledger.unfollow(ID + "1")
    receiver.wait(lambda: receiver.messages[-1]["snapshot"] and len(receiver.messages) > 1)
    assert receiver.state["vllm-test-1"] == {ID + "2": 32}
    reporter.ledger.unfollow(ID + "2")
    receiver.wait(lambda: receiver.state["vllm-test-1"] == {})


SPARSE = {"dropped": 16, "sparse": True}
POINTS = ((16, 32), (80, 80))


def test_points_are_told_to_an_index_that_knows_them(receiver, make):
    reporter = make(**SPARSE)
    reporter.ledger._mark(ID + "1", Mark(80, 90, points=POINTS))
    reporter.wake()
    receiver.wait(lambda: receiver.tokens(ID + "1") == 80)
    message = receiver.messages[-1]
    assert (message["version"], message["dropped"], message["sparse"]) == (3, 16, True)
    assert message["events"][0]["points"] == [[16, 32], [80, 80]]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("more", "told"), [({"dropped": 16}, 64), (SPARSE, 0)])
def test_an_older_index_is_told_nothing_that_needs_points(receiver, make, version, more, told):
    receiver.version = version
    reporter = make(**more)
    points = POINTS if "sparse" in more else None
    reporter.ledger._mark(ID + "1", Mark(80, 90, points=points))
    reporter.wake()
    receiver.wait(lambda: receiver.messages)
    assert receiver.tokens(ID + "1") == told
    assert "points" not in json.dumps(receiver.messages)
    receiver.version = 3  # a newer index took its place, and kept the state
    reporter.ledger._mark(ID + "2", Mark(80, 90, points=points))
    reporter.wake()
    receiver.wait(lambda: receiver.tokens(ID + "1") == 80)
    assert receiver.messages[-1]["snapshot"]
    assert receiver.messages[-1]["version"] == 3


@pytest.mark.parametrize("fault", ["500", "garbage", "not-json", "drop", "hang"])
def test_a_fault_is_survived_and_state_is_exact_after_it(receiver, make, fault, caplog):
    reporter = make()
    reporter.ledger.set(ID + "1", 32, 40)
    receiver.wait(lambda: receiver.tokens(ID + "1") == 32)
    receiver.fault = fault
    slowest = 0.0
    for number in range(200):
        started = time.perf_counter()
        reporter.ledger.set(f"cp-{number:024x}", 16, 20)
        slowest = max(slowest, time.perf_counter() - started)
        if number % 50 == 49:
            seen = receiver.faults_seen
            assert eventually(lambda seen=seen: receiver.faults_seen > seen)
    reporter.ledger.set(ID + "1", 0, 40)
    receiver.fault = None
    receiver.wait(lambda: receiver.tokens(ID + "1") == 0 and receiver.tokens(f"cp-{199:024x}"))
    assert len(receiver.state["vllm-test-1"]) == 200 - (f"cp-{1:024x}" == ID + "1")
    assert slowest < 0.25, "the scheduler waited for the index"
    assert reporter.counts.failures > 0
    warnings = [r for r in caplog.records if r.levelname == "WARNING"]
    assert 1 <= len(warnings) <= 2


def test_absent_then_there(make, caplog):
    port = free_port()
    reporter = make(f"http://127.0.0.1:{port}")
    reporter.ledger.set(ID + "1", 32, 40)
    assert eventually(lambda: reporter.counts.failures >= 3)
    with Receiver(port) as late:
        late.wait(lambda: late.tokens(ID + "1") == 32)
        assert late.messages[0]["snapshot"]
    assert sum(r.levelname == "WARNING" for r in caplog.records) == 1


def test_an_address_with_v1_is_told_of(make, caplog):
    reporter = make(f"http://127.0.0.1:{free_port()}/v1")
    reporter.ledger.set(ID + "1", 32, 40)
    assert eventually(lambda: reporter.counts.failures >= 1)
    assert "an index is at the URL without /v1" in caplog.text


def test_a_restarted_index_gets_a_snapshot(make):
    port = free_port()
    with Receiver(port) as first:
        reporter = make(first.url)
        reporter.ledger.set(ID + "1", 32, 40)
        assert eventually(lambda: reporter.counts.sent == 1), "not acknowledged"
        assert first.tokens(ID + "1") == 32
    reporter.ledger.set(ID + "2", 48, 60)
    with Receiver(port) as second:
        second.wait(lambda: second.tokens(ID + "2") == 48)
        assert second.tokens(ID + "1") == 32
        assert [m["snapshot"] for m in second.messages[:2]] == [False, True]
    assert eventually(lambda: reporter.counts.resyncs == 1)


def test_a_lost_acknowledgement_repeats_the_same_message(receiver, make):
    reporter = make()
    reporter.wake()
    receiver.wait(lambda: receiver.messages)
    take, lost = receiver.take, []

    def lose_one(message):
        status = take(message)
        if not lost:
            lost.append(message)
            return "what?"
        return status

    receiver.take = lose_one
    reporter.ledger.set(ID + "1", 32, 40)
    receiver.wait(lambda: len(receiver.messages) >= 3)
    assert receiver.messages[1] == receiver.messages[2] == lost[0]
    assert receiver.tokens(ID + "1") == 32


def test_an_index_that_never_has_enough_is_not_flooded(receiver, make):
    receiver.take = lambda message: receiver.messages.append(message) or "resync"
    reporter = make()
    reporter.wake()
    assert eventually(lambda: reporter.counts.failures >= 3)
    assert len(receiver.messages) <= reporter.counts.failures + 2


def test_wake_never_waits_while_the_index_hangs(receiver, make):
    receiver.fault = "hang"
    reporter = make(timeout=5.0)
    reporter.wake()
    assert eventually(lambda: receiver.faults_seen)
    durations = []
    for number in range(2000):
        started = time.perf_counter()
        reporter.ledger.set(f"cp-{number:024x}", 16, 20)
        durations.append(time.perf_counter() - started)
    assert sorted(durations)[len(durations) // 2] < 0.001


def test_exit_sends_the_rest_within_the_budget(receiver, make):
    reporter = make()
    reporter.ledger.set(ID + "1", 32, 40)
    receiver.wait(lambda: receiver.tokens(ID + "1") == 32)
    reporter.close()
    assert receiver.messages[-1]["events"] == [{"event": "cleared"}]
    assert receiver.state == {"vllm-test-1": {}}
    reporter.ledger.set(ID + "2", 32, 40)
    assert threading.active_count() >= 1
    reporter.close()


def test_the_exit_waits_for_a_farewell_that_is_under_way(receiver):
    code = """
        reporter, ledger = open_one()
        ledger.set("cp-" + "0" * 24, 16, 20)
        while not reporter.counts.sent: time.sleep(0.01)
        reporter.close(wait=False)
    """
    run(code, receiver.url)
    assert receiver.messages[-1]["events"] == [{"event": "cleared"}]


def run(code, url, timeout=60):
    program = textwrap.dedent("""
        import os, sys, time
        from contextpilot_hooks.ledger import Ledger
        from contextpilot_hooks.reporter import open_reporter
        from contextpilot_hooks.settings import Engine
        def open_one():
            ledger = Ledger()
            return open_reporter(ledger, Engine(f"engine-{os.getpid()}", "vllm", "1", 16)), ledger
    """) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": HOOKS, "CONTEXTPILOT_INDEX_URL": url, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=True,
    )


def test_a_hanging_index_does_not_hold_up_the_exit(receiver):
    receiver.fault = "hang"
    code = """
        reporter, ledger = open_one()
        ledger.set("cp-" + "0" * 24, 16, 20)
        time.sleep(0.3)
        print(time.monotonic())
    """
    out = run(code, receiver.url)
    ended = time.monotonic()
    assert ended - float(out.stdout) < 5.0
    assert out.returncode == 0


def test_a_process_that_ends_at_once_still_reports(receiver):
    code = """
        reporter, ledger = open_one()
        ledger.set("cp-" + "0" * 24, 16, 20)
        reporter._awake.set()
    """
    run(code, receiver.url)
    assert receiver.messages[-1]["events"] == [{"event": "cleared"}]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_gives_the_child_an_epoch_of_its_own(receiver):
    code = """
        reporter, ledger = open_one()
        ledger.set("cp-" + "0" * 24, 16, 20)
        while not reporter.counts.sent: time.sleep(0.01)
        epoch = reporter.epoch
        child = os.fork()
        if child == 0:
            assert reporter.epoch != epoch
            reporter.engine = reporter.engine._replace(name="child")
            ledger.set("cp-" + "1" * 24, 32, 40)
            while not reporter.counts.sent: time.sleep(0.01)
            os._exit(0)
        os.waitpid(child, 0)
        ledger.set("cp-" + "2" * 24, 48, 60)
        while reporter.counts.sent < 2: time.sleep(0.01)
        assert reporter.epoch == epoch
        os._exit(0)
    """
    run(code, receiver.url)
    child = receiver.state.pop("child")
    assert child == {"cp-" + "1" * 24: 32}
    (parent,) = receiver.state.values()
    assert parent == {"cp-" + "0" * 24: 16, "cp-" + "2" * 24: 48}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_children_report_and_say_goodbye(receiver, tmp_path, method):
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(f"""
            import multiprocessing, os, time
            def work():
                from contextpilot_hooks.ledger import Ledger
                from contextpilot_hooks.reporter import open_reporter
                from contextpilot_hooks.settings import Engine
                ledger = Ledger()
                reporter = open_reporter(ledger, Engine("child", "vllm", "1", 16))
                ledger.set("cp-" + "1" * 24, 32, 40)
                while not reporter.counts.sent: time.sleep(0.01)
            if __name__ == "__main__":
                child = multiprocessing.get_context({method!r}).Process(target=work)
                child.start()
                child.join()
        """)
    )
    environ = {"PYTHONPATH": HOOKS, "CONTEXTPILOT_INDEX_URL": receiver.url}
    subprocess.run([sys.executable, str(script)], env=environ, timeout=60, check=True)
    assert receiver.messages[0]["events"][0]["tokens"] == 32
    assert receiver.messages[-1]["events"] == [{"event": "cleared"}]
