import subprocess
import sys
import textwrap
import threading

import pytest
from contextpilot_hooks import importhook
from contextpilot_hooks.guard import Guard
from contextpilot_hooks.importhook import when_imported
from contextpilot_hooks.patching import PatchSet, after


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Writes a package `hosted` with a module `hosted.core` and makes it importable."""
    package = tmp_path / "hosted"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "core.py").write_text("class Core:\n    def run(self): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "hosted"]:
        del sys.modules[name]


def test_fires_once_after_the_import(host):
    seen = []
    when_imported("hosted.core", seen.append)
    when_imported("hosted.core", seen.append)
    assert not seen
    import hosted.core

    assert len(seen) == 1
    assert seen[0] is hosted.core
    assert hosted.core.Core().run() == 1
    assert "contextpilot" not in type(hosted.core.__spec__.loader).__module__
    assert hosted.core.__loader__ is hosted.core.__spec__.loader
    when_imported("hosted.core", print)


def test_fires_at_once_when_already_imported(host):
    import hosted.core

    seen = []
    when_imported("hosted.core", seen.append)
    assert seen == [hosted.core]


def test_a_failing_callback_leaves_the_import_alone(host, caplog):
    when_imported("hosted.core", "contextpilot_hooks.absent:attach")
    when_imported("hosted.core", lambda module: 1 / 0)
    import hosted.core

    assert hosted.core.Core
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "hosted.core" in caplog.text


def test_a_failing_import_fails_as_ever_and_can_be_repeated(host):
    (host / "core.py").write_text("raise RuntimeError('host')")
    seen = []
    when_imported("hosted.core", seen.append)
    with pytest.raises(RuntimeError, match="host"):
        __import__("hosted.core")
    assert not seen
    (host / "core.py").write_text("ok = 'a different length'")
    __import__("hosted.core")
    assert len(seen) == 1


def test_an_absent_module_is_absent():
    when_imported("no_such_module_here", print)
    with pytest.raises(ModuleNotFoundError):
        __import__("no_such_module_here")


def test_reset_removes_finder_and_patches(host):
    import hosted.core

    before = list(sys.meta_path)
    original = hosted.core.Core.run

    def attach(module):
        patches = PatchSet("hosted")
        patches.wrap(module.Core, "run", after(Guard("g"), lambda *a: None))
        patches.apply()
        importhook.attached(patches)

    when_imported("hosted.core", attach)
    when_imported("hosted.later", print)
    assert hosted.core.Core.run is not original
    assert len(sys.meta_path) == len(before) + 1
    importhook.reset()
    assert hosted.core.Core.run is original
    assert sys.meta_path == before


def test_threads_that_import_together_fire_once(host):
    seen = []
    when_imported("hosted.core", seen.append)
    threads = [threading.Thread(target=__import__, args=("hosted.core",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1


def test_a_module_run_with_dash_m_still_runs(host):
    (host / "tool.py").write_text("print('ran', __name__)")
    code = textwrap.dedent("""
        import runpy
        from contextpilot_hooks.importhook import when_imported
        when_imported("hosted.tool", print)
        runpy.run_module("hosted.tool", run_name="__main__")
    """)
    hooks = importhook.__file__.rpartition("contextpilot_hooks")[0]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{hooks}:{host.parent}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "ran __main__"
