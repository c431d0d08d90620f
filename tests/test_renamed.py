"""What programs and clients of the reference implementation say is understood."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

import contextpilot as cp
from contextpilot.default import drop_default_pilot
from contextpilot.server.proxy.controls import ControlError, read_controls
from contextpilot.server.settings import Settings
from contextpilot.server.variables import unread

A, B, C = ("a " * 90, "b " * 90, "c " * 90)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    drop_default_pilot()
    yield
    drop_default_pilot()


@pytest.mark.parametrize("one", [cp, cp.ContextPilot()])
def test_documents_by_their_older_name(one: object) -> None:
    messages = one.optimize(docs=[A, B], query="q?")  # type: ignore[attr-defined]
    assert messages[-1]["content"].index(A) < messages[-1]["content"].index("q?")
    batch, order = one.optimize_batch(  # type: ignore[attr-defined]
        all_docs=[[A, B], [C]], all_queries=["q?", "r?"]
    )
    assert [("q?", "r?")[n] in batch[i][-1]["content"] for i, n in enumerate(order)] == [True] * 2


def test_both_names_at_once_are_an_error() -> None:
    optimize = cp.ContextPilot().optimize
    with pytest.raises(TypeError, match="docs is contexts here"):
        optimize(docs=[A], contexts=[A], query="q?")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="contexts"):
        optimize([A], docs=[A], query="q?")  # type: ignore[call-arg,misc]


def test_help_knows_the_new_names() -> None:
    assert "contexts" in inspect.signature(cp.ContextPilot.optimize).parameters
    assert "docs" not in inspect.signature(cp.ContextPilot.optimize).parameters


def test_reordered_blocks_are_recorded_for_a_conversation() -> None:
    pilot = cp.ContextPilot()
    pilot.reorder([[A, B]], conversation_id="user-1")
    found = pilot.deduplicate([B, C], conversation_id="user-1")
    assert found.overlapping_blocks == [B]
    assert found.new_blocks == [C]
    with pytest.raises(cp.UnknownConversationError):
        pilot.deduplicate([B], conversation_id="user-2")
    with pytest.raises(TypeError, match="conversation_id"):
        pilot.reorder([A], conversation_id=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "value", "field", "meant"),
    [
        (b"mode", b"xml_tag", "mode", "xml"),
        (b"mode", b"json_results", "mode", "json"),
        (b"mode", b"Markdown_Header", "mode", "markdown"),
        (b"mode", b"numbered", "mode", "numbered"),
        (b"scope", b"tool_results", "scope", "tool"),
        (b"enabled", b"no", "enabled", False),
        (b"enabled", b"yes", "enabled", True),
    ],
)
def test_older_header_values(header: bytes, value: bytes, field: str, meant: object) -> None:
    read = read_controls([(b"x-contextpilot-" + header, value)], Settings())
    assert getattr(read, field) == meant


def test_what_is_neither_old_nor_new_is_named() -> None:
    with pytest.raises(ControlError, match="X-ContextPilot-Mode must be one of auto, xml"):
        read_controls([(b"x-contextpilot-mode", b"xml-tag")], Settings())


def test_older_variables_lead_to_ours() -> None:
    assert unread({"CONTEXTPILOT_INFER_API_URL": "x", "CONTEXTPILOT_INDEX_URL": "y"}) == [
        ("CONTEXTPILOT_INFER_API_URL", "CONTEXTPILOT_ENGINE")
    ]
