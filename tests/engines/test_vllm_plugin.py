"""vLLM's own plugin mechanism starts the hooks where no start-up file did."""

from __future__ import annotations

import json
import os
import subprocess

import launch
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

# The variable is set late, so the .pth had nothing to do when the interpreter started.
CODE = """
import json, os, sys
before = sorted(name for name in sys.modules if name.startswith("contextpilot"))
os.environ["CONTEXTPILOT_INDEX_URL"] = "http://127.0.0.1:9"
from vllm.plugins import load_general_plugins
load_general_plugins()
load_general_plugins()
import vllm.v1.core.sched.scheduler as module
once = module.Scheduler.__init__
print(json.dumps({
    "before": before,
    "wrapped": once.__code__.co_name,
    "inside": once.__wrapped__.__code__.co_name,
    "loader": type(module.__spec__.loader).__name__,
}))
"""


def test_the_plugin_entry_point_attaches_once(engine):
    target = engine("vllm")
    launch.install_hooks(target)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CONTEXTPILOT_")}
    done = subprocess.run(
        [target.python, "-c", CODE],
        env={**clean, **target.recipe.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {
        "before": [],
        "wrapped": "contextpilot_after",
        "inside": "__init__",
        "loader": "SourceFileLoader",
    }
