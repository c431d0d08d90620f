"""The dashboard: its feed, and its page in a real headless browser with live data."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browsing, require_chromium
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from servers import Client, serving

from contextpilot.block import Block, BlockReader, content_key
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job
from contextpilot.server.dashboard import ASSET_PATHS, make_router
from contextpilot.server.observe.metrics import Metrics
from contextpilot.server.observe.records import Record, Records, without_text
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.sync.events import Event, SyncMessage

CANARY = "canary-7f3a"
TENANT = "tenant-of-acme"
TOKEN = "index-token"
SECRETS = (CANARY, TENANT, content_key(TENANT).hex()[:8])
NAMES = ("127.0.0.1:30000", "127.0.0.1:30001")


class Traffic:
    """A pool with requests that went through it, and an application that shows it."""

    def __init__(self, token: str | None = None) -> None:
        urls = ("http://127.0.0.1:30000", "http://127.0.0.1:30001")
        self.pool = EnginePool(urls, lambda: Namespaces(10_000, 500, 10))
        self.records = Records()
        self.app = FastAPI()
        self.metrics = Metrics()
        self.app.include_router(make_router(self.pool, self.records, self.metrics))
        self._token = token
        self._chance = random.Random(3)
        self._now = time.time() - 4000
        for engine in self.pool.engines:
            engine.clock = lambda: self._now
            engine.up = True
        self._seq = 0
        if token:
            self.app.middleware("http")(self._guard)
        texts = [f"{CANARY} passage {i} " + "words " * (10 + i % 40) for i in range(120)]
        self._passages = BlockReader().read(texts)

    async def _guard(self, request: Request, call_next: Any) -> Response:
        known = request.headers.get("authorization") == f"Bearer {self._token}"
        if known or request.url.path in ASSET_PATHS:
            answer: Response = await call_next(request)
            return answer
        return JSONResponse({"error": "no"}, 401)

    def serve(self, number: int, topics: int = 8) -> None:
        """Let requests on a few topics through, as a proxy would."""
        asyncio.run(self._serve(number, topics))

    async def _serve(self, number: int, topics: int) -> None:
        head = Head((("message", content_key(CANARY)),), 60)
        for _ in range(number):
            self._now += 20
            topic = self._chance.randrange(topics) * 14
            blocks: list[Block] = self._chance.sample(self._passages[topic : topic + 14], 8)
            job = Job(TENANT, [blocks], Bounds(), head, [20])
            other = NAMES[1:] if self._chance.random() < 0.6 else NAMES[:1]  # busy with other work
            async with self.pool.lease(TENANT, blocks, head, exclude=other) as lease:
                (planned,) = lease.plan(job)
                told = without_text(planned, blocks)
                lease.confirm()
            name = lease.engine.name if lease.engine else ""
            self._report(name, planned.request_id, told.total_tokens)
            record = Record("chat", told, name, started=self._now)
            record.first_byte_s = 0.02 + (told.total_tokens - told.matched_tokens) / 4000
            record.prompt_tokens = told.total_tokens + 80
            record.cached_tokens = told.matched_tokens
            self.records.add(record)
            self.metrics.add("requests_total", api="chat", outcome="planned")
            for code in ("no-blocks", "no-evidence", "file", "no-prompt"):
                if self._chance.random() < 0.1:
                    self.metrics.add("requests_total", api="chat", outcome="unplanned")
                    self.metrics.add("unplanned_total", reason=code)

    def _report(self, engine: str, request_id: str, tokens: int) -> None:
        if engine == NAMES[1]:  # the second engine has no hook
            return
        events = [Event("cached", request_id, tokens + 60)]
        if self._chance.random() < 0.1:
            events.append(Event("truncated", request_id, tokens // 2))
        message = SyncMessage("e0", "epoch", self._seq, tuple(events), kind="vllm")
        assert self.pool.receiver.receive(message) == "ok"
        self._seq += 1


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    made = Traffic()
    made.serve(150)
    return made


def get(url: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    reply = Client(url).get(path, **headers)
    return reply.status, reply.headers, reply.body


# -- feed ------------------------------------------------------------------------------------------


def test_the_feed_tells_sums_engines_and_requests(traffic: Traffic) -> None:
    with serving(traffic.app) as url:
        status, headers, body = get(url, "/dashboard/feed")
    assert status == 200
    assert headers["cache-control"] == "no-store"
    feed = json.loads(body)
    totals = feed["totals"]
    assert totals["served"] == 150
    assert 0 < totals["plain_tokens"] < totals["live_tokens"] < totals["tokens"]
    assert totals["evicted"] > 0
    assert [engine["sync"] for engine in feed["engines"]] == ["exact", "off"]
    assert feed["measured"]["requests"] == 150
    assert 0 < feed["measured"]["cached_tokens"] < feed["measured"]["prompt_tokens"]
    slowest = [request["first_byte_s"] for request in feed["slowest"]]
    assert len(slowest) == 6
    assert slowest == sorted(slowest, reverse=True)
    worst = [r["reachable_tokens"] - r["matched_tokens"] for r in feed["worst"]]
    assert worst == sorted(worst, reverse=True)
    assert feed["worst"][0]["reason"]
    grown = [sum(step[i] for step in feed["history"]) for i in range(1, 5)]
    assert grown[:3] == [totals[n] for n in ("tokens", "live_tokens", "plain_tokens")]


def test_the_tree_can_be_looked_into(traffic: Traffic) -> None:
    with serving(traffic.app) as url:
        feed = json.loads(get(url, "/dashboard/feed")[2])
        space = feed["indexes"][NAMES[0]][0]
        place = f"/dashboard/tree?engine={NAMES[0]}&namespace={space['namespace']}"
        found = json.loads(get(url, place)[2])
        (root,) = found["branches"]
        assert root["blocks"][0]["kind"] == "head"
        assert root["branches"] > 1
        path = [block["name"] for block in root["blocks"]]
        num_blocks = len(root["blocks"]) + below(url, place, path)
        assert num_blocks == space["num_blocks"]
        for bad in ("&path=abc", "&path=" + "." * 50):
            assert get(url, place + bad)[0] == 404
        assert get(url, "/dashboard/tree?engine=other&namespace=x")[0] == 404
        assert get(url, f"/dashboard/tree?engine={NAMES[0]}&namespace=x")[0] == 404
        assert get(url, "/dashboard/tree?engine=" + "e" * 300)[0] == 422


def below(url: str, place: str, path: list[str]) -> int:
    """Blocks in the tree below a path, found by looking into every branch."""
    found = json.loads(get(url, f"{place}&path={'.'.join(path)}")[2])
    assert found["hidden"] == 0
    total = 0
    for branch in found["branches"]:
        names = [block["name"] for block in branch["blocks"]]
        assert branch["tokens"] == sum(block["tokens"] or 0 for block in branch["blocks"])
        total += len(names)
        if branch["branches"]:
            total += below(url, place, path + names)
    return total


def test_nothing_shows_prompt_text_or_tenants(traffic: Traffic) -> None:
    with serving(traffic.app) as url:
        pages = [get(url, path)[2] for path in [*ASSET_PATHS, "/dashboard/feed"]]
        space = json.loads(pages[-1])["indexes"][NAMES[0]][0]["namespace"]
        pages.append(get(url, f"/dashboard/tree?engine={NAMES[0]}&namespace={space}")[2])
        pages.append(get(url, f"/dashboard/tree?engine={NAMES[0]}&namespace={TENANT}")[2])
    for page in pages:
        for secret in SECRETS:
            assert secret.encode() not in page


def test_an_empty_pool_has_a_feed() -> None:
    pool, records = EnginePool((), lambda: Namespaces(100, 10, 2)), Records()
    app = FastAPI()
    app.include_router(make_router(pool, records, Metrics()))
    with serving(app) as url:
        feed = json.loads(get(url, "/dashboard/feed")[2])
    assert feed["history"] == feed["worst"] == feed["slowest"] == []
    assert feed["engines"][0]["real"] is False


def test_the_page_loads_nothing_from_elsewhere(traffic: Traffic) -> None:
    with serving(traffic.app) as url:
        for path in ASSET_PATHS:
            status, headers, body = get(url, path)
            assert status == 200
            assert "default-src 'none'" in headers["content-security-policy"]
            outside = body.replace(b"http://www.w3.org/2000/svg", b"")
            assert b"://" not in outside
            assert b"innerHTML" not in outside


# -- in the browser --------------------------------------------------------------------------------

DESKTOP, PHONE = (1280, 900), (390, 844)
SHOWN = "document.getElementById('main')?.hidden === false"


def browse(tmp_path: Path, url: str, size: tuple[int, int], script: Any) -> None:
    program = require_chromium()

    async def main() -> None:
        async with browsing(program, tmp_path / "profile") as page:
            await page.open(url, *size)
            await script(page)
            assert page.problems == []

    asyncio.run(asyncio.wait_for(main(), 240))


def save_to(tmp_path: Path, name: str) -> Path:
    """Where a screenshot goes: a directory named by KEEP_SCREENSHOTS keeps it."""
    return Path(os.environ.get("KEEP_SCREENSHOTS", tmp_path)) / name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
def test_the_page_shows_live_data(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    traffic = Traffic()
    traffic.serve(40)

    async def script(page: Page) -> None:
        await page.until(SHOWN)
        totals = traffic.pool.engines[0].traffic, traffic.pool.engines[1].traffic
        live, tokens = (sum(getattr(t, n) for t in totals) for n in ("live_tokens", "tokens"))
        text = "document.getElementById('{}').textContent".format
        assert await page.run(text("hit")) == f"{100 * live / tokens:.1f} %"
        before = await page.run(text("saved-hint"))
        await asyncio.to_thread(traffic.serve, 160)
        await page.until(f"{text('saved-hint')} !== {json.dumps(before)}")
        await page.until("document.querySelectorAll('#worst .request').length === 6")
        assert await page.run("document.querySelectorAll('.engine').length") == 2
        badges = "[...document.querySelectorAll('.engine .badge')].map(b => b.textContent)"
        assert await page.run(badges) == ["up", "sync exact", "up", "sync off"]
        assert await page.run("document.querySelectorAll('#chart polyline').length") == 2
        labels = "[...document.querySelectorAll('#chart text')].map(t => t.getBoundingClientRect())"
        assert await page.run(f"{labels}.every(box => box.height > 8 && box.left >= 0)")
        await look_into_the_tree(page)
        fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert await page.run(fits)
        shown = await page.run("document.documentElement.outerHTML")
        assert not [secret for secret in SECRETS if secret in shown]
        await page.screenshot(save_to(tmp_path, f"dashboard-{name}.png"), size[1] * 9 // 5)

    with serving(traffic.app) as url:
        browse(tmp_path, url, size, script)


async def look_into_the_tree(page: Page) -> None:
    """Open the first index, its head, and the first branch; the next refresh keeps them open."""
    await page.run("document.querySelector('#indexes > details > summary').click()")
    await page.until("document.querySelector('#indexes details details')")
    await page.run("document.querySelector('#indexes details details > summary').click()")
    await page.until("document.querySelectorAll('#indexes details details details').length > 1")
    await page.run("document.querySelector('#indexes details details details > summary').click()")
    status = await page.run("document.getElementById('status').textContent")
    await page.until(f"document.getElementById('status').textContent !== {json.dumps(status)}")
    assert await page.run("document.querySelectorAll('#indexes details[open]').length") == 3
    assert await page.run("document.querySelectorAll('#indexes .block').length") > 8


def test_the_page_asks_for_the_token(tmp_path: Path) -> None:
    traffic = Traffic(TOKEN)
    traffic.serve(10)

    async def script(page: Page) -> None:
        await page.until("!document.getElementById('login').hidden")
        assert not await page.run(SHOWN)
        page.problems.clear()  # the browser logs the 401
        await page.run(
            f"document.getElementById('token').value = {json.dumps(TOKEN)};"
            "document.querySelector('#login button').click()"
        )
        await page.until(SHOWN)

    with serving(traffic.app) as url:
        assert get(url, "/dashboard/feed")[0] == 401
        browse(tmp_path, url, DESKTOP, script)


@pytest.mark.slow
def test_the_page_says_when_the_server_is_gone(tmp_path: Path) -> None:
    traffic = Traffic()
    traffic.serve(5)
    context = serving(traffic.app)
    url = context.__enter__()
    stopped = []

    async def script(page: Page) -> None:
        await page.until(SHOWN)
        stopped.append(await asyncio.to_thread(context.__exit__, None, None, None))
        await page.until("document.getElementById('status').className === 'stale'")
        assert await page.run(SHOWN)
        page.problems.clear()  # the browser logs the refused connection

    try:
        browse(tmp_path, url, DESKTOP, script)
    finally:
        if not stopped:
            context.__exit__(None, None, None)
