"""The script that tells which attach points a release lacks, on small sources of our own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "scripts" / "engines" / "attach_points.py"

POOL = """
class BlockPool:
    def _maybe_evict_cached_block(self, block): ...
    def cache_full_blocks(self, request, num_cached_blocks, num_full_blocks, block_size): ...
    def reset_prefix_cache(self): ...
    def get_cached_block(self, block_hash, kv_cache_group_ids): ...
"""
FILES = {
    "sched/scheduler": """
class Scheduler:
    def __init__(self, vllm_config, kv_cache_config): ...
    def add_request(self, request): ...
    def schedule(self): ...
    def update_from_output(self, scheduler_output): ...
""",
    "block_pool": POOL,
    "kv_cache_utils": "def get_block_hash(key): ...\n",
    "kv_cache_coordinator": """
class KVCacheCoordinator:
    def __init__(self):
        self.single_type_managers = ()
        self.use_eagle = False
        self.block_size = 16
    def find_longest_cache_hit(self, block_hashes, max_cache_hit_length): ...
""",
    "single_type_kv_cache_manager": "class FullAttentionManager: ...\n",
}
EVENTS = "class BlockStored:\n    block_hashes: list\n    token_ids: list\n"


@pytest.fixture
def release(tmp_path):
    """A folder with sources that lack nothing."""
    core = tmp_path / "vllm" / "v1" / "core"
    for name, text in FILES.items():
        path = core / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "vllm" / "distributed").mkdir()
    (tmp_path / "vllm" / "distributed" / "kv_events.py").write_text(EVENTS)
    return tmp_path


def told(release):
    command = [sys.executable, SCRIPT, "vllm", "--files", release]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_release_that_lacks_nothing_ends_well(release):
    code, (line,) = told(release)
    assert code == 0
    assert line.endswith("16 of 16 found")


def test_what_is_lacking_and_what_is_new_is_named(release):
    core = release / "vllm" / "v1" / "core"
    (core / "block_pool.py").write_text(POOL.replace("(self, block)", "(self, page)"))
    (core / "single_type_kv_cache_manager.py").write_text("class FractalManager: ...\n")
    code, (head, *lines) = told(release)
    assert code == 1
    assert head.endswith("14 of 16 found")
    pool = "vllm.v1.core.block_pool.BlockPool"
    assert lines == [
        f"  lacks BlockPool._maybe_evict_cached_block: {pool}._maybe_evict_cached_block",
        f"  lacks hybrid models: keys that come and go: {pool}._insert_block_hash or"
        f" {pool}._maybe_evict_cached_block",
        "  new kind: FractalManager",
    ]
