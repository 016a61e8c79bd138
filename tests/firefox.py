"""Firefox for tests, driven by Marionette, its own protocol: Playwright drives only a Firefox of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("firefox-esr") or shutil.which("firefox")
PREFERENCES: dict[str, object] = {
    "marionette.port": 0,  # any; a file in the profile names it
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
    "devtools.console.stdout.content": True,
}
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # how WebDriver names an element
PATIENCE = 60.0


class Firefox:
    """A browser with one tab. Expressions are those of the page; they may be promises."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._file = self._socket.makefile("rb")
        self._read()
        self._number = 0
        self.send("WebDriver:NewSession")
        self.send("WebDriver:SetTimeouts", script=PATIENCE * 1000)

    def send(self, command: str, **parameters: object) -> Any:
        self._number += 1
        text = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(text), text))
        _, _, error, result = self._read()
        assert error is None, (command, error)
        return result["value"] if isinstance(result, dict) and "value" in result else result

    def _read(self) -> Any:
        size = b""
        while not size.endswith(b":"):
            size += self._file.read(1)
        return json.loads(self._file.read(int(size[:-1])))

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def open(self, address: str) -> None:
        self.send("WebDriver:Navigate", url=address)

    def evaluate(self, expression: str, *arguments: object) -> Any:
        script = f"const done = arguments[arguments.length - 1]; Promise.resolve({expression}).then(done)"
        return self.send("WebDriver:ExecuteAsyncScript", script=script, args=[*arguments], newSandbox=False)

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        self.wait(f"document.querySelector({json.dumps(selector)})?.checkVisibility()")
        self.send("WebDriver:ElementClick", id=self._find(selector))

    def write(self, selector: str, text: str) -> None:
        """Write into a field, or choose files."""
        self.send("WebDriver:ElementSendKeys", id=self._find(selector), text=text)

    def text(self, selector: str) -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))

    def _find(self, selector: str) -> str:
        return str(self.send("WebDriver:FindElement", using="css selector", value=selector)[ELEMENT])


@contextmanager
def running_firefox(profile: Path) -> Iterator[Firefox]:
    """Run Firefox with a new profile until the end of the block. Errors of scripts fail the test."""
    profile.mkdir()
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines))
    environment = {**os.environ, "HOME": str(profile), "MOZ_HEADLESS_WIDTH": "1200", "MOZ_HEADLESS_HEIGHT": "900"}
    command = [str(PROGRAM), "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    log = profile / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        port, end = profile / "MarionetteActivePort", time.monotonic() + PATIENCE
        while not (port.exists() and port.read_text()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        with closing(Firefox(int(port.read_text()))) as started:
            yield started
    finally:
        process.terminate()
        process.wait(30)
    errors = [
        line for line in log.read_text("utf-8", "replace").splitlines() if line.startswith("JavaScript error: http")
    ]
    assert not errors, errors
