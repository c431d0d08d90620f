"""`/docs`: all of it comes from this server, and a browser shows and sends with it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from browser import browsing, require_chromium
from servers import Start


def test_nothing_is_loaded_from_elsewhere_and_no_token_is_needed(start: Start) -> None:
    client = start(index_token="secret")
    page = client.get("/docs")
    assert page.status == 200
    named = re.findall(r'(?:src|href)="([^"]*)"', page.body.decode())
    assert len(named) == 5
    assert not [url for url in named if "//" in url]
    for path in ("/docs/page.js", "/docs/page.css", "/openapi.json"):
        assert client.get(path).status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert client.get("/docs/absent.js").status in (401, 404)


def test_a_browser_shows_every_endpoint_and_sends_to_one(start: Start, tmp_path: Path) -> None:
    program = require_chromium()
    client = start(index_token="secret")

    async def look() -> tuple[int, str, str, list[str]]:
        async with browsing(program, tmp_path / "profile") as page:
            await page.open(f"{client.url}/docs", 1200, 900)
            await page.until("document.querySelectorAll('details').length > 5")
            number = await page.run("document.querySelectorAll('details').length")
            await page.run(
                """{const fold = [...document.querySelectorAll('details')]
                    .find(one => one.querySelector('.path').textContent === '/reorder');
                fold.open = true; document.getElementById('token').value = 'secret';
                fold.querySelector('button').click(); window.fold = fold; 0}"""
            )
            await page.until("fold.querySelector('.answer').textContent.includes('order')")
            answer = await page.run("fold.querySelector('.answer').textContent")
            fields = await page.run("fold.querySelector('tbody').textContent")
            return number, answer, fields, page.problems

    number, answer, fields, problems = asyncio.run(look())
    paths = client.get("/openapi.json").json()["paths"]
    assert number == sum(map(len, paths.values()))
    assert answer.startswith("200 OK")
    assert "another block" in answer
    assert "displacement_cost" in fields
    assert not problems
