"""What the dashboard says of requests: real ones through the real proxy, planned and not."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browsing, require_chromium
from servers import Client, Scripted, serving

from contextpilot.prompt.extract import RULES
from contextpilot.server.observe.reasons import REFUSED, UNPLANNED, Refusals, counted, why_unplanned
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

DOCUMENTS = [
    f"The {name} stands in the {name} house. " * 12 for name in ("green", "blue", "tall", "old")
]
TAGGED = "".join(f"<document>{text}</document>" for text in DOCUMENTS)
LISTING = "\n".join(f"[{n}] {text}" for n, text in enumerate(DOCUMENTS, 1))
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def chat(client: Client, text: str, **headers: str) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return client.post("/v1/chat/completions", body, **headers).status


def send_all(client: Client) -> None:
    """Send requests of every sort that the page tells apart."""
    for name in ("door", "roof", "garden", "gate", "wall", "stair"):
        question = f"Where is the {name}?"
        assert chat(client, f"<documents>{TAGGED}</documents>\n\n{question}") == 200
    for _ in range(3):
        assert chat(client, "Good morning!") == 200
    for _ in range(2):
        assert chat(client, f"Compare these, then go on.\n\n{LISTING}\n\nThank you.") == 200
    assert chat(client, TAGGED, x_contextpilot_enabled="false") == 200
    assert client.request("POST", "/v1/chat/completions", b"no json").status == 200
    assert client.get("/v1/models").status == 200
    assert chat(client, TAGGED, x_contextpilot_mode="unheard-of") == 400
    assert client.post("/reorder", {"contexts": [[text] for text in DOCUMENTS]}).status == 200


@pytest.fixture
def server() -> Iterator[str]:
    with (
        serving(Scripted()) as engine,
        serving(make_server(Settings(port=0, engine=(engine,), kind="vllm"))) as url,
    ):
        yield url


def feed(url: str) -> dict[str, Any]:
    found: dict[str, Any] = Client(url).get("/dashboard/feed").json()["requests"]
    return found


def test_requests_are_counted_with_reason_and_remedy(server: str) -> None:
    send_all(Client(server))
    told = feed(server)
    sums = {name: told[name] for name in ("planned", "unplanned", "refused", "no_prompt")}
    assert sums == {"planned": 6, "unplanned": 7, "refused": 1, "no_prompt": 1}
    assert told["applications"] == len(DOCUMENTS)
    reasons = {one["code"]: one["count"] for one in told["why_unplanned"]}
    assert reasons.pop("no-blocks") == 3
    assert reasons.pop("switched-off") == reasons.pop("no-json") == 1
    assert sum(reasons.values()) == 2
    assert reasons.keys() <= RULES.keys()
    (refused,) = told["why_refused"]
    assert refused == {"code": "bad-request", "count": 1, **REFUSED["bad-request"]._asdict()}
    text = Client(server).get("/metrics").body.decode()
    assert 'contextpilot_unplanned_total{reason="no-blocks"} 3' in text


def test_without_an_engine_requests_are_refused_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "contextpilot.server")
    with serving(make_server(Settings(port=0))) as url:
        for _ in range(3):
            assert chat(Client(url), TAGGED) == 503
        assert [one["code"] for one in feed(url)["why_refused"]] == ["no-engine"]
    said = [text for text in caplog.messages if "refused" in text]
    assert said == ["a request was refused (503): no engine is configured; start with --engine "
                    "URL, or POST /engines"]  # fmt: skip


def test_refusals_are_said_again_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(quiet_s=1e9)
    with caplog.at_level(logging.WARNING, "contextpilot.server"):
        for _ in range(4):
            refusals.note("too-large", 413)
        refusals._next.clear()
        refusals.note("too-large", 413)
        refusals.note("no-engine", 503)
    starts = [text.partition(":")[0] for text in caplog.messages]
    assert starts == [
        "a request was refused (413)",
        "4 requests were refused (413)",
        "a request was refused (503)",
    ]


@pytest.mark.parametrize("code", [*UNPLANNED, *RULES])
def test_every_code_has_words_and_a_remedy(code: str) -> None:
    words, remedy = why_unplanned(code)
    assert words
    assert remedy
    assert counted({code: 2}, is_refused=False)[0]["count"] == 2


def browse(tmp_path: Path, url: str, name: str, script: Callable[[Page], Any]) -> None:
    program = require_chromium()

    async def main() -> None:
        async with browsing(program, tmp_path / "profile") as page:
            await page.open(url, *SIZES[name])
            await page.until("document.getElementById('main')?.hidden === false")
            await script(page)
            fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert await page.run(fits)
            assert page.problems == []

    asyncio.run(asyncio.wait_for(main(), 240))


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_the_page_tells_planned_from_unplanned(tmp_path: Path, server: str, name: str) -> None:
    text = "document.getElementById('{}').innerText".format

    async def script(page: Page) -> None:
        verdict = await page.run(text("verdict"))
        assert verdict.startswith("No request has come yet: point a client at http://127.0.0.1")
        await asyncio.to_thread(send_all, Client(server))
        await page.until(f"{text('counts')}.includes('not planned')")
        assert "Most requests are not planned" in await page.run(text("verdict"))
        counts = " ".join((await page.run(text("counts"))).split())
        assert counts == (
            "6 planned 7 not planned 1 refused 4 planned for applications 1 without a prompt"
        )
        reasons = await page.run(text("reasons"))
        for code in ("no-blocks", "switched-off", "no-json"):
            assert UNPLANNED[code].words in reasons
            assert f"What to do: {UNPLANNED[code].remedy}" in reasons
        assert REFUSED["bad-request"].words in reasons
        widths = "[...document.querySelectorAll('#shares i')].map(p => p.getBoundingClientRect())"
        assert await page.run(f"{widths}.every(box => box.width > 3 && box.height > 8)")
        assert "CONTEXTPILOT_INDEX_URL=http" in await page.run(text("engines"))
        await page.screenshot(tmp_path / f"traffic-{name}.png", 4000)

    browse(tmp_path, server, name, script)


@pytest.mark.slow
def test_the_page_of_an_index_alone_says_so(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        await page.until("document.querySelector('.engine .hint')")
        shown = await page.run("document.getElementById('engines').innerText")
        assert "No engine is configured: requests to /v1 are refused" in shown
        assert "sync" not in shown

    with serving(make_server(Settings(port=0))) as url:
        browse(tmp_path, url, "phone", script)


def test_the_feed_holds_no_text_of_a_request(server: str) -> None:
    send_all(Client(server))
    assert "stands in" not in json.dumps(feed(server))
