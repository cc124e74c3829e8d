"""A real browser: headless Chromium, driven by its DevTools protocol over a pipe.

In blocking code::

    with Browser() as browser:
        page = browser.open(url)
        page.until("document.title !== ''")

What is waited for is looked for whenever the page changes, by the page itself.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from typing import Any, Self

from attrs import define, field

_TIMEOUT_S = 60.0
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--hide-scrollbars", "--force-color-profile=srgb", "--lang=en"),
)
#: Resolves when CONDITION holds, which is looked at when anything in the document changes.
_UNTIL = """
new Promise((done) => {
  const look = () => {
    if (!(CONDITION)) return false;
    observer.disconnect();
    done(true);
    return true;
  };
  const observer = new MutationObserver(look);
  if (!look()) observer.observe(document, {
    subtree: true, childList: true, characterData: true, attributes: true,
  });
})
"""


class BrowserError(Exception):
    """The browser failed to execute a command."""


@define(eq=False)
class _Result:
    """The result of a command."""

    come: threading.Event = field(factory=threading.Event)
    message: dict[str, Any] = field(factory=dict)


class Browser:
    """Runs inside a ``with``, with nothing left of it afterwards."""

    def __init__(self) -> None:
        program = shutil.which("chromium")
        assert program is not None, "chromium is not installed (Debian package: chromium)"
        self._directory = tempfile.mkdtemp(prefix="ghmirror-browser-")
        to_it, self._to = os.pipe()
        self._from, from_it = os.pipe()
        # the descriptors have to be these two
        redirect = f'exec "$@" 3<&{to_it} 4>&{from_it}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirect, "-", program, *_FLAGS, f"--user-data-dir={self._directory}"],
            pass_fds=(to_it, from_it),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_it)
        os.close(from_it)
        self._results: dict[int, _Result] = {}
        self._listeners: dict[str, Callable[[str, dict[str, Any]], object]] = {}
        self._lock = threading.Lock()
        self._last = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _read(self) -> None:
        begun = b""
        while piece := os.read(self._from, 1 << 20):
            *messages, begun = (begun + piece).split(b"\0")
            for each in messages:
                self._take(json.loads(each))
        with self._lock:
            for pending in self._results.values():
                pending.message = {"error": {"message": "the browser has ended"}}
                pending.come.set()

    def _take(self, message: dict[str, Any]) -> None:
        with self._lock:
            pending = self._results.pop(message.get("id", 0), None)
            listener = self._listeners.get(message.get("sessionId", ""))
        if pending is not None:
            pending.message = message
            pending.come.set()
        elif listener is not None and "method" in message:
            listener(message["method"], message["params"])

    def call(self, method: str, session: str = "", /, **params: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        pending = _Result()
        with self._lock:
            self._last += 1
            number = self._last
            self._results[number] = pending
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        if not pending.come.wait(_TIMEOUT_S):
            raise BrowserError(f"no response to {method}: {params}")
        if "error" in pending.message:
            raise BrowserError(f"{method}: {pending.message['error']['message']}")
        result: dict[str, Any] = pending.message["result"]
        return result

    def open(self, url: str, **how: Any) -> Page:
        """Open a page in a tab of its own; see `Page`."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        self._listeners[session] = page.take
        for domain in ("Page", "Network", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.look(**how)
        page.call("Page.navigate", url=url)
        assert page.loaded.wait(_TIMEOUT_S), f"{url} is never loaded"
        return page


@define(eq=False)
class Page:
    """A tab: its requests, and its logged errors."""

    browser: Browser
    session: str
    target: str
    #: All requested URLs.
    requested_urls: list[str] = field(factory=list)
    #: What the browser has logged: violations of the policy, failures, warnings, exceptions.
    complaints: list[str] = field(factory=list)
    loaded: threading.Event = field(factory=threading.Event)

    def take(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self.loaded.set()
            case "Network.requestWillBeSent":
                self.requested_urls.append(params["request"]["url"])
            case "Log.entryAdded":
                entry = params["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(params["args"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to this tab, and return its result."""
        return self.browser.call(method, self.session, **params)

    def look(
        self,
        *,
        width: int = 1280,
        height: int = 900,
        scheme: str = "light",
        scripts: bool = True,
        motion: str = "no-preference",
    ) -> None:
        """Emulate a window of this size, with these preferences."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": name, "value": value} for name, value in features.items()],
        )
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    def value(self, expression: str) -> Any:
        """Return the value of an expression, which may be a promise."""
        document = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in document:
            raise BrowserError(json.dumps(document["exceptionDetails"]))
        return document["result"].get("value")

    def until(self, condition: str) -> None:
        """Return when a condition holds in the page."""
        try:
            self.value(_UNTIL.replace("CONDITION", condition))
        except BrowserError as error:
            raise BrowserError(f"never: {condition}\n{self.text}") from error

    @property
    def text(self) -> str:
        """All that can be read."""
        text: str = self.value("document.body.innerText")
        return text

    def press(self, key: str) -> None:
        """Press and release a key."""
        number, text = {"Tab": (9, ""), "Enter": (13, "\r")}[key]
        for kind, more in (("keyDown", {"text": text}), ("keyUp", {})):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=number,
                **more,
            )

    def picture(self, *, whole: bool = False) -> bytes:
        """Return a screenshot as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def close(self) -> None:
        """Close the tab."""
        self.browser.call("Target.closeTarget", targetId=self.target)
