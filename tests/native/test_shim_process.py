"""Contexts, threads, forks and the end of the process; the sanitizers over all of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import shim_build
from slot_driver import Driver
from slot_index import SlotIndex

pytestmark = pytest.mark.slow

Start = Callable[..., Driver]


def test_a_draft_model_is_left_alone(index: SlotIndex, start: Start, sanitizers: str) -> None:
    driver = start(index.url, sanitizers)
    driver("process", 0, 0, 100)
    driver("open", 1)
    driver("use", 1)
    driver("process", 0, 0, 55)
    driver("rm", 0, 10, -1)
    driver("clear")
    driver("free")
    driver("use", 0)
    driver("process", 0, 100, 120)
    index.wait(lambda: index.slots() == {0: 120})
    assert not index.events("cleared")


def test_two_threads_with_a_context_each(index: SlotIndex, start: Start, sanitizers: str) -> None:
    driver = start(index.url, sanitizers)
    driver("open", 1)
    driver("race", 1)
    index.wait(lambda: index.slots() == {1: 8})


def test_a_context_that_is_made_again(index: SlotIndex, start: Start, sanitizers: str) -> None:
    driver = start(index.url, sanitizers)
    for length in (100, 60):
        driver("process", 0, 0, length)
        driver("get", 0, 1)
        index.wait(lambda expected=length: index.slots() == {0: expected})
        driver("free")
        index.wait(lambda: index.slots() == {})
        driver("open", 0)
    # What was saved from the context before is nothing that this one could know.
    driver("set", 2, 1)
    index.wait(lambda: index.slots() == {2: 60})
    assert index.events("loaded")[-1]["copy"] == ""


# The thread sanitizer itself does not follow a fork of a program with threads.
@pytest.mark.parametrize("sanitizers", ["", "address,undefined"], indirect=True)
def test_a_fork_is_left_alone(index: SlotIndex, start: Start, sanitizers: str) -> None:
    driver = start(index.url, sanitizers)
    driver("process", 0, 0, 100)
    index.wait(lambda: index.slots() == {0: 100})
    assert driver("fork", 1000) == 0
    driver("process", 0, 100, 101)
    index.wait(lambda: index.slots() == {0: 101})
    assert {message["pid"] for message in index.messages} == {driver.process.pid}
    assert not index.events("cleared")


def test_the_end_of_the_process_is_told(index: SlotIndex, start: Start, sanitizers: str) -> None:
    driver = start(index.url, sanitizers)
    driver("process", 0, 0, 100)
    index.wait(lambda: index.slots() == {0: 100})
    assert driver.end() == 0
    assert driver.stderr == ""
    index.wait(lambda: index.slots() == {})
    assert index.messages[-1]["events"][-1] == {"event": "cleared"}


@pytest.mark.parametrize("fault", ["hang", "drop"])
def test_the_end_does_not_wait_for_a_faulty_index(
    fault: str, index: SlotIndex, start: Start
) -> None:
    driver = start(index.url)
    index.hello()
    index.fault = fault
    driver("process", 0, 0, 100)
    assert index.wait_for_fault()
    began = time.monotonic()
    assert driver.end() == 0
    assert time.monotonic() - began < 5.0


def test_every_call_under_sanitizers(
    index: SlotIndex, start: Start, sanitizers: str, tmp_path: Path
) -> None:
    from test_shim_slots import SITUATIONS, run

    driver = start(index.url, sanitizers)
    for calls, _ in SITUATIONS.values():
        run(driver, [*calls, ("clear",)])
    run(driver, [("process", 0, 0, 9), ("save", str(tmp_path / "f"), 0, 9, 1)])
    run(driver, [("load", str(tmp_path / "f"), 1), ("flood", 40000), ("process", 2, 0, 3)])
    deadline = time.monotonic() + 20
    while index.slots() != {0: 9, 1: 9, 2: 3} and time.monotonic() < deadline:
        driver("flood", 1)  # if changes were dropped, the next one after them has all counted
        time.sleep(0.1)
    assert index.slots() == {0: 9, 1: 9, 2: 3}
    assert driver.end() == 0
    assert driver.stderr == ""


def test_a_second_copy_in_the_process_stays_out(
    index: SlotIndex, start: Start, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.so"
    copy.write_bytes(shim_build.shim().read_bytes())
    driver = start(index.url, LD_PRELOAD=f"{shim_build.shim()} {copy}")
    driver("process", 0, 0, 100)
    index.wait(lambda: index.slots() == {0: 100})
    assert len({message["epoch"] for message in index.messages}) == 1
    assert driver.num_threads() == 2


def test_programs_that_do_not_use_llama_start_no_thread(index: SlotIndex) -> None:
    code = "import os; print(len(os.listdir('/proc/self/task')))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"LD_PRELOAD": str(shim_build.shim()), "CONTEXTPILOT_INDEX_URL": index.url},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"
    assert done.stderr == ""
    assert index.connections == 0


def test_a_library_opened_privately_finds_its_own_functions(index: SlotIndex) -> None:
    # ctypes opens with RTLD_LOCAL; what the library calls through its PLT is ours nevertheless.
    code = (
        "import ctypes, sys\n"
        "fake = ctypes.CDLL(sys.argv[1])\n"
        "fake.fake_open.restype = ctypes.c_void_p\n"
        "ctx = ctypes.c_void_p(fake.fake_open())\n"
        "data = ctypes.create_string_buffer(8192)\n"
        "fake.llama_state_seq_get_data.restype = ctypes.c_size_t\n"
        "size = ctypes.c_size_t(8192)\n"
        "print(fake.llama_state_seq_get_data(ctx, data, size, 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(shim_build.fake_llama())],
        env={"LD_PRELOAD": str(shim_build.shim()), "CONTEXTPILOT_INDEX_URL": index.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "8192"), done.stderr
