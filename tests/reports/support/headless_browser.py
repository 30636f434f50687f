"""A Chromium without a window, steered through its own debugging pipe."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-dev-shm-usage",
)
DEADLINE_S = 90
READY = """(() => {
  const state = document.documentElement ? document.documentElement.dataset.ready : "";
  return state === "answers" || (state === "page" && !document.getElementById("answers"));
})()"""


class Page:
    """One page: it is opened, asked and looked at; what it complains about and asks for is remembered."""

    def __init__(self, profile: Path) -> None:
        # Chromium reads commands from file 3 and answers on file 4, each message ended by a zero byte.
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        started = " ".join([shlex.quote(str(BROWSER)), *FLAGS, f"--user-data-dir={shlex.quote(str(profile))}"])
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {started} --remote-debugging-pipe 3<&{commands} 4>&{answers}"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1440, height: int = 1000, dark: bool = False) -> None:
        """Load a file and return when its answers are unpacked, or its page is built where it has none."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._call("Page.navigate", url=path.resolve().as_uri())
        self.wait(READY)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression (a promise is waited for)."""
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript condition holds; what it speaks of need not be there before (a list is drawn anew, say)."""
        end = time.monotonic() + DEADLINE_S
        tried = (
            f"(() => {{ try {{ return String(Boolean({condition})); }} catch (error) {{ return String(error); }} }})()"
        )
        while (answer := self.ask(tried)) != "true":
            if time.monotonic() > end:
                raise AssertionError(f"never happened: {condition} ({answer}); complaints: {self.complaints}")
            time.sleep(0.02)

    def point(self, x: float, y: float, *, kind: str = "mouseMoved", pressed: bool = False) -> None:
        """Mouse events at a place of the window: mouseMoved, mousePressed, mouseReleased."""
        button = "left" if pressed or kind != "mouseMoved" else "none"
        self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=int(pressed), clickCount=1)

    def worked_s(self) -> dict[int, float]:
        """Processor time of each process that draws pages, by its id: what a busy machine does not change."""
        session, self._session = self._session, ""  # the browser as a whole is asked
        try:
            processes = self._call("SystemInfo.getProcessInfo")["processInfo"]
        finally:
            self._session = session
        return {one["id"]: one["cpuTime"] for one in processes if one["type"] == "renderer"}

    def screenshot(self, path: Path) -> None:
        """What the window shows."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        os.close(self._to)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._from)

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], DEADLINE_S)[0]:
                raise AssertionError("the browser does not answer")
            read = os.read(self._from, 1 << 20)
            if not read:
                raise AssertionError("the browser has gone")
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        content = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(content["exceptionDetails"])[:2000])
        elif event.get("method") == "Log.entryAdded":
            self.complaints.append(content["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(content["args"])[:2000])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(content["request"]["url"])


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of its own browser, closed at the end."""
    page = Page(profile)
    try:
        yield page
    finally:
        page.close()
