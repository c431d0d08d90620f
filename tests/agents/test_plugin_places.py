"""`contextpilot plugin AGENT`: what it names is there, in the wheel as in the checkout."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.request import url2pathname

import pytest

from contextpilot.agents.plugins.places import hosts
from contextpilot.cli import main


def test_each_agent_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert hosts() == ["hermes", "openclaw", "opencode"]
    for host in hosts():
        assert main(["plugin", host]) == 0
        assert "1. " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["plugin", "vim"])


def test_what_is_named_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plugin", "opencode"])
    (url,) = re.findall(r'file://([^"]+)"', capsys.readouterr().out)
    assert "experimental.chat.messages.transform" in Path(url2pathname(url)).read_text("utf-8")
    main(["plugin", "openclaw"])
    (folder,) = re.findall(r'"paths": \["(.+)"\]', capsys.readouterr().out)
    package = json.loads((Path(folder) / "package.json").read_text("utf-8"))
    manifest = json.loads((Path(folder) / "openclaw.plugin.json").read_text("utf-8"))
    (entry,) = package["openclaw"]["extensions"]
    source = (Path(folder) / entry).read_text("utf-8")
    assert f'ID = "{manifest["id"]}"' in source
    assert "wrapStreamFn" in source
    shared = (Path(folder) / "rewriter.js").read_text("utf-8")
    read = set(re.findall(r"settings\.(\w+)", shared))
    assert read == manifest["configSchema"]["properties"].keys()
