"""`contextpilot doctor`: what another project of the same name left behind is told, ours is not."""

from __future__ import annotations

from pathlib import Path

from contextpilot.commands.checks import foreign
from contextpilot.install_hook import PTH, PTH_LINE

THEIR_PTH = "import contextpilot._sglang_hook\nimport contextpilot._vllm_hook\n"
THEIR_STANDALONE_PTH = "import contextpilot_hook\n"
THEIR_SCRIPT = "#!/usr/bin/python\nfrom contextpilot._llamacpp_hook import main\nmain()\n"
OUR_SCRIPT = "#!/usr/bin/python\nfrom contextpilot.llama_server.launcher import main\nmain()\n"


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_this_environment_holds_nothing_foreign() -> None:
    assert list(foreign.check_foreign()) == []


def test_their_package_is_told_from_ours(tmp_path: Path) -> None:
    written(tmp_path, "contextpilot/__init__.py", "")
    assert not list(foreign.foreign_packages([tmp_path, foreign._OURS.parent]))
    written(tmp_path, "contextpilot/_vllm_hook.py", "")
    (found,) = foreign.foreign_packages([tmp_path])
    assert found.status == "warn"
    assert str(tmp_path) in found.detail
    assert "pip install ." in found.fix


def test_their_start_up_files_are_told_from_ours(tmp_path: Path) -> None:
    for number, text in enumerate((THEIR_PTH, THEIR_STANDALONE_PTH)):
        path = written(tmp_path / str(number), PTH, text)
        (found,) = foreign.foreign_starts([path.parent])
        assert str(path) in found.detail
    ours = written(tmp_path / "ours", PTH, PTH_LINE)
    assert not list(foreign.foreign_starts([ours.parent, tmp_path / "absent"]))
    module = written(tmp_path / "ours", "contextpilot_hook.py", "")
    (found,) = foreign.foreign_starts([ours.parent])
    assert str(module) in found.detail
    assert found.fix == "delete it"


def test_their_script_is_told_from_ours(tmp_path: Path) -> None:
    path = written(tmp_path, "contextpilot-llama-server", OUR_SCRIPT)
    assert not list(foreign.foreign_scripts(tmp_path))
    path.write_text(THEIR_SCRIPT)
    (found,) = foreign.foreign_scripts(tmp_path)
    assert str(path) in found.detail
