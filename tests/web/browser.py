"""The commands that serve, and browsers that visit them."""

import json
import os
import re
import subprocess
import sys

from tests.episodes.test_report_browser import SLOWEST, Page

KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39}


class Server:
    """A ``sotopia-gym`` command that serves, in a process of its own.

    The first start finds a free port, which all later ones use.
    """

    def __init__(self, *arguments):
        self._arguments, self._port = arguments, "0"

    def __enter__(self):
        command = [sys.executable, "-c", "from sotopia_gym.cli import main; main()"]
        self._process = subprocess.Popen(
            [*command, *map(str, self._arguments), "--port", self._port],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        told = []
        for line in self._process.stdout:
            told.append(line)
            if match := re.match(r"Open (http://127\.0\.0\.1:(\d+)/)", line):
                self.url, self._port = match[1], match[2]
                return self
        raise AssertionError("".join(told))

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait(SLOWEST)
        self._process.stdout.close()


class Browser(Page):
    """A browser with cookies of its own."""

    def go(self, url):
        self.leave(f"location.href = {json.dumps(url)}")

    def leave(self, expression):
        """Do what makes the page go, and wait for the next one."""
        self.run("window.here = true")
        self.run(expression)
        self.wait("window.here === undefined && document.readyState === 'complete'")

    def click(self, text):
        """Press the link or button with this text."""
        self.leave(
            "[...document.querySelectorAll('a, button')]"
            f".find((e) => e.innerText.trim() === {json.dumps(text)}).click()"
        )

    def key(self, key):
        code = KEYS[key]
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text):
        self.call("Input.insertText", text=text)

    @property
    def heading(self):
        return self.run("document.querySelector('h1').innerText")

    @property
    def text(self):
        return self.run("document.body.innerText")

    def fill(self, values):
        """Choose and write in the form of the page: field to value."""
        self.run(
            f"""for (const [name, value] of Object.entries({json.dumps(values)})) {{
              const fields = [...document.getElementsByName(name)];
              if (fields[0].type === 'radio') fields.find((e) => e.value === value).click();
              else fields[0].value = value;
            }}"""
        )
