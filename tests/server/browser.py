"""A real headless Chromium, driven over its DevTools port."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from requirement import absent

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_START_S = 60.0


def require_chromium() -> str:
    """Return Chromium's path; skip without one, fail where engines are required."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        absent("no chromium: install Debian's package of that name")
    return found


class Page:
    """One page of the browser.

    Attributes:
        problems: errors that scripts raised or the console showed.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())
        self.problems: list[str] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        """Run a DevTools command and return its result."""
        self._number += 1
        reply = self._replies[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        return await asyncio.wait_for(reply, 30)

    async def open(self, url: str, width: int, height: int) -> None:
        """Show a page in a window of this size."""
        mobile = width < 600
        await self.resize(width, height, mobile)
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        await self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    async def resize(self, width: int, height: int, mobile: bool) -> None:
        """Take another size; a phone has a viewport of its own."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if mobile else 1,
            mobile=mobile,
        )

    async def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, script: str, seconds: float = 30.0) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not await self.run(f"Boolean({script})"):  # a node has no value of its own
            assert time.monotonic() < deadline, f"waited in vain for {script}"
            await asyncio.sleep(0.05)

    async def screenshot(self, path: Path, max_height: int) -> None:
        """Save the page, or the top of it, as a PNG."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {
            "x": 0,
            "y": 0,
            "width": size["width"],
            "height": min(size["height"], max_height),
            "scale": 1,
        }
        shot = await self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    async def close(self) -> None:
        """Let go of the page."""
        self._reader.cancel()
        await self._socket.close()

    async def _read(self) -> None:
        async for message in self._socket:
            content = message.json()
            if "id" in content:
                self._answer(content)
            elif content["method"] == "Runtime.exceptionThrown":
                self.problems.append(str(content["params"]["exceptionDetails"]))
            elif content["method"] == "Log.entryAdded":
                self.problems.append(str(content["params"]["entry"]))

    def _answer(self, content: dict[str, Any]) -> None:
        reply = self._replies.pop(content["id"])
        if reply.done():
            return
        if "error" in content:
            reply.set_exception(RuntimeError(str(content["error"])))
        else:
            reply.set_result(content["result"])


@contextlib.asynccontextmanager
async def browsing(program: str, profile: Path) -> AsyncIterator[Page]:
    """Start a browser with an empty profile; yields its one page."""
    process = subprocess.Popen(
        [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = await _port(profile, process)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                pages = [one for one in await reply.json() if one["type"] == "page"]
            url = pages[0]["webSocketDebuggerUrl"]
            async with session.ws_connect(url, max_msg_size=0) as socket:
                page = Page(socket)
                try:
                    yield page
                finally:
                    await page.close()
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _port(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Return the DevTools port, which the browser writes into its profile."""
    deadline = time.monotonic() + _START_S
    file = profile / "DevToolsActivePort"
    while True:
        if file.exists() and (text := file.read_text()).count("\n"):
            return text.split("\n")[0]
        assert process.poll() is None, f"chromium ended with {process.returncode}"
        assert time.monotonic() < deadline, "chromium opened no DevTools port"
        await asyncio.sleep(0.05)
