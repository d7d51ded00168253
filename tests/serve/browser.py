"""Debian's Chromium without a window, driven over its own protocol by a pair of pipes: no driver, no socket, nothing to download.

https://chromedevtools.github.io/devtools-protocol/ ; `--remote-debugging-pipe`: messages are JSON, a NUL after each, on the
descriptors 3 and 4.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 90.0  # two busy processors under nice
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # tests run as root in containers; what is shown is ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40}


class BrowserError(Exception):
    """The browser said no, or nothing."""


class Browser:
    """One Chromium; `page()` gives a tab with storage of its own."""

    def __init__(self, folder: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # its descriptors have to be 3 and 4: a shell moves them there
        script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out} 2>"$V2C_LOG"'
        found = shutil.which("chromium")
        assert found, "chromium is missing: ./run test installs it"
        self._process = subprocess.Popen(
            ["bash", "-c", script, found, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "HOME": str(folder), "V2C_LOG": str(folder / "log")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events that come meanwhile are kept."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE_S
        while True:
            told = self._read(until)
            if told.get("id") == number:
                if "error" in told:
                    raise BrowserError(f"{method}: {told['error']}")
                answer: dict[str, Any] = told["result"]
                return answer
            self.events.append(told)

    def _read(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            data = os.read(self._in, 1 << 20) if ready else b""
            if not data:
                raise BrowserError("Chromium says nothing more")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told

    @contextmanager
    def page(self, width: int = 1400, height: int = 900, dark: bool = False) -> "Iterator[Page]":
        """A tab of that size, with cookies of its own."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        made = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            made.ask(f"{domain}.enable")
        made.size(width, height)
        made.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        try:
            yield made
        finally:
            self.ask("Target.disposeBrowserContext", browserContextId=context)

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._out)
        os.close(self._in)


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **parameters)

    def size(self, width: int, height: int) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    def open(self, address: str) -> None:
        self.ask("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.protocol !== 'about:'")

    def js(self, expression: str) -> Any:
        """What the expression comes to, promises awaited; BrowserError when it throws. `$` and `$$` find one and all."""
        whole = f"(($, $$) => ({expression}))((it) => document.querySelector(it), (it) => [...document.querySelectorAll(it)])"
        told = self.ask("Runtime.evaluate", expression=whole, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise BrowserError(f"{expression}: {told['exceptionDetails'].get('exception', {}).get('description')}")
        return told["result"].get("value")

    def until(self, expression: str, within: float = PATIENCE_S) -> Any:
        """The expression's value, once it is true."""
        end = time.monotonic() + within
        while True:
            try:
                value = self.js(expression)
            except BrowserError as error:  # the page may be on its way to another
                value, why = None, str(error)
            else:
                why = ""
            if value:
                return value
            if time.monotonic() > end:
                raise BrowserError(f"never true: {expression} {why}")
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.js(f"$({json.dumps(selector)}).textContent"))

    def click(self, selector: str) -> None:
        self.js(f"$({json.dumps(selector)}).click()")

    def put(self, selector: str, value: str) -> None:
        """Gives a field a value, as somebody who chose it."""
        how = "for (const kind of ['input', 'change']) it.dispatchEvent(new Event(kind, { bubbles: true }))"
        self.js(f"((it) => {{ it.value = {json.dumps(value)}; {how} }})($({json.dumps(selector)}))")

    def press(self, key: str, *, shift: bool = False) -> None:
        """A key, as a keyboard would."""
        code = KEYS[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        text = {"Enter": "\r", " ": " "}.get(key)
        self.ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **common, **({"text": text} if text else {}))
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        self.ask("Input.insertText", text=text)

    def picture(self, path: Path, whole: bool = False) -> None:
        """A PNG of what is seen, or of the whole page."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def tree(self) -> list[dict[str, Any]]:
        """What a screen reader is given, nodes that are left out excluded."""
        nodes: list[dict[str, Any]] = self.ask("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node.get("ignored")]

    def complaints(self) -> list[str]:
        """What went to the console: errors of scripts, refusals of the policy."""
        self.js("0")  # whatever was on its way is here now
        told = [e for e in self._browser.events if e.get("sessionId") == self._session]
        found = [e["params"]["exceptionDetails"]["text"] for e in told if e["method"] == "Runtime.exceptionThrown"]
        entries = [e["params"]["entry"] for e in told if e["method"] == "Log.entryAdded"]
        return found + [f"{entry['text']} {entry.get('url', '')}" for entry in entries if entry["level"] == "error"]
