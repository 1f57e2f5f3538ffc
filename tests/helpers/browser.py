"""A real browser, headless, over WebDriver BiDi: Chromium by its chromedriver, Firefox by its own
remote port, so that it needs no other driver."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

SECONDS = 240  # for an answer; only a browser that hangs takes as long


def find(browser: str) -> list[str]:
    """The programs that a browser takes; skips the test where one is missing."""
    needs = {"chromium": ("chromium", "chromedriver"), "firefox": ("firefox-esr",)}[browser]
    if browser == "firefox" and not shutil.which("firefox-esr"):
        needs = ("firefox",)
    if missing := [name for name in needs if not shutil.which(name)]:
        pytest.skip(f"no {' and no '.join(missing)} on this machine")
    return [shutil.which(name) for name in needs]


class Browser:
    """One tab. console: what a page complained of; requests: what it asked the network for."""

    def __init__(self, browser: str, downloads: Path) -> None:
        websocket = pytest.importorskip("websocket", reason="pip install websocket-client")
        self.name = browser
        self.console: list[str] = []
        self.requests: list[str] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._ids = itertools.count(1)
        programs = find(browser)
        if browser == "chromium":
            url = self._start_chromium(programs, downloads)
        else:
            url = self._start_firefox(programs, downloads)
        self._socket = websocket.create_connection(url, timeout=SECONDS, suppress_origin=True)
        if browser == "firefox":
            self.call("session.new", capabilities={})
        self.tab = self.call("browsingContext.getTree")["contexts"][0]["context"]
        self.call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])

    def _spawn(self, command: list[str], announces: str) -> str:
        """Starts a process of its own group, and waits for what it says when it is ready."""
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**os.environ, "MOZ_HEADLESS": "1", "HOME": self._profile.name},
        )
        for line in self._process.stdout:
            if match := re.search(announces, line):
                return match[1]
        raise RuntimeError(f"{command[0]} ended before it was ready")

    def _start_chromium(self, programs: list[str], downloads: Path) -> str:
        port = self._spawn([programs[1], "--port=0"], r"started successfully on port (\d+)")
        options = {
            "binary": programs[0],
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
            "prefs": {"download.default_directory": str(downloads)},
        }
        wanted = {"browserName": "chrome", "webSocketUrl": True, "goog:chromeOptions": options}
        body = json.dumps({"capabilities": {"alwaysMatch": wanted}}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/session", body)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)["value"]["capabilities"]["webSocketUrl"]

    def _start_firefox(self, programs: list[str], downloads: Path) -> str:
        preferences = {
            "browser.download.folderList": 2,
            "browser.download.dir": str(downloads),
            "datareporting.policy.dataSubmissionEnabled": False,
        }
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in preferences.items()]
        Path(self._profile.name, "user.js").write_text("\n".join(lines))
        command = [programs[0], "--headless", "--no-remote", "--remote-debugging-port", "0"]
        command += ["--profile", self._profile.name]
        return self._spawn(command, r"WebDriver BiDi listening on (ws://\S+)") + "/session"

    def close(self) -> None:
        import signal

        try:
            self.call("browser.close" if self.name == "firefox" else "session.end")
        finally:
            self._socket.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
            if self._process.poll() is None or self.name == "chromium":
                self._process.terminate()
                self._process.wait()
            self._process.stdout.close()
            self._profile.cleanup()

    def call(self, method: str, **params: Any) -> Any:
        """The result of a command; events that come before it are kept."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
                return message["result"]
            self._keep(message)

    def _keep(self, message: dict) -> None:
        if message.get("method") == "log.entryAdded":
            entry = message["params"]
            if entry["level"] in ("error", "warn"):
                self.console.append(f"{entry['level']}: {entry['text']}")
        if message.get("method") == "network.beforeRequestSent":
            url = message["params"]["request"]["url"]
            if not url.startswith(("file:", "blob:", "data:", "about:")):
                self.requests.append(url)

    def open(self, page: Path, width: int = 1280, height: int = 900) -> None:
        self.call(
            "browsingContext.setViewport",
            context=self.tab,
            viewport={"width": width, "height": height},
        )
        self.call("browsingContext.navigate", context=self.tab, url=page.as_uri(), wait="complete")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        result = self.call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({script})))()",
            target={"context": self.tab},
            awaitPromise=True,
            userActivation=True,
        )
        if result["type"] == "exception":
            raise RuntimeError(result["exceptionDetails"]["text"])
        value = result["result"].get("value")
        return None if value is None else json.loads(value)

    def wait_until(self, script: str) -> None:
        end = time.monotonic() + SECONDS
        while not self.run(script):
            if time.monotonic() > end:
                raise AssertionError(f"still not true: {script}")
            time.sleep(0.1)

    def choose_files(self, selector: str, *files: Path) -> None:
        node = self.call(
            "browsingContext.locateNodes",
            context=self.tab,
            locator={"type": "css", "value": selector},
        )["nodes"][0]
        self.call(
            "input.setFiles",
            context=self.tab,
            element={"sharedId": node["sharedId"]},
            files=[str(file) for file in files],
        )

    def screenshot(self, file: Path) -> None:
        import base64

        data = self.call("browsingContext.captureScreenshot", context=self.tab, origin="document")
        file.write_bytes(base64.b64decode(data["data"]))


if __name__ == "__main__":  # to look at it: BROWSER PAGE WIDTH PICTURE
    shown = Browser(sys.argv[1], Path(tempfile.mkdtemp()))
    shown.open(Path(sys.argv[2]).resolve(), int(sys.argv[3]))
    shown.wait_until("!document.getElementById('start').disabled")
    shown.screenshot(Path(sys.argv[4]))
    shown.close()
