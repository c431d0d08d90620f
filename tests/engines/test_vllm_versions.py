"""The real scheduler and block manager of every minor vLLM, without model and device."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import versions

DRIVE = Path(__file__).with_name("vllm_drive.py")
KV_EVENTS_DRIVE = Path(__file__).with_name("kv_events_drive.py")

pytestmark = pytest.mark.engine


@pytest.fixture
def lines(engine, required):
    """Run a drive for a version; skips (or fails) where its files are absent."""

    def run(script, version, *modes):
        files = versions.folder("vllm", version)
        fetched = version in versions.present("vllm")
        required(fetched, f"run: python scripts/engines/versions.py vllm {version}")
        done = subprocess.run(
            [engine("vllm").python, "-B", script, files, version, *modes],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.fixture
def drive(lines):
    """Run vllm_drive.py for a version and one mode."""

    def run(version, mode="exact"):
        return lines(DRIVE, version, mode)[-1]

    return run


@pytest.mark.parametrize("version", versions.VLLM_VERSIONS)
def test_exact(drive, version):
    seen = drive(version)
    assert seen["reported"] == {"engine_version": version, "block_size": 16}
    assert seen["mismatches"] == 0
    assert seen["checks"] > 1000
    assert seen["hits"] > 200
    assert seen["evicted"] > 2000
    assert seen["resets"] == 2
    assert seen["warnings"] == []
    assert seen["swallowed"] == []


@pytest.mark.parametrize("version", ["0.10.2", "0.18.1", "0.20.2", "0.24.0", "0.32.0", "0.33.0"])
def test_with_eagle_the_block_that_is_dropped_is_not_told(drive, version):
    seen = drive(version, "eagle")
    assert seen["mismatches"] == seen["shared_above"] == 0
    assert seen["hits"] > 200
    assert seen["shared_hits"] > 30
    assert seen["warnings"] == []


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        *(("0.15.1", mode) for mode in ("exact:window", "exact:all", "eagle:window")),
        *(("0.24.0", mode) for mode in ("exact:long-window", "exact:states")),
        *(("0.32.0", mode) for mode in ("exact:window:0", "exact:states:0", "exact:all-window")),
        *(("0.33.0", mode) for mode in ("exact:chunked", "exact:all", "eagle:window")),
    ],
)
def test_exact_with_layers_of_several_kinds(drive, version, mode):
    seen = drive(version, mode)
    assert seen["mismatches"] == seen["shared_above"] == seen["shared_below"] == 0
    assert seen["hits"] > 50
    assert seen["shared_hits"] > 5
    assert seen["warnings"] == []
    assert seen["swallowed"] == []


@pytest.mark.parametrize("version", ["0.15.1", "0.33.0"])
def test_with_eagle_beside_states_never_too_much_is_told(drive, version):
    seen = drive(version, "eagle:states")
    assert seen["above"] == seen["shared_above"] == 0
    assert seen["mismatches"] <= seen["checks"] / 100
    assert seen["hits"] > 50


@pytest.mark.parametrize("wrapper", ["evict", "cache", "reset"])
def test_the_comparison_notices_a_wrapper_that_sees_nothing(drive, wrapper):
    assert drive("0.32.0", f"blind-{wrapper}")["mismatches"] > 0


@pytest.mark.parametrize("version", ["0.12.0", "0.19.1"])
def test_events_that_name_no_layers_are_never_believed_too_much(lines, version):
    kinds = ["full", "window", "states", "all-window"]
    full, window, states, alone = lines(KV_EVENTS_DRIVE, version, *kinds)
    assert full["refused"] == alone["refused"] == ""
    assert full["above"] == full["below"] == alone["above"] == 0
    assert alone["below"] < alone["hits"] / 2
    for seen in (window, states):
        assert seen["above"] == 0
        assert "do not distinguish" in seen["refused"]
    assert all(seen["hits"] > 30 for seen in (full, window, states, alone))


ENDS = ["0.15.1", "0.24.0", "0.33.0"]


@pytest.mark.parametrize("version", ENDS)
def test_what_is_not_understood_is_refused_with_one_warning(drive, version):
    seen = drive(version, "reshaped")
    (warning,) = seen["warnings"]
    assert "lacks the parameter block" in warning
    assert version in warning
    assert seen["outputs"] == [True] * 20
    assert seen["engines"] == []


@pytest.mark.parametrize("version", ENDS)
def test_without_prefix_caching_it_stays_out_quietly(drive, version):
    seen = drive(version, "no-caching")
    assert (seen["warnings"], seen["engines"]) == ([], [])
    assert seen["outputs"] == [True] * 20


@pytest.mark.parametrize("version", ENDS)
def test_a_data_parallel_replica_is_an_engine_of_its_own(drive, version):
    seen = drive(version, "replica")
    assert seen["mismatches"] == 0
    (name,) = seen["engines"]
    assert name.endswith("-dp2")


@pytest.mark.parametrize("version", ENDS)
def test_a_hook_that_fails_switches_itself_off(drive, version):
    seen = drive(version, "crash")
    (warning,) = seen["warnings"]
    assert "switched off (5 errors" in warning
    assert seen["outputs"] == [True] * 20


@pytest.mark.parametrize("version", ENDS)
def test_undo_leaves_nothing(drive, version):
    seen = drive(version, "undo")
    assert seen["left"] == []
    assert seen["outputs"] == [True] * 20
    assert seen["told"] == {}
