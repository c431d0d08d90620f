"""`contextpilot doctor`: its report, and the checks that look at this machine alone."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import contextpilot
from contextpilot.commands import doctor
from contextpilot.commands.checks import check, engines, environment, exchange
from contextpilot.commands.checks.check import Check
from contextpilot.server.variables import known_variables

FINE = Check("one", "ok", "as it should be")
ABSENT = Check("two", "absent", "not there", "pip install two")
WORTH_KNOWING = Check("three", "warn", "old", "upgrade three")
BROKEN = Check("four", "fail", "does not start", "mend four")


def shown(monkeypatch, run, *found, argv=()):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter(found),))
    return run("doctor", *argv)


def test_the_real_thing(run, monkeypatch):
    monkeypatch.delenv("LLAMA_SERVER_BIN", raising=False)
    monkeypatch.delenv("CONTEXTPILOT_REQUIRE_ENGINES", raising=False)
    monkeypatch.delenv("CONTEXTPILOT_ENGINES_DIR", raising=False)
    result = run("doctor")
    assert result.err == ""
    assert re.search(rf"^ok    python +\w+ {platform.python_version()} at\s+/", result.out)
    assert "no CONTEXTPILOT_* variable is set" in result.out
    assert result.out.endswith("nothing required is broken\n")
    assert result.status == 0


def test_text_shows_the_fix_of_what_needs_one(monkeypatch, run):
    result = shown(monkeypatch, run, FINE, ABSENT, WORTH_KNOWING, BROKEN)
    assert result.status == 1
    assert result.out.splitlines() == [
        "ok    one    as it should be",
        "-     two    not there",
        "warn  three  old",
        "             fix: upgrade three",
        "FAIL  four   does not start",
        "             fix: mend four",
        "",
        "broken: four",
    ]


def test_json_holds_everything(monkeypatch, run):
    result = shown(monkeypatch, run, FINE, ABSENT, BROKEN, argv=["--json"])
    assert result.status == 1
    assert result.json() == {
        "ok": False,
        "checks": [each._asdict() for each in (FINE, ABSENT, BROKEN)],
    }


def test_warnings_alone_are_status_0(monkeypatch, run):
    result = shown(monkeypatch, run, FINE, ABSENT, WORTH_KNOWING, argv=["--json"])
    assert (result.status, result.json()["ok"]) == (0, True)


def test_a_check_that_raises_is_reported_and_the_others_run():
    def check_walls():
        yield FINE
        raise RuntimeError("the wall fell")

    found = doctor.run_checks((check_walls, lambda: iter([WORTH_KNOWING])))
    assert [(each.name, each.status) for each in found] == [
        ("one", "ok"),
        ("walls", "fail"),
        ("three", "warn"),
    ]
    assert "the wall fell" in found[1].detail


def variables(**environ):
    return {each.name: each for each in environment.check_variables(environ)}


@pytest.mark.parametrize("name", ["INDEX_TOKEN", "ENGINE_KEY", "SALT_SECRET", "JUDGE_KEY"])
def test_secrets_are_not_shown(name):
    [found] = variables(**{f"CONTEXTPILOT_{name}": "hunter2"}).values()
    assert found.status == "ok"
    assert "hunter2" not in str(found)
    assert "7 characters" in found.detail


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CONTEXTPILOT_INDX_URL", "CONTEXTPILOT_INDEX_URL"),
        ("CONTEXTPILOT_INDEX_UR", "CONTEXTPILOT_INDEX_URL"),
        ("CONTEXTPILOT_ENGINES", "CONTEXTPILOT_ENGINE"),
        ("CONTEXT_PILOT_PORT", "CONTEXTPILOT_PORT"),
        ("contextpilot_port", "CONTEXTPILOT_PORT"),
        ("CONTEXTPILOT_ZZZ", ""),
    ],
)
def test_misspelt_variables_are_named_with_what_is_meant(name, meant):
    [found] = variables(**{name: "http://127.0.0.1:1", "PATH": "/", "CONTEXT": "x"}).values()
    assert (found.name, found.status) == (name, "warn")
    assert found.detail == f"nothing reads {name}" + (f": did you mean {meant}?" if meant else "")
    assert (meant or "unset") in found.fix


def test_every_variable_that_the_code_names_is_known():
    checkout = Path(contextpilot.__file__).resolve().parents[1]
    sources = [
        *checkout.glob("contextpilot/**/*.py"),
        *checkout.glob("hooks/**/*.py"),
        *checkout.glob("native/*.cpp"),
        *checkout.glob("examples/*.py"),
        *checkout.glob("scripts/**/*.py"),
    ]
    named = set()
    for source in sources:
        named.update(re.findall(r"\bCONTEXTPILOT_[A-Z_]*[A-Z]\b", source.read_text()))
    known = known_variables()
    assert named - known - {"CONTEXTPILOT_HOOK_MAX"} == set()
    assert len(known) > 40


@pytest.mark.parametrize("name", ["CONTEXTPILOT_INDEX_URL", "CONTEXTPILOT_ENGINE"])
def test_passwords_in_addresses_are_not_shown(name):
    found = variables(**{name: "https://me:hunter2@index.example:99/p/?t=hunter2"})
    assert found[name].detail == "https://***@index.example:99/p"
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "tcp://10.0.0.1:8765", "CONTEXTPILOT_PORT must be a number"),
        ("WINDOW", "0", "window must be at least 1"),
        ("MODE", "guess", "mode must be one of"),
    ],
)
def test_a_setting_that_no_server_takes_is_told(name, value, words):
    found = variables(**{f"CONTEXTPILOT_{name}": value})
    assert found[f"CONTEXTPILOT_{name}"].detail == value
    assert (found["settings"].status, words in found["settings"].detail) == ("warn", True)


def test_addresses_of_kv_events_are_no_http():
    engine, events = "http://127.0.0.1:1", "tcp://127.0.0.1:5557"
    found = variables(CONTEXTPILOT_ENGINE=engine, CONTEXTPILOT_KV_EVENTS=events)
    assert {each.status for each in found.values()} == {"ok"}


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8765",
        "ftp://here",
        "http://",
        "http://h:hunter2",
        "http://h:99999",
        "http://[::1",
    ],
)
def test_a_bad_address_fails_and_stays_unseen(run, monkeypatch, url):
    monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", url)
    found = variables(CONTEXTPILOT_INDEX_URL=url)["CONTEXTPILOT_INDEX_URL"]
    assert (found.status, found.detail) == ("fail", "is not an http(s) address")
    assert found.fix == "export CONTEXTPILOT_INDEX_URL=http://127.0.0.1:8765"
    assert "hunter2" not in str(found)
    with pytest.raises(ValueError, match=r"^is not an http\(s\) address$"):
        exchange.Place.at(url)


def test_other_variables_are_shown_and_foreign_ones_are_not():
    found = variables(
        CONTEXTPILOT_PORT="99",
        CONTEXTPILOT_MODE="",
        CONTEXTPILOT_ENGINE="http://a:1,http://[::1]:2/",
        HOME="/x",
    )
    assert {name: each.detail for name, each in found.items()} == {
        "CONTEXTPILOT_ENGINE": "http://a:1, http://[::1]:2",
        "CONTEXTPILOT_MODE": "set, but empty",
        "CONTEXTPILOT_PORT": "99",
    }


def test_an_old_python_fails(monkeypatch):
    monkeypatch.setattr(environment, "_MIN_PYTHON", (99, 0))
    found = next(environment.check_python())
    assert found.status == "fail"
    assert found.fix


def installed(monkeypatch, **versions):
    def version(name: str) -> str:
        if name in versions:
            return versions[name]
        raise PackageNotFoundError(name)

    monkeypatch.setattr(check, "version", version)


def test_a_checkout_an_install_and_a_mixture(monkeypatch):
    own = environment.contextpilot.__version__
    installed(monkeypatch, numpy="1", scipy="1")
    assert next(environment.check_dependencies()).status == "warn"
    installed(monkeypatch, contextpilot=own)
    assert next(environment.check_dependencies()).status == "ok"
    installed(monkeypatch, contextpilot="0.0.0")
    found = next(environment.check_dependencies())
    assert found.status == "warn"
    assert "0.0.0 is installed" in found.detail


def test_a_dependency_that_does_not_import_fails(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    found = {each.name: each for each in environment.check_dependencies()}
    assert (found["numpy"].status, found["scipy"].status) == ("ok", "fail")
    assert found["scipy"].fix == "pip install scipy"


def test_extras_that_are_absent_or_broken(monkeypatch):
    installed(monkeypatch)
    assert [each.status for each in environment.check_extras()] == ["absent"] * 3
    installed(monkeypatch, matplotlib="3", **{"cupy-cuda12x": "13"})
    for name in ("matplotlib", "cupy"):
        monkeypatch.setitem(sys.modules, name, None)
    plot, _, gpu = environment.check_extras()
    assert (plot.status, gpu.status) == ("fail", "warn")
    assert "no GPU can be used" in gpu.detail


def llama_server():
    return {each.name: each for each in engines.check_engines()}["llama-server"]


def program(tmp_path, text):
    path = tmp_path / "llama-server"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_llama_server_is_absent(monkeypatch, tmp_path):
    monkeypatch.delenv("LLAMA_SERVER_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert llama_server().status == "absent"


def test_llama_server_on_the_path(monkeypatch, tmp_path):
    monkeypatch.delenv("LLAMA_SERVER_BIN", raising=False)
    path = program(tmp_path, "echo 'version: 6123 (abc)' >&2")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert llama_server() == Check("llama-server", "ok", f"6123 at {path}")


def test_llama_server_bin_that_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setenv("LLAMA_SERVER_BIN", str(tmp_path / "none"))
    found = llama_server()
    assert (found.status, "LLAMA_SERVER_BIN" in found.fix) == ("fail", True)
    monkeypatch.setenv("LLAMA_SERVER_BIN", program(tmp_path, "exit 3"))
    found = llama_server()
    assert found.status == "fail"
    assert "does not start" in found.detail
    monkeypatch.setenv("LLAMA_SERVER_BIN", program(tmp_path, "echo hello"))
    assert llama_server().detail.startswith("version unknown")


def test_llama_server_that_hangs(monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "_TIMEOUT_S", 0.2)
    monkeypatch.setenv("LLAMA_SERVER_BIN", program(tmp_path, "exec sleep 60"))
    assert llama_server().status == "fail"


def test_engines_here_are_found_without_importing_them(monkeypatch):
    installed(monkeypatch, vllm="0.32.0")
    found = {each.name: each for each in engines.check_engines()}
    assert (found["vllm"].status, found["vllm"].detail) == ("ok", "0.32.0")
    assert found["sglang"].status == "absent"
    assert "vllm" not in sys.modules
