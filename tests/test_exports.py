"""The public surface, and what an import costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import contextpilot as cp

ROOT = Path(cp.__file__).parent


def test_public_names() -> None:
    assert cp.__all__ == [
        "AsyncContextPilot",
        "ContextPilot",
        "ContextPilotError",
        "Image",
        "UnknownConversationError",
        "deduplicate_messages",
        "frames",
        "optimize",
        "optimize_batch",
        "plan_stream",
        "rewrite",
    ]
    for name in cp.__all__:
        assert getattr(cp, name).__module__.startswith("contextpilot.")
    assert {*cp.__all__} <= {*dir(cp)}
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = cp.no_such_name


def test_public_methods_of_the_pilot_are_documented() -> None:
    public = {n for n in vars(cp.ContextPilot) if not n.startswith("_")}
    assert {
        "optimize",
        "optimize_batch",
        "reorder",
        "deduplicate",
        "explain",
        "stats",
        "reset",
    } <= public
    assert all(inspect.getdoc(getattr(cp.ContextPilot, name)) for name in public)


def test_signatures_that_callers_rely_on() -> None:
    def names(function: object) -> list[str]:
        return list(inspect.signature(function).parameters)  # type: ignore[arg-type]

    assert names(cp.ContextPilot)[0] == "use_gpu"
    optimize = names(cp.ContextPilot.optimize)
    assert optimize[:3] == ["self", "contexts", "query"]
    assert {"conversation_id", "system_instruction", "history", "namespace"} < {*optimize}
    assert names(cp.ContextPilot.optimize_batch)[:3] == ["self", "all_contexts", "queries"]
    assert names(cp.ContextPilot.reorder)[:2] == ["self", "contexts"]
    assert {"conversation_id", "hint_template"} < {*names(cp.ContextPilot.deduplicate)}
    assert names(cp.optimize)[:2] == ["contexts", "query"]
    assert names(cp.optimize_batch)[:2] == ["all_contexts", "queries"]
    assert names(cp.rewrite)[:1] == ["messages"]


def modules_after(code: str) -> set[str]:
    program = code + "\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_pulls_in_nothing_heavy() -> None:
    bare = modules_after("")
    assert modules_after("import contextpilot") - bare <= {"contextpilot", "__future__"} | {
        *sys.stdlib_module_names
    }
    heavy = {"numpy", "scipy", "json", "http", "asyncio", "logging"}
    assert not (modules_after("import contextpilot") - bare) & heavy


def test_commands_are_read_and_pilots_made_without_what_only_some_of_them_need() -> None:
    needed_later = {"fastapi", "prometheus_client", "pydantic", "requests", "scipy", "uvicorn"}
    parsed = "import contextpilot.cli\ncontextpilot.cli.build_parser()"
    for code in (parsed, "import contextpilot as cp\ncp.ContextPilot()"):
        assert not modules_after(code) & needed_later
    shared = "import contextpilot as cp\ncp.ContextPilot(index_url='http://127.0.0.1:9')"
    assert "requests" in modules_after(shared)


def test_a_pilot_plans_one_request_without_numpy_and_scipy() -> None:
    code = (
        "import contextpilot as cp\npilot = cp.ContextPilot()\n"
        "pilot.optimize(['a', 'b'], 'q')\npilot.reorder(['a'])"
    )
    assert not modules_after(code) & {"numpy", "scipy"}
    batch = "\npilot.optimize_batch([['a'], ['a']], ['p', 'q'])"
    assert {"numpy", "scipy"} <= modules_after(code + batch)
