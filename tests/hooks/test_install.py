"""Real wheels and real virtual environments: the start-up files arrive, act, and go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contextpilot import install_hook

CHECKOUT = Path(__file__).resolve().parents[2]
URL = {"CONTEXTPILOT_INDEX_URL": "http://127.0.0.1:9"}
OURS = ["contextpilot_hooks", "contextpilot_hooks.importhook", "contextpilot_hooks.start"]
MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)))"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command, **variables):
    environ = {"PATH": os.environ["PATH"], "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environ |= {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k == "HOME"}
    done = subprocess.run(
        [str(part) for part in command],
        env={**environ, **variables},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


class Venv:
    """A virtual environment without pip of its own."""

    def __init__(self, root):
        run(sys.executable, "-m", "venv", "--without-pip", root)
        self.python = root / "bin" / "python"
        self.site = Path(
            run(
                self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
            ).stdout.strip()
        )

    def pip(self, *arguments):
        return run(sys.executable, "-m", "pip", "-q", "--python", self.python, *arguments)

    def files(self):
        return sorted(str(path.relative_to(self.site)) for path in self.site.rglob("*"))

    def modules(self, *options, **variables):
        done = run(self.python, *options, "-c", MODULES, **variables)
        assert done.stderr == ""
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, CHECKOUT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    venv = Venv(tmp_path_factory.mktemp("venv") / "v")
    venv.before = venv.files()
    venv.bare = venv.modules()
    venv.pip("install", "--no-deps", "--no-compile", wheel)
    return venv


def ours(modules):
    return [name for name in modules if name.startswith("contextpilot")]


def test_files_arrive_in_site_packages(installed):
    assert (installed.site / "contextpilot_hook.pth").exists()
    assert (installed.site / "contextpilot_hook.start").read_text().strip() == (
        "contextpilot_hooks.start:start"
    )
    (metadata,) = installed.site.glob("contextpilot-*.dist-info/entry_points.txt")
    text = metadata.read_text()
    for group in ("vllm.general_plugins", "sglang.srt.plugins"):
        assert f"[{group}]\ncontextpilot = contextpilot_hooks.start:start" in text


def of_python(modules):
    """Without the codec that Python 3.13 itself reads a .pth file with."""
    return [name for name in modules if name != "encodings.utf_8_sig"]


def test_unset_it_imports_nothing(installed):
    assert of_python(installed.modules()) == of_python(installed.bare)


def test_set_it_imports_itself_and_nothing_else(installed):
    modules = of_python(installed.modules(**URL))
    assert ours(modules) == OURS
    assert sorted(set(modules) - set(installed.bare) - set(OURS)) == ["__future__"]


@pytest.mark.parametrize("option", ["-I", "-E", "-S", "-O", "-B"])
def test_other_ways_to_start_python(installed, option):
    assert ours(installed.modules(option, **URL)) == ([] if option == "-S" else OURS)


def test_the_start_file_names_what_the_pth_calls(installed):
    code = """
        import sys
        for name in [n for n in sys.modules if n.startswith("contextpilot")]:
            del sys.modules[name]
        import pkgutil
        pkgutil.resolve_name(open(sys.argv[1]).read().strip())()
        from contextpilot_hooks import importhook
        print(len(importhook._registry.waiting))
    """
    lines = "\n".join(line[8:] for line in code.splitlines())
    out = run(installed.python, "-c", lines, installed.site / "contextpilot_hook.start", **URL)
    assert int(out.stdout) >= 3


def test_every_module_works_with_the_standard_library_alone(installed):
    code = (
        "import importlib, pkgutil, sys, contextpilot_hooks as h\n"
        "for m in pkgutil.iter_modules(h.__path__):\n"
        "    importlib.import_module(h.__name__ + '.' + m.name)\n"
        "heavy = ('numpy', 'requests', 'contextpilot', 'vllm', 'sglang')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    assert run(installed.python, "-c", code, **URL).stdout.strip() == "[]"


def test_a_pth_without_its_package_is_silent(tmp_path):
    venv = Venv(tmp_path / "v")
    shutil.copy(CHECKOUT / "contextpilot_hook.pth", venv.site)
    assert ours(venv.modules(**URL)) == []


def test_a_pth_whose_package_is_broken_is_silent(tmp_path):
    venv = Venv(tmp_path / "v")
    shutil.copy(CHECKOUT / "contextpilot_hook.pth", venv.site)
    (venv.site / "contextpilot_hooks").mkdir()
    (venv.site / "contextpilot_hooks" / "__init__.py").write_text("syntax error here")
    venv.modules(**URL)


@pytest.mark.parametrize(
    "argv",
    ["demo", "simulate FILE", "bench --engine http://127.0.0.1:9 --workload FILE", "serve",
     "warm --log FILE --dry-run", "run -- true", "savings FILE"],
)  # fmt: skip
def test_with_the_hooks_alone_a_command_says_what_it_needs(installed, tmp_path, argv):
    file = tmp_path / "requests.jsonl"
    file.write_text('{"query": "q", "contexts": ["one text", "another"]}\n')
    words = [str(file) if word == "FILE" else word for word in argv.split()]
    done = subprocess.run(
        [installed.python, "-m", "contextpilot", *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert " is not installed: pip install fastapi httptools numpy " in done.stderr


def test_with_the_hooks_alone_nothing_is_broken(installed):
    done = run(installed.python, "-m", "contextpilot", "doctor")
    assert "fastapi, httptools, numpy, prometheus-client" in done.stdout
    assert "nothing required is broken" in done.stdout
    index = subprocess.run(
        [installed.python, "-m", "contextpilot", "doctor"],
        env={**os.environ, **URL},
        capture_output=True,
        text=True,
    )
    assert index.returncode == 1
    assert "cannot be checked: requests is not installed" in index.stdout


def test_a_bad_address_hurts_nobody(installed):
    assert ours(installed.modules(CONTEXTPILOT_INDEX_URL="not an address")) == OURS


def test_install_hook_switches_pips_files_off_and_on(installed):
    before = installed.files()
    command = (installed.python, "-m", "contextpilot.install_hook")
    assert "nothing to do" in run(*command).stdout
    said = run(*command, "--status").stdout
    assert "(by pip)" in said
    assert "active       yes" in said
    assert "switched off in" in run(*command, "--remove").stdout
    assert f"active       no, switched off by {installed.site}" in run(*command, "--status").stdout
    waiting = "from contextpilot_hooks import importhook; print(len(importhook._registry.waiting))"
    plugin = "import contextpilot_hooks.start as s; s.start(); " + waiting
    assert run(installed.python, "-c", plugin, **URL).stdout == "0\n", "nor as a plugin"
    assert "off already" in run(*command, "--remove").stdout
    assert "active       yes" in run(*command).stdout
    assert run(installed.python, "-c", plugin, **URL).stdout != "0\n"
    after = [name for name in installed.files() if "__pycache__" not in name]
    assert after == [name for name in before if "__pycache__" not in name]


def test_a_folder_of_somebody_else_is_named_with_what_to_do(monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "/site/contextpilot_hook.off")

    monkeypatch.setattr(install_hook, "remove", refuse)
    assert install_hook.main(["--remove"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("cannot do that: /site/contextpilot_hook.off may not be written by")
    assert "unset, CONTEXTPILOT_INDEX_URL keeps the hooks off" in told


@pytest.mark.slow
def test_without_start_up_files_the_engines_plugins_are_the_only_way(wheel, tmp_path):
    venv = Venv(tmp_path / "v")
    venv.pip("install", "--no-deps", "--no-compile", wheel)
    for name in ("contextpilot_hook.pth", "contextpilot_hook.start"):
        (venv.site / name).unlink()
    assert ours(venv.modules(**URL)) == []  # nothing of ours runs when this Python starts
    loads = (
        "from importlib.metadata import entry_points\n"
        "(one,) = entry_points(group='vllm.general_plugins', name='contextpilot')\n"
        "one.load()()\n"
        "from contextpilot_hooks import importhook\n"
        "print(len(importhook._registry.waiting))"
    )
    assert int(run(venv.python, "-c", loads, **URL).stdout) >= 3
    venv.pip("uninstall", "-y", "contextpilot")
    assert not [name for name in venv.files() if "contextpilot" in name]


def test_uninstall_leaves_nothing(wheel, tmp_path):
    venv = Venv(tmp_path / "v")
    before = venv.files()
    venv.pip("install", "--no-deps", wheel)
    venv.modules(**URL)
    run(venv.python, "-B", "-m", "contextpilot.install_hook", "--remove")
    venv.pip("uninstall", "-y", "contextpilot")
    assert venv.files() == before


def test_an_editable_install_starts_switches_and_leaves_nothing(tmp_path):
    source = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs")
    shutil.copytree(CHECKOUT, source, ignore=ignored)
    venv = Venv(tmp_path / "v")
    before = venv.files()
    venv.pip("install", "--no-deps", "-e", source)
    assert ours(venv.modules(**URL)) == OURS
    command = (venv.python, "-m", "contextpilot.install_hook")
    run(*command)
    (venv.site / "contextpilot_hook.pth").unlink()  # as where the installer brings none
    assert "active       yes" in run(*command).stdout
    assert "(by contextpilot.install_hook)" in run(*command, "--status").stdout
    assert "switched off" in run(*command, "--remove").stdout
    assert "active       no" in run(*command, "--status").stdout
    assert "active       yes" in run(*command).stdout
    venv.pip("uninstall", "-y", "contextpilot")
    assert venv.files() == before
    for name in ("contextpilot", "contextpilot_hooks"):
        found = f"import importlib.util as u; print(u.find_spec({name!r}))"
        assert run(venv.python, "-c", found).stdout == "None\n"


@pytest.fixture
def checkout(tmp_path):
    """An environment that only knows the checkout's `contextpilot`, as editable installs do."""
    venv = Venv(tmp_path / "v")
    (venv.site / "__editable__.contextpilot.pth").write_text(f"{CHECKOUT}\n")
    return venv


