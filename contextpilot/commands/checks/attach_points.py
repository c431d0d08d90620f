"""Checks whether the hooks would attach to the engines that are installed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from contextpilot.commands.checks.check import Check, installed_version
from contextpilot.commands.checks.hooks import INDEX_URL, hooked_kinds, severity

_PROBE = "contextpilot.commands.checks.attach_probe"
_TIMEOUT_S = 30
_FIX = "use one of these versions, or a newer contextpilot; the engine itself is not affected"


def check_attach_points() -> Iterator[Check]:
    """Ask the hooks about each installed engine, in a process that does not import it."""
    for kind in hooked_kinds():
        version = installed_version(kind.distribution)
        if version is not None:
            yield _check_engine(kind.name, version)


def _check_engine(engine: str, version: str) -> Check:
    name = f"{engine} hooks"
    try:
        verdict = _ask(engine, version)
    except subprocess.TimeoutExpired:
        detail = f"the attach points of {version} were not found within {_TIMEOUT_S} s"
        return Check(name, "warn", detail, "run doctor again on an idle machine")
    except (RuntimeError, ValueError) as error:
        detail = f"the attach points of {version} cannot be looked at: {error}"
        return Check(name, "warn", detail, f"pip check; pip install {engine}=={version}")
    tested = verdict["tested"]
    if verdict["refused"]:
        detail = f"attach points missing in {version}: {verdict['refused']} (tested: {tested})"
        return Check(name, severity(), detail, _FIX)
    if not verdict["is_tested"]:
        detail = f"attach points found, but {version} was never tested (tested: {tested})"
        return Check(name, "warn", detail, "check that GET /health of the index says sync: exact")
    return Check(name, "ok", f"attach points found in {version} (tested: {tested})")


def _ask(engine: str, version: str) -> dict[str, object]:
    """Run the probe. Raises RuntimeError with its last line, TimeoutExpired, ValueError."""
    environ = {name: value for name, value in os.environ.items() if name != INDEX_URL}
    environ["PYTHONPATH"] = os.pathsep.join(folder for folder in sys.path if folder)
    done = subprocess.run(
        [sys.executable, "-m", _PROBE, engine, version],
        env=environ,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    verdict: dict[str, object] = json.loads(done.stdout)
    return verdict
