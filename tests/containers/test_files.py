"""What the files of the containers promise: nobody's rights, health checks, commands that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from contextpilot.cli import build_parser
from contextpilot.server.variables import known_variables

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "scripts" / "containers"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))
MANIFESTS = [FOLDER / "compose.yaml", FOLDER / "kubernetes.yaml"]


def instruction(path: Path, name: str) -> str:
    text = re.sub(r"\\\n\s*", " ", path.read_text("utf-8"))
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)[-1]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_without_rights_and_tells_its_health(path: Path) -> None:
    assert instruction(path, "USER") == "10001"
    health = json.loads(instruction(path, "HEALTHCHECK").partition(" CMD ")[2])
    compile(health[2], path.name, "exec")
    assert "http://127.0.0.1:8765/health" in health[2]
    entry = json.loads(instruction(path, "ENTRYPOINT"))
    assert entry[:2] == ["contextpilot", "serve"] or entry[1] == "/opt/both.py"
    build_parser().parse_args(["serve"])


@pytest.mark.parametrize("path", [*DOCKERFILES, *MANIFESTS], ids=lambda path: path.name)
def test_variables_are_read_by_something(path: Path) -> None:
    named = set(re.findall(r"CONTEXTPILOT_[A-Z_]*[A-Z]", path.read_text("utf-8")))
    assert named
    assert named <= known_variables()


def test_engines_listen_where_the_proxy_looks() -> None:
    for path in DOCKERFILES:
        port = re.search(r"CONTEXTPILOT_ENGINE=http://127\.0\.0\.1:(\d+)", path.read_text("utf-8"))
        entry = json.loads(instruction(path, "ENTRYPOINT"))
        if port:
            assert entry[entry.index("--port") + 1] == port[1]
            assert entry[entry.index("--host") + 1] == "127.0.0.1"
    assert len(DOCKERFILES) == 4


def test_pods_take_no_service_links_for_settings() -> None:
    pods = MANIFESTS[1].read_text("utf-8").count("containers:")
    assert MANIFESTS[1].read_text("utf-8").count("enableServiceLinks: false") == pods == 2


def test_what_is_built_is_there() -> None:
    allowed = (ROOT / ".dockerignore").read_text("utf-8")
    for name in re.findall(r"^!(.*)$", allowed, re.MULTILINE):
        assert (ROOT / name).exists()
