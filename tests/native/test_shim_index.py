"""Whatever the index does, the program's calls go on, and in the end the index is right."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
from slot_driver import Driver
from slot_index import SlotIndex

Start = Callable[..., Driver]


def grow(driver: Driver, slot: int, begin: int, end: int) -> None:
    driver("rm", slot, begin, -1)
    driver("process", slot, begin, end)


def settled(index: SlotIndex, expected: dict[int, int]) -> None:
    index.wait(lambda: index.slots() == expected)


@pytest.mark.slow
def test_the_hello_says_who_reports(index: SlotIndex, start: Start) -> None:
    driver = start(
        index.url + "/",
        CONTEXTPILOT_INDEX_TOKEN="secret",
        CONTEXTPILOT_ENGINE_ID='a "name"\\',
        arguments=["--cache-ram", "100", "-cram", "512"],
    )
    hello = index.hello()
    assert hello["engine"] == 'a "name"\\'
    assert hello["kind"] == "llamacpp"
    assert hello["pid"] == driver.process.pid
    assert (hello["version"], hello["seq"], hello["block_size"]) == (1, 0, 1)
    assert hello["engine_version"] == "9.9.9-fake"
    assert hello["ram_limit_bytes"] == 512 << 20
    assert len(hello["epoch"]) == 16
    assert index.headers[0]["Authorization"] == "Bearer secret"
    assert index.headers[0]["Host"] == f"127.0.0.1:{index.port}"


@pytest.mark.parametrize(
    ("arguments", "said", "limit"),
    [
        ([], "", 8192 << 20),
        ([], "7", 7 << 20),
        (["-cram", "0"], "7", 0),
        (["--cache-ram", "-1"], "7", None),
    ],
)
def test_the_limit_of_the_prompt_cache(
    arguments: list[str], said: str, limit: int | None, index: SlotIndex, start: Start
) -> None:
    default = {"CONTEXTPILOT_LLAMA_RAM_BYTES": str(8192 << 20)}
    start(index.url, arguments=arguments, LLAMA_ARG_CACHE_RAM=said, **default)
    assert index.hello().get("ram_limit_bytes") == limit


@pytest.mark.parametrize(
    ("arguments", "variables", "port"),
    [
        (["--port", "9123"], {"LLAMA_ARG_PORT": "1"}, "9123"),
        (["--port=9123", "--host"], {}, "9123"),
        ([], {"LLAMA_ARG_PORT": "9123"}, "9123"),
        (["--port"], {}, None),
        (["--ports", "9123"], {}, None),
    ],
)
def test_without_a_name_it_is_kind_host_and_port(
    arguments: list[str],
    variables: dict[str, str],
    port: str | None,
    index: SlotIndex,
    start: Start,
) -> None:
    driver = start(index.url, arguments=arguments, **variables)
    number = port or driver.process.pid
    assert index.hello()["engine"] == f"llamacpp-{socket.gethostname()}-{number}"
    assert "ram_limit_bytes" not in index.messages[0]


def test_messages_count_up_over_one_connection(index: SlotIndex, start: Start) -> None:
    driver = start(index.url)
    for length in range(10, 60, 10):
        grow(driver, 0, 0, length)
        settled(index, {0: length})
    assert [message["seq"] for message in index.messages] == list(range(len(index.messages)))
    assert index.connections == 1


@pytest.mark.slow
def test_it_says_that_it_lives_while_nothing_happens(index: SlotIndex, start: Start) -> None:
    start(index.url)
    index.wait(lambda: len(index.messages) >= 2)
    assert index.messages[-1]["events"] == []


def test_what_an_absent_index_missed_comes_later(start: Start) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    driver = start(f"http://127.0.0.1:{port}")
    grow(driver, 0, 0, 50)
    time.sleep(0.3)
    with SlotIndex(port) as index:
        settled(index, {0: 50})
        assert index.messages[0]["seq"] == 0
        assert index.messages[0]["events"] == []


@pytest.mark.parametrize("fault", ["hang", "500", "garbage", "not-json", "drop"])
def test_a_faulty_index_delays_nothing_and_gets_everything(
    fault: str, index: SlotIndex, start: Start
) -> None:
    driver = start(index.url)
    index.hello()
    index.fault = fault
    slowest = 0.0
    for length in range(1, 200):
        began = time.monotonic()
        driver("process", 0, length - 1, length)
        slowest = max(slowest, time.monotonic() - began)
    assert index.wait_for_fault()
    index.fault = None
    settled(index, {0: 199})
    # Only a call that waited for the index could take as long as its time-out.
    assert slowest < 2.0


def test_an_unacknowledged_message_is_repeated_as_it_was(index: SlotIndex, start: Start) -> None:
    driver = start(index.url)
    index.hello()
    index.refusals = 3
    driver("process", 0, 0, 10)
    driver("process", 0, 10, 30)
    settled(index, {0: 30})
    repeated = next(m for m in index.messages if m["seq"] == index.refused[0]["seq"])
    assert [*index.refused] == [repeated] * 3


def test_a_restarted_index_asks_and_gets_the_state(start: Start) -> None:
    with SlotIndex() as first:
        driver = start(first.url)
        grow(driver, 0, 0, 100)
        grow(driver, 1, 0, 70)
        settled(first, {0: 100, 1: 70})
        port = first.port
    driver("rm", 1, 20, -1)
    driver("process", 1, 20, 25)
    with SlotIndex(port) as second:
        settled(second, {0: 100, 1: 25})
        snapshot = next(message for message in second.messages if message["snapshot"])
        # A receiver that kept its tables learns what of slot 1 was lost meanwhile.
        kept = {event["slot"]: event["keep"] for event in snapshot["events"]}
        assert kept == {0: 100, 1: 20}
        driver("process", 1, 25, 40)
        settled(second, {0: 100, 1: 40})


def test_a_long_absence_ends_in_a_snapshot(index: SlotIndex, start: Start) -> None:
    driver = start(index.url)
    grow(driver, 0, 0, 100)
    settled(index, {0: 100})
    index.fault = "500"
    grow(driver, 0, 60, 61)
    assert index.wait_for_fault()  # that message is kept as it is: all else waits in the journal
    for _ in range(1500):
        grow(driver, 0, 60, 61)
    assert index.wait_for_fault(3)
    seen = len(index.messages)
    index.fault = None
    settled(index, {0: 61})
    index.wait(lambda: any(message["snapshot"] for message in index.messages[seen:]))
    snapshot = next(message for message in index.messages[seen:] if message["snapshot"])
    assert snapshot["events"] == [{"event": "slot", "slot": 0, "keep": 60, "tokens": 61}]


def test_more_changes_than_the_inbox_holds_are_recounted(index: SlotIndex, start: Start) -> None:
    driver = start(index.url)
    grow(driver, 0, 0, 100)
    grow(driver, 1, 0, 30)
    settled(index, {0: 100, 1: 30})
    index.fault = "hang"
    driver("process", 0, 100, 101)
    assert index.wait_for_fault()
    driver("flood", 60000)  # while the reporter waits for an answer
    index.fault = None
    time.sleep(2.5)
    driver("process", 1, 30, 31)
    settled(index, {0: 101, 1: 31})
    # What they hold is counted, and nothing is said of what it is.
    assert index.events("cleared")
    assert {event["copy"] for event in index.events("loaded")} == {""}


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"CONTEXTPILOT_INDEX_URL": "https://127.0.0.1:1"}, "https"),
        ({"CONTEXTPILOT_INDEX_URL": "127.0.0.1:8765"}, "must look like"),
        ({"CONTEXTPILOT_INDEX_URL": "http://"}, "must look like"),
        ({"CONTEXTPILOT_INDEX_URL": "http://host:99999"}, "must look like"),
        ({"CONTEXTPILOT_INDEX_URL": "http://host:port"}, "must look like"),
        ({"CONTEXTPILOT_INDEX_URL": "http://user@host"}, "must look like"),
        ({"CONTEXTPILOT_INDEX_URL": "http://[::1"}, "must look like"),
        ({"CONTEXTPILOT_INDEX_URL": "http://" + "h" * 300}, "must look like"),
        ({"CONTEXTPILOT_INDEX_TOKEN": "a\r\nb"}, "one line"),
    ],
)
def test_unusable_settings_give_one_line_and_leave_the_engine_alone(
    variables: dict[str, str], reason: str, index: SlotIndex, start: Start
) -> None:
    driver = start(index.url, **variables)
    grow(driver, 0, 0, 100)
    grow(driver, 0, 50, 60)
    assert driver.end() == 0
    assert driver.stderr.count("\n") == 1
    assert driver.stderr.startswith("contextpilot: ")
    assert reason in driver.stderr
    assert index.connections == 0


@pytest.mark.parametrize("url", [None, ""])
def test_without_the_variable_it_is_inert(url: str | None, index: SlotIndex, start: Start) -> None:
    driver = start(url)
    grow(driver, 0, 0, 100)
    threads = driver.num_threads()
    assert driver.end() == 0
    assert driver.stderr == ""
    assert threads == 1


def test_ipv6_addresses_work(start: Start) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with listener:
        port = listener.getsockname()[1]
        start(f"http://[::1]:{port}/prefix/")
        listener.settimeout(20)
        with listener.accept()[0] as accepted:
            head = accepted.recv(4096)
    assert head.startswith(b"POST /prefix/sync HTTP/1.1\r\n")
    assert f"Host: [::1]:{port}\r\n".encode() in head
