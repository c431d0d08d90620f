"""The real prefix cache of every SGLang version, without model and device."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import versions

DRIVE = Path(__file__).with_name("sglang_drive.py")

pytestmark = pytest.mark.engine


def cores(version):
    """The tree cores that a version has and that the hook can follow."""
    minor = int(version.split(".")[2])
    if minor < 19:
        return ["radix"]
    return ["python"] if minor == 19 else ["python", "rust"]


@pytest.fixture
def drive(engine, required):
    """Run sglang_drive.py for a version; skips (or fails) where its files are absent."""

    def run(version, core, mode="exact", page_sizes="1,16"):
        fetched = version in versions.present("sglang")
        required(fetched, f"run: python scripts/engines/versions.py sglang {version}")
        files = versions.folder("sglang", version)
        done = subprocess.run(
            [engine("sglang").python, "-B", DRIVE, files, version, page_sizes, core, mode],
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.parametrize(
    ("version", "core"),
    [(version, core) for version in versions.SGLANG_VERSIONS for core in cores(version)],
)
def test_exact(drive, version, core):
    seen = drive(version, core)
    assert seen["messages"] == []
    for run in seen["runs"]:
        assert run["wrong"] == []
        assert run["cleared"]
        assert run["checked"] > 300
        assert run["partial"] > 50
        assert run["gone"] > 50


# Pairs as lists of pairs, and as a view of tokens; each way to look at a path.
KINDS = [
    *(("0.5.3", "radix", "EAGLE"), ("0.5.10", "radix", "EAGLE"), ("0.5.23", "rust", "EAGLE")),
    *(("0.5.20", "rust", "SWA"), ("0.5.21", "python", "MAMBA"), ("0.5.22", "rust", "SWA+MAMBA")),
    *(("0.5.23", core, kind) for core in ("python", "rust") for kind in ("SWA+EAGLE", "MAMBA")),
]


@pytest.mark.parametrize(("version", "core", "kind"), KINDS)
def test_exact_where_nodes_have_parts_and_keys_are_pairs(drive, version, core, kind):
    seen = drive(version, core, f"exact:{kind}")
    assert seen["messages"] == []
    for run in seen["runs"]:
        assert run["wrong"] == []
        assert run["cleared"]
        assert run["checked"] > 300
        assert run["partial"] > 10
        assert run["gone"] > 50


def test_the_comparison_notices_parts_that_are_lost_unseen(drive):
    (run,) = drive("0.5.23", "rust", "blind-emptied:SWA", page_sizes="1")["runs"]
    assert run["wrong"]


@pytest.mark.parametrize("core", ["radix", "rust"])
@pytest.mark.parametrize("wrapper", ["insert", "evict", "reset"])
def test_the_comparison_notices_a_wrapper_that_sees_nothing(drive, wrapper, core):
    version = "0.5.18" if core == "radix" else "0.5.23"
    (run,) = drive(version, core, f"blind-{wrapper}", page_sizes="1")["runs"]
    assert run["wrong"] or not run["cleared"]


REFUSALS = {
    "off": "prefix caching is off",
    "unknown-cache": "its prefix cache is a OtherCache",
    "reshaped": "lacks the parameter key",
    "unknown-version": "is known from 0.5.",
}


@pytest.mark.parametrize("mode", REFUSALS)
@pytest.mark.parametrize(("version", "core"), [("0.5.3", "radix"), ("0.5.23", "python")])
def test_what_is_not_understood_is_refused_with_one_warning(drive, version, core, mode):
    seen = drive(version, core, mode, page_sizes="1")
    (warning,) = seen["messages"]
    assert REFUSALS[mode] in warning
    assert ("0.5.999" if mode == "unknown-version" else version) in warning
    assert seen["runs"] == [{"refused": True, "engines": []}]


def test_a_host_tier_is_refused_with_one_warning(drive):
    seen = drive("0.5.23", "rust", "host-tier", page_sizes="1")
    assert ["host or external tier" in warning for warning in seen["messages"]] == [True]


def test_parts_that_cannot_be_asked_for_are_refused_with_one_warning(drive):
    seen = drive("0.5.19", "python", "refused:SWA+MAMBA", page_sizes="1")
    (warning,) = seen["messages"]
    assert "trees of FULL and SWA and MAMBA are known from 0.5.20 on" in warning
    assert seen["runs"] == [{"refused": True, "engines": []}]


def test_the_rust_core_that_cannot_be_asked_is_refused_with_one_warning(drive):
    seen = drive("0.5.19", "rust", "exact", page_sizes="1")
    assert [
        "RustUnifiedTreeCore cannot be asked before 0.5.20" in text for text in seen["messages"]
    ] == [True]
    assert seen["runs"][0]["engines"] == []


@pytest.mark.parametrize(("version", "core"), [("0.5.10", "radix"), ("0.5.23", "rust")])
def test_one_tensor_parallel_rank_reports(drive, version, core):
    seen = drive(version, core, "second-rank", page_sizes="1")
    assert seen["messages"] == []
    assert seen["runs"][0]["engines"] == []


@pytest.mark.parametrize(("version", "core"), [("0.5.10", "radix"), ("0.5.23", "rust")])
def test_a_data_parallel_replica_is_an_engine_of_its_own(drive, version, core):
    seen = drive(version, core, "replica", page_sizes="1")
    (run,) = seen["runs"]
    assert run["wrong"] == []
    assert [name[-4:] for name in run["engines"]] == ["-dp1"]
