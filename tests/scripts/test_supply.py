"""What is built and what it is built of: one wheel wherever it is made, licences that we allow."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import licences
import reproducible

SCRIPTS = Path(reproducible.__file__).parent


@pytest.mark.parametrize(
    ("text", "is_allowed"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND 0BSD AND MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("(Apache-2.0 OR GPL-3.0-only) AND MIT", True),
        ("(Apache-2.0 AND GPL-3.0-only) OR LGPL-2.1-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("Business Source License 1.1", False),
        ("", False),
    ],
)
def test_licences_are_told_apart(text: str, is_allowed: bool) -> None:
    assert (licences.fault_of(text) == "") is is_allowed


def test_all_that_is_installed_is_allowed() -> None:
    found = list(licences.licences())
    assert {"numpy", "fastapi", "pytest", "starlette"} <= {one.package for one in found}
    assert [one for one in found if one.fault] == []


def test_differences_of_wheels_are_named(tmp_path: Path) -> None:
    for name, content in (("one", "a"), ("two", "b")):
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr(zipfile.ZipInfo("same"), "x")
            wheel.writestr(zipfile.ZipInfo("other"), content)
    assert reproducible.differences(tmp_path / "one", tmp_path / "two") == ["other"]
    assert reproducible.differences(tmp_path / "one", tmp_path / "one") == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="needs pip in this environment")
def test_the_wheel_is_one_and_the_same_wherever_it_is_built() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / "reproducible.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("one and the same wheel\n")
