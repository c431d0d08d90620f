"""The doctor on start-up files and on attach points, in real interpreters."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from requirement import absent

from contextpilot import install_hook
from contextpilot.commands.checks import attach_points, hooks
from contextpilot.commands.checks.attach_points import check_attach_points
from contextpilot.commands.checks.hooks import check_plugins, check_startup_files

CHECKOUT = Path(__file__).resolve().parents[2]
ENGINE_SCRIPTS = CHECKOUT / "scripts" / "engines"
URL = "http://127.0.0.1:9"

# -- start-up files --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An interpreter of its own; returns its path and its site-packages."""
    root = tmp_path_factory.mktemp("venv") / "v"
    venv.create(root, with_pip=False, symlinks=True)
    [folder] = (root / "lib").glob("python*/site-packages")
    return root / "bin" / "python", folder


@pytest.fixture
def site(bare, monkeypatch):
    """The site-packages that the checks look at, empty."""
    python, folder = bare
    for path in folder.iterdir():
        path.unlink()
    monkeypatch.setattr(install_hook, "_site_folders", lambda: [folder])
    monkeypatch.setattr(install_hook, "target_folder", lambda: folder)
    monkeypatch.setattr(sys, "executable", str(python))
    return folder


def put(site, *lines):
    (site / install_hook.PTH).write_text("\n".join([*lines, install_hook.PTH_LINE, ""]))


def statuses():
    return {each.name: each.status for each in check_startup_files()}


def expect_reports(monkeypatch):
    """As on a machine where an engine is installed and meant to report."""
    monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", URL)
    monkeypatch.setattr(hooks, "installed_version", lambda *names: "0.32.0")


def test_no_start_up_file_beside_an_application_only(site, monkeypatch):
    monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", URL)
    monkeypatch.setattr(hooks, "installed_version", lambda *names: None)
    assert statuses() == {"hooks": "warn"}


def test_no_start_up_file(site, monkeypatch):
    assert statuses() == {"hooks": "absent"}
    expect_reports(monkeypatch)
    [found] = check_startup_files()
    assert found.status == "fail"
    assert "report nothing" in found.detail
    assert "contextpilot.install_hook" in found.fix


def test_both_files_in_place(site, monkeypatch):
    put(site, str(CHECKOUT / "hooks"))
    (site / install_hook.START).write_text(install_hook.START_LINE + "\n")
    first, _, second = check_startup_files()
    assert (first.status, second.status) == ("ok", "ok")
    assert "inert" in first.detail
    monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", URL)
    assert next(check_startup_files()).detail.endswith(", active")


def test_the_start_up_file_is_shown_with_its_hash(site):
    put(site, install_hook.MARK, str(CHECKOUT / "hooks"))
    written = (site / install_hook.PTH).read_bytes()
    [shown] = [each for each in check_startup_files() if each.name == "hooks (.pth)"]
    assert (shown.status, hashlib.sha256(written).hexdigest() in shown.detail) == ("ok", True)
    put(site, str(CHECKOUT / "hooks"), "import this")
    [shown] = [each for each in check_startup_files() if each.name == "hooks (.pth)"]
    assert shown.status == "warn"
    assert "other code" in shown.detail


def test_the_start_file_counts_where_python_needs_it(site, monkeypatch):
    put(site, str(CHECKOUT / "hooks"))
    assert statuses() == {"hooks": "ok", "hooks (.pth)": "ok", "hooks (.start)": "absent"}
    monkeypatch.setattr(hooks, "_NEEDS_START_FILE", (3, 0))
    assert statuses()["hooks (.start)"] == "warn"
    (site / install_hook.START).write_text("something.else:start\n")
    assert statuses()["hooks (.start)"] == "warn"


def test_a_start_up_file_without_the_hooks(site, monkeypatch):
    put(site)
    found = next(check_startup_files())
    assert found.status == "warn"
    assert "No module named 'contextpilot_hooks'" in found.detail
    expect_reports(monkeypatch)
    assert next(check_startup_files()).status == "fail"


def test_a_start_up_file_that_does_nothing(site):
    (site / install_hook.PTH).write_text(str(CHECKOUT / "hooks") + "\n")
    assert "can be imported, but" in next(check_startup_files()).detail


def test_plugin_entry_points(monkeypatch):
    there = [
        EntryPoint("contextpilot", install_hook.START_LINE, group)
        for group in ("vllm.general_plugins", "sglang.srt.plugins")
    ]
    monkeypatch.setattr(hooks, "entry_points", lambda group: EntryPoints(there).select(group=group))
    assert [each.status for each in check_plugins()] == ["ok"]
    del there[0]
    [found] = check_plugins()
    assert (found.status, found.detail) == ("absent", "no entry point in vllm.general_plugins")


# -- attach points ---------------------------------------------------------------------------------

