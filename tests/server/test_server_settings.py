"""Settings: flag over environment over file; every fault named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contextpilot.cli import build_parser
from contextpilot.server.settings import Settings, load_settings


def test_flag_wins_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('engine = "http://file:1"\nport = 1\nwindow = 3\nmax_wait_s = 2\n')
    environ = {"CONTEXTPILOT_PORT": "2", "CONTEXTPILOT_ENGINE": "http://env:1, http://env:2"}
    found = load_settings({"port": 3, "engine": None}, environ, str(file))
    assert found.port == 3
    assert found.engine == ("http://env:1", "http://env:2")
    assert found.window == 3
    assert found.max_wait_s == 2.0


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"CONTEXTPILOT_PORT": "abc"}, "CONTEXTPILOT_PORT must be a number"),
        ({"CONTEXTPILOT_PORT": "70000"}, "port must be at most 65535"),
        ({"CONTEXTPILOT_REORDER": "maybe"}, "CONTEXTPILOT_REORDER must be one of"),
        ({"CONTEXTPILOT_MODE": "guess"}, "mode must be one of"),
        ({"CONTEXTPILOT_ENGINE": "localhost:1"}, "engine must be like"),
        ({"CONTEXTPILOT_ENGINE": "http://localhost:eighty"}, "engine must be like"),
        ({"CONTEXTPILOT_ENGINE": "http://localhost:1/v1?key=a"}, "engine must be like"),
        ({"CONTEXTPILOT_ENGINE": "http://localhost:8765/"}, "this server's own address"),
        ({"CONTEXTPILOT_ENGINE": "http://127.0.0.1:81", "CONTEXTPILOT_PORT": "81"}, "own address"),
        ({"CONTEXTPILOT_WINDOW": "0"}, "window must be at least 1"),
        ({"CONTEXTPILOT_CLIENT_TIMEOUT_S": "nan"}, "client_timeout_s must be at least 0"),
        ({"CONTEXTPILOT_READ_TIMEOUT_S": "inf"}, "read_timeout_s must be at most 1,000,000,000"),
        ({"CONTEXTPILOT_MAX_WAIT_S": "1e300"}, "max_wait_s must be at most 1,000,000,000"),
    ],
)
def test_faults_in_the_environment_are_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_settings({}, environ)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "server.toml: unknown setting 'prot'; did you mean port?"),
        ("max-in-flight = 1", "did you mean max_in_flight?"),
        ("zzz = 1", "known are engine, kv_events"),
        ("port = 'x'", "server.toml: port must be of type int"),
        ("reorder = 1", "server.toml: reorder must be of type bool"),
        ("mode = 'guess'", "server.toml: mode must be one of"),
        ("engine = 8000", "server.toml: engine must be a text or a list of texts, not 8000"),
        ("engine = [8000]", "server.toml: engine must be a text or a list of texts"),
        ("[engine]", "server.toml: engine must be a text or a list of texts"),
        ("port = ", "is not TOML"),
    ],
)
def test_faults_in_the_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_settings({}, {}, str(file))


def test_every_setting_has_a_flag_that_says_its_variable(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["serve", "--help"])
    text = capsys.readouterr().out.replace("\n", "")
    for name in Settings.__dataclass_fields__:
        assert "--" + name.replace("_", "-") in text
        assert f"CONTEXTPILOT_{name.upper()}" in text.replace(" ", "")


def test_secrets_are_not_shown() -> None:
    assert "hidden" not in repr(Settings(index_token="hidden", salt_secret="hidden"))