def test_install_hook_in_a_checkout(checkout):
    before = checkout.files()
    command = (checkout.python, "-m", "contextpilot.install_hook")
    assert "active       no" in run(*command, "--status").stdout
    assert "active       yes" in run(*command).stdout
    assert "active       yes" in run(*command).stdout
    assert ours(checkout.modules(**URL)) == OURS
    assert ours(checkout.modules()) == []
    assert (checkout.site / "contextpilot_hook.start").exists()
    assert "switched off in" in run(*command, "--remove").stdout
    assert checkout.files() == before
    assert "off already" in run(*command, "--remove").stdout


def test_install_hook_says_plainly_that_it_cannot_write(checkout):
    # Root may write everywhere; a folder in the way stops even root.
    (checkout.site / "contextpilot_hook.start").mkdir()
    done = subprocess.run(
        [checkout.python, "-m", "contextpilot.install_hook"],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 1
    assert "cannot do that" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_is_preferred_and_the_user_folder_is_the_fallback(monkeypatch):
    own = Path(install_hook.sysconfig.get_path("purelib"))
    assert install_hook.target_folder() == own
    monkeypatch.setattr(install_hook.os, "access", lambda *_: False)
    assert install_hook.target_folder() == own, "a read-only venv is not left for the user's folder"
    monkeypatch.setattr(install_hook.sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(install_hook.site, "ENABLE_USER_SITE", True)
    user = Path(install_hook.site.getusersitepackages())
    assert install_hook.target_folder() == user


def test_one_text():
    assert (CHECKOUT / "contextpilot_hook.pth").read_text() == install_hook.PTH_LINE + "\n"
    from contextpilot_hooks.start import SWITCH

    assert SWITCH == install_hook.SWITCH
    assert (CHECKOUT / "hooks/contextpilot_hook.start").read_text() == (
        install_hook.START_LINE + "\n"
    )
