"""Images among the blocks of the index API."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from linked_images import linked
from servers import Client, Start

import contextpilot as cp
from contextpilot.client import Client as IndexClient

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def part(number: int, api: str = "chat") -> dict[str, Any]:
    return linked(f"page-{number}.png", api)


@pytest.fixture
def client(start: Start) -> Client:
    return start(engine=("http://127.0.0.1:1",), displacement_cost=0)


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
def test_parts_come_out_as_they_are(client: Client, api: str) -> None:
    def parts(*numbers: int) -> list[dict[str, Any]]:
        contexts = [part(number, api) for number in numbers]
        body = {"contexts": contexts, "query": "q", "image_api": api}
        reply = client.post("/optimize", body)
        assert reply.status == 200, reply.body
        content = reply.json()["messages"][-1]["content"]
        return [one for one in content if "image" in one["type"]]

    assert parts(0, 1) == [part(0, api), part(1, api)]
    assert parts(2, 1, 0) == [part(0, api), part(1, api), part(2, api)]


def test_labels_times_and_texts_beside_images(client: Client) -> None:
    data = "data:image/png;base64," + base64.b64encode(PNG).decode()
    contexts = [
        {"image": part(1), "label": "Page 1", "tokens": 500},
        {"image": data, "time": 2.5},
        {"image": [{"type": "text", "text": "a plan"}, part(3)], "size": [640, 480]},
        {"text": "A text that was found. " * 5},
    ]
    reply = client.post("/optimize", {"contexts": contexts, "query": "why?"})
    assert reply.status == 200, reply.body
    content = reply.json()["messages"][-1]["content"]
    shown = [one["image_url"]["url"] for one in content if one["type"] == "image_url"]
    assert shown == [part(1)["image_url"]["url"], data, part(3)["image_url"]["url"]]
    texts = "".join(one.get("text", "") for one in content)
    for words in ("Page 1", "0:02.5", "a plan", "A text that was found.", "why?"):
        assert words in texts


def test_deduplicate_gives_images_back_as_they_came(client: Client) -> None:
    words = {"text": "A text that was found. " * 5}
    told = {"contexts": [part(0), words], "query": "q", "conversation_id": "c"}
    assert client.post("/optimize", told).status == 200
    asked = [part(0), words, {"image": part(1), "label": "Page 1"}]
    reply = client.post("/deduplicate", {"contexts": asked, "conversation_id": "c"}).json()
    assert reply["new_blocks"] == [asked[0], asked[2]]
    assert reply["overlapping_blocks"] == [words]


def test_reorder_gives_back_the_objects_that_came(client: Client) -> None:
    first = [{"image": part(0), "label": "a"}, part(1)]
    client.post("/reorder", {"contexts": first})
    asked = [part(2), part(1), first[0]]
    for stateless in (False, True):
        reply = client.post("/reorder", {"contexts": asked, "stateless": stateless}).json()
        (ranks,), (ordered,) = reply["ranks"], reply["contexts"]
        assert ordered == [asked[rank] for rank in ranks]
    reply = client.post("/reorder", {"contexts": [asked, [part(2), "text"]]})
    assert reply.status == 422, "kinds of blocks do not mix but with images and texts"
    batch = client.post("/optimize_batch", {"all_contexts": [asked, asked], "queries": ["a", "b"]})
    assert batch.status == 200, batch.body


def test_a_repeat_in_a_conversation_becomes_a_reference(client: Client) -> None:
    history = [{"role": "user", "content": [part(0)]}, {"role": "assistant", "content": "Red."}]
    body = {"contexts": [part(0), part(1)], "query": "And now?", "history": history}
    told = client.post("/optimize", body).json()
    assert told["hinted"] == [0]
    assert "The same image as image 1" in json.dumps(told["messages"][-1])


def test_the_client_sends_images(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "plan.png"
    file.write_bytes(PNG)
    images = [
        cp.Image(file, label="Plan", tokens=300),
        cp.Image("https://example.org/a.png", uuid="one", detail="low", size=(64, 64)),
        cp.Image([{"type": "text", "text": "a map"}, part(3)], time=4.0),
    ]
    here = cp.ContextPilot(index_url="").optimize(images, "q")
    with IndexClient(client.url) as remote:
        told = remote.optimize(images, "q")
        assert told["messages"] == [*here]
        ordered = remote.reorder(images)["contexts"]
        assert [one.get("label") for one in ordered[0]] == ["Plan", None, None]
        with pytest.raises(TypeError, match="object cannot be written as JSON"):
            remote.optimize([object()], "q")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"image": "/etc/hostname"}, "contexts[0][0].image must be a content part"),
        ({"image": "file:///etc/hostname"}, "files are not read here"),
        ({"image": {"type": "text", "text": "a"}}, "contexts[0][0].image must be"),
        ({"image": part(0), "pages": 3}, "contexts[0][0].pages is unknown"),
        ({"image": part(0), "time": -1}, "contexts[0][0]: time must be"),
        ({"image": part(0), "label": 7}, "label"),
        ({"image": None}, "contexts[0][0].image"),
        ({"type": "image_url"}, "contexts[0][0] must be a content part"),
        (part(0, "messages"), "pass image_api='messages'"),
    ],
    ids=["path", "file", "no-image", "unknown", "time", "label", "null", "empty", "other-api"],
)
def test_what_is_no_image_is_an_error_that_names_it(
    client: Client, tmp_path: Path, block: Any, words: str
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    for one in (block, {"image": str(tmp_path / "a.png")}):
        reply = client.post("/optimize", {"contexts": [one], "query": "q"})
        assert reply.status == 422, reply.body
        if one is block:
            assert words in reply.json()["error"]["message"]
