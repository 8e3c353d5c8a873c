"""A headless Chromium for tests, driven by the DevTools protocol over one WebSocket."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import IO, Any, Final

from websockets.asyncio.client import ClientConnection, connect

TIMEOUT_S: Final = 90.0
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
_KEY_CODES: Final = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip
_TEXTS: Final = {" ": " ", "Enter": "\r"}

_WAIT: Final = r"""
new Promise((resolve, reject) => {
  const end = performance.now() + %d;
  const look = () => {
    let found = null;
    try { found = %s; } catch (error) { found = null; }
    if (found) return resolve(found);
    if (performance.now() < end) return setTimeout(look, 20);
    const shown = document.body.innerText.replace(/\s+/g, ' ').slice(-1500);
    reject(new Error('not in time: ' + %s + '; the page shows: ' + shown));
  };
  look();
})
"""


class PageError(Exception):
    """A script in the page failed, or what a test waits for has not come."""


def find_chromium() -> str | None:
    """Return the path of a Chromium on this machine, or None."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser: Final = browser
        self._session: Final = session
        self.problems: Final[list[str]] = []
        """Errors in the page's console, uncaught exceptions and violations of its content security policy."""

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol in this tab."""
        return await self._browser.call(method, self._session, **params)

    async def evaluate(self, script: str) -> Any:
        """Return the value of an expression, awaited if it is a promise. Raises PageError."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if failure := answer.get("exceptionDetails"):
            raise PageError(failure.get("exception", {}).get("description", failure["text"]))
        return answer["result"].get("value")

    async def wait_for(self, script: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Return the first true value of an expression. Raises PageError if there is none in time."""
        return await self.evaluate(_WAIT % (timeout_s * 1000, script, json.dumps(script)))

    async def texts(self, selector: str) -> list[str]:
        """Return the text of every element that matches."""
        found = await self.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")
        return list(found)

    async def open(self, url: str) -> None:
        """Go to a URL and wait until its scripts have run."""
        await self.call("Page.navigate", url=url)
        await self.wait_for(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    async def reload(self) -> None:
        """Load the page again and wait until its scripts have run."""
        await self.evaluate("window.isBefore = true")
        await self.call("Page.reload")
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                with suppress(PageError):  # between two pages there is none to ask
                    if await self.evaluate("!window.isBefore && document.readyState === 'complete'"):
                        return

    async def click(self, selector: str) -> None:
        """Click in the middle of the first element that matches."""
        x, y = await self._middle(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def hover(self, selector: str) -> None:
        """Move the pointer to the middle of the first element that matches."""
        x, y = await self._middle(selector)
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def type(self, text: str) -> None:
        """Type into the element that has the focus."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, *, ctrl: bool = False) -> None:
        """Press and release a key."""
        code = {"key": key, "windowsVirtualKeyCode": _KEY_CODES[key], "modifiers": 2 if ctrl else 0}
        text = {"text": _TEXTS[key]} if key in _TEXTS and not ctrl else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **code, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    async def screenshot(self) -> bytes:
        """Return what the tab shows as a PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])

    async def _middle(self, selector: str) -> tuple[float, float]:
        box = await self.wait_for(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'nearest', behavior: 'instant'}); const b = e.getBoundingClientRect(); "
            "return b.width && !e.disabled && [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        return float(box[0]), float(box[1])


class Browser:
    """A running Chromium; use `open_browser`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection: Final = connection
        self._ids: Final = itertools.count(1)
        self._answers: Final[dict[int, asyncio.Future[dict[str, Any]]]] = {}
        self._pages: Final[dict[str, Page]] = {}
        self._contexts: Final[list[str]] = []

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol. Raises PageError if it is refused."""
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        await self._connection.send(json.dumps(message))
        async with asyncio.timeout(TIMEOUT_S + 5):
            return await answer

    async def new_page(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """Open a tab with nothing stored; it asks for little motion, as it shares the processor with the worker."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        self._contexts.append(context)
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        await page.call("Emulation.setEmulatedMedia", features=features)
        await page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        # Tabs behind others draw nothing, and their timers are slow.
        await page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        return page

    async def close_pages(self) -> None:
        """Close all tabs, and forget what they have stored."""
        for context in self._contexts:
            await self.call("Target.disposeBrowserContext", browserContextId=context)

    async def listen(self) -> None:
        """Hand every message to whoever waits for it, until the browser ends."""
        async for message in self._connection:
            self._receive(json.loads(message))

    def _receive(self, message: dict[str, Any]) -> None:
        answer = self._answers.pop(message.get("id", 0), None)
        if answer is not None and not answer.done():
            if "error" in message:
                answer.set_exception(PageError(message["error"]["message"]))
            else:
                answer.set_result(message["result"])
        elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
            page.problems.extend(_problems(message))


def _problems(message: dict[str, Any]) -> list[str]:
    params = message["params"]
    if message["method"] == "Runtime.exceptionThrown":
        details = params["exceptionDetails"]
        return [details.get("exception", {}).get("description", details["text"])]
    # Network errors belong to lost connections, which tests make on purpose.
    if message["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
        entry = params["entry"]
        return [] if entry["source"] == "network" else [f"{entry['text']} {entry.get('url', '')}"]
    return []


@contextmanager
def running_chromium(program: str) -> Iterator[str]:
    """Run a headless Chromium without a profile for the block; yield the address of its DevTools protocol."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            program,
            "--headless=new",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium's sandbox refuses to run as root
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                yield _address(process.stderr)
            finally:
                process.kill()


@asynccontextmanager
async def open_browser(address: str) -> AsyncIterator[Browser]:
    """Yield the browser at this address; close its tabs afterwards, with all that they have stored."""
    async with connect(address, max_size=None, open_timeout=TIMEOUT_S) as connection:
        browser = Browser(connection)
        listening = asyncio.create_task(browser.listen())
        try:
            yield browser
            await browser.close_pages()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def _address(stderr: IO[str]) -> str:
    lines = []
    for line in stderr:
        lines.append(line)
        if line.startswith("DevTools listening on "):
            # What Chromium writes from now on must not fill the pipe.
            threading.Thread(target=stderr.read, daemon=True).start()
            return line.split()[-1]
    raise RuntimeError(f"Chromium ended before it was ready: {''.join(lines)}")
