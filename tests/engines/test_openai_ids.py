"""The wrapped OpenAI client, in the versions that the engines bring along."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

DRIVE = Path(__file__).with_name("openai_drive.py")
ID = "cp-0123456789abcdef01234567"
WAYS = [
    *("create", "stream", "raw", "streaming response", "with_options", "completions", "responses"),
    *("async create", "async stream", "async responses", "merged"),
]

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def drive(request, engine):
    done = subprocess.run(
        [engine(request.param).python, "-B", DRIVE], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", WAYS)
def test_header_and_body_carry_the_id(drive, way):
    seen = drive["seen"][way]
    assert seen["id"] == ID
    assert seen["body"].pop("rid") == ID


def test_nothing_else_changes(drive):
    plain, ours = drive["seen"]["plain"], drive["seen"]["create"]
    assert plain["id"] is None
    assert "rid" not in plain["body"]
    ours["body"].pop("rid", None)
    assert ours["body"].pop("temperature") == 0.5
    assert ours["body"] == plain["body"]
    own = {"x-request-id", "content-length"}
    assert {k: v for k, v in ours["headers"].items() if k not in own} == {
        k: v for k, v in plain["headers"].items() if k not in own
    }
    assert drive["messages"] == [{"role": "user", "content": "hello"}]


def test_what_the_caller_set_is_kept(drive):
    kept, merged = drive["seen"]["kept"], drive["seen"]["merged"]
    assert (kept["id"], kept["body"]["rid"], kept["body"]["top_k"]) == ("mine", "mine", 3)
    assert kept["headers"]["x-other"] == merged["headers"]["x-other"] == "1"
    assert merged["body"]["top_k"] == 3
    assert drive["seen"]["client header"]["id"] == "client"
    assert drive["seen"]["client header"]["body"]["rid"] == ID


def test_strict_hosts_get_no_unknown_field(drive):
    header, both = ["extra_headers", "messages"], ["extra_body", "extra_headers", "messages"]
    assert drive["strict"] == {
        "api.openai.com": header,
        "eu.api.openai.com": header,
        "x.openai.azure.com": header,
        "api.example.com": both,
    }


def test_undo(drive):
    assert drive["undone"]["id"] is None
    assert "rid" not in drive["undone"]["body"]