SCHEDULER = """
import torch_that_is_not_there

class Scheduler(Base[torch_that_is_not_there.Tensor]):
    def __init__(self, vllm_config: X, kv_cache_config: Y = Z(), *, log: bool = f()) -> None: ...
    def add_request(self, request: X) -> None: ...
    def schedule(self): ...
    def update_from_output(self, scheduler_output, /): ...
"""
POOL = """
class BlockPool:
    size: int = compute()
    @undefined.decorator
    def _maybe_evict_cached_block(self, block: X) -> bool: ...
    def cache_full_blocks(self, request, num_cached_blocks, num_full_blocks, block_size): ...
    def reset_prefix_cache(self): ...
    def get_cached_block(self, block_hash, kv_cache_group_ids): ...
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """`engine("vllm", "0.32.0", {"v1/a.py": "..."})`: an installed engine of these sources."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, version, sources):
        metadata = tmp_path / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        for path, text in {"__init__.py": "raise SystemExit('imported')", **sources}.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return install


def vllm(**changes):
    return {
        "v1/core/sched/scheduler.py": SCHEDULER,
        "v1/core/block_pool.py": POOL,
        "v1/core/kv_cache_utils.py": "def get_block_hash(key): return key[:-4]\n",
    } | changes


def test_no_engine_no_attach_points():
    assert list(check_attach_points()) == []


def test_attach_points_found(engine):
    engine("vllm", "0.32.0", vllm())
    [found] = check_attach_points()
    assert (found.name, found.status) == ("vllm hooks", "ok")
    assert found.detail.startswith("attach points found in 0.32.0 (tested: 0.")


def test_a_version_that_was_never_tested(engine):
    engine("vllm", "7.1.0rc1", vllm())
    [found] = check_attach_points()
    assert found.status == "warn"
    assert "7.1.0rc1 was never tested" in found.detail


MISSING = [
    ("v1/core/sched/scheduler.py", "add_request", "add_request is missing"),
    ("v1/core/block_pool.py", "num_full_blocks", "lacks the parameter num_full_blocks"),
    ("v1/core/kv_cache_utils.py", "get_block_hash", "get_block_hash is missing"),
]


@pytest.mark.parametrize(("path", "word", "complaint"), MISSING)
def test_a_missing_attach_point_is_named(engine, path, word, complaint):
    engine("vllm", "0.32.0", vllm(**{path: vllm()[path].replace(word, "renamed")}))
    [found] = check_attach_points()
    assert found.status == "warn"
    assert complaint in found.detail


def test_an_engine_that_is_meant_to_report_and_cannot_is_broken(engine, monkeypatch):
    expect_reports(monkeypatch)
    engine("vllm", "0.5.0", {})
    [found] = check_attach_points()
    assert found.status == "fail"
    assert "vllm.v1.core.sched.scheduler is missing" in found.detail


SGLANG = {
    "srt/managers/scheduler.py": (
        "class Scheduler(A, B):\n"
        "    def __init__(self, server_args): ...\n"
        "    def _add_request_to_queue(self, req: Req, is_retracted: bool = False): ...\n"
    ),
    "srt/mem_cache/radix_cache.py": "class RadixCache(Base): pass\n",
}


@pytest.mark.parametrize(
    ("version", "status", "detail"),
    [
        ("0.5.10", "ok", "attach points found in 0.5.10 (tested: 0.5.1 to"),
        ("0.5.19", "warn", "no sglang.srt.mem_cache.unified_radix_cache.UnifiedRadixCache"),
        ("0.4.9.post6", "warn", "its prefix cache is known from 0.5.1 to"),
    ],
)
def test_sglang_goes_by_its_prefix_cache(engine, version, status, detail):
    engine("sglang", version, SGLANG)
    [found] = check_attach_points()
    assert (found.name, found.status) == ("sglang hooks", status)
    assert detail in found.detail


def test_sources_that_cannot_be_read(engine):
    engine("vllm", "0.32.0", vllm(**{"v1/core/block_pool.py": "def broken("}))
    [found] = check_attach_points()
    assert found.status == "warn"
    assert "SyntaxError" in found.detail


def test_a_probe_that_takes_too_long(engine, monkeypatch):
    engine("vllm", "0.32.0", vllm())
    monkeypatch.setattr(attach_points, "_TIMEOUT_S", 0.001)
    [found] = check_attach_points()
    assert "not found within" in found.detail


PRESENT = "import sys, versions; print(versions.folder(*sys.argv[1:]))"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "version"),
    [("vllm", "0.33.0"), ("sglang", "0.5.23")],
)
def test_real_sources(monkeypatch, tmp_path, name, version):
    done = subprocess.run(
        [sys.executable, "-c", PRESENT, name, version],
        cwd=ENGINE_SCRIPTS,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = Path(done.stdout.strip())
    if not (folder / name).is_dir():
        absent(f"run: python scripts/engines/versions.py {name} {version}")
    metadata = tmp_path / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for path in (tmp_path, folder):
        monkeypatch.syspath_prepend(str(path))
    [found] = check_attach_points()
    assert (found.status, found.detail.split(" (")[0]) == (
        "ok",
        f"attach points found in {version}",
    )
