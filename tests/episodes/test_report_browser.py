"""The report as a browser shows it: real Chromium, driven over its debugging pipe."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sotopia_gym.episodes.report import write_report
from tests.episodes.test_report import HOSTILE, hostile_episode, some_episodes

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not on the PATH")
SLOWEST = 60
"""Seconds that anything in the browser may take."""

OPEN_DETAILS = "for (const e of document.querySelectorAll('details')) e.open = true"
# Every text's colour against the nearest background that is not transparent: WCAG 2's AA is 4.5,
# and 3 for large text.
CONTRAST = r"""(() => {
  const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (colour) => {
    const [r, g, b] = rgb(colour).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (rgb(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const found = [];
  for (const e of document.querySelectorAll("body *:not(script):not(option)")) {
    if (!e.checkVisibility() || !hasText(e)) continue;
    const style = getComputedStyle(e);
    const colour = e.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [a, b] = [light(colour), light(behind(e))].sort((x, y) => y - x);
    const needed = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    if ((a + 0.05) / (b + 0.05) < needed) found.push([e.localName, colour, behind(e)]);
  }
  return found.slice(0, 5);
})()"""
# Chromium listens at file descriptor 3 and answers at 4, wherever ours happen to be.
START = """
import fcntl, os, sys
ours = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for wanted, fd in zip((3, 4), ours):
    os.dup2(fd, wanted)
    os.close(fd)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One page of a headless Chromium."""

    def __init__(self, profile):
        there, self._out = os.pipe()
        self._in, back = os.pipe()
        flags = (
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-sync"),
            *("--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"),
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(there), str(back), CHROMIUM, *flags],
            pass_fds=(there, back),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        os.set_blocking(self._in, False)
        self._rest, self._number, self.events = b"", 0, []
        self._session = None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def _read(self):
        deadline = time.monotonic() + SLOWEST
        while b"\0" not in self._rest:
            assert time.monotonic() < deadline, "Chromium does not answer"
            try:
                piece = os.read(self._in, 1 << 20)
                assert piece, "Chromium has ended"
                self._rest += piece
            except BlockingIOError:
                time.sleep(0.005)
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def wait(self, condition):
        deadline = time.monotonic() + SLOWEST
        while not self.run(condition):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.02)

    def open(self, path, where=""):
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=f"file://{path}{where}")
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, expression):
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def texts(self, selector):
        return self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)"
        )

    def press(self, key):
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        code = {"windowsVirtualKeyCode": 13} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **code)

    def size(self, width, height=900, *, dark=False):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 700,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path, *, whole=True):
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self):
        """What the page threw, and what its policy refused."""
        return [
            event
            for event in self.events
            if event["method"] in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening")
            or event["method"] == "Log.entryAdded"
        ]

    def close(self):
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait(SLOWEST)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    page = Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "report.html"
    write_report(some_episodes(), path, title="Six episodes")
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    write_report([hostile_episode(), *some_episodes(2)], path, title="<b>hostile</b>")
    return path


RESULTS = Path(__file__).parents[2] / "eval/results"


def requested(page):
    """The addresses that the page asked for, but for its own."""
    asked = (e["params"]["request"]["url"] for e in page.events if e["method"] == SENT)
    return {url.partition("#")[0] for url in asked} - {"about:blank"}


SENT = "Network.requestWillBeSent"


def test_the_committed_benchmark_opens_without_a_network(page):
    path = RESULTS / "benchmark_starter.html"
    agents = ("smollm2-135m", "expert", "random")
    results = [
        json.loads((RESULTS / f"benchmark_starter_{name}.json").read_text()) for name in agents
    ]
    page.size(1280)
    page.open(path)
    page.wait("document.querySelectorAll('#list tbody tr').length > 0")
    assert sum(result["counts"]["complete"] for result in results) == 240
    assert "240" in page.run("document.body.innerText")
    assert requested(page) == {f"file://{path}"}
    assert page.complaints() == []


def column(page, label):
    """The cells of one column, top down."""
    return page.texts(f'#list td[data-label="{label}"]')


def test_all_episodes_are_listed_without_a_complaint(page, plain):
    page.size(1280)
    page.open(plain)
    assert column(page, "No.") == [*"123456"]
    assert page.run("document.title") == "Six episodes"
    assert page.run("document.querySelectorAll('figure svg rect').length") == 3 * 11
    assert page.run("document.querySelectorAll('#episode *').length") == 0
    assert page.complaints() == []


def test_the_table_sorts_by_its_headers_and_by_the_address(page, plain):
    page.open(plain)
    page.run("document.querySelector('#by-turns button').click()")
    turns = [int(n) for n in column(page, "Turns")]
    assert turns == sorted(turns)
    assert len(set(turns)) > 1
    page.run("document.querySelector('#by-turns button').click()")
    assert [int(n) for n in column(page, "Turns")] == sorted(turns, reverse=True)
    assert page.run("document.querySelector('#by-turns').ariaSort") == "descending"
    assert page.run("document.querySelectorAll('[aria-sort]').length") == 1
    assert page.run("location.hash") == "#sort=-turns"
    page.open(plain, "#sort=-number&q=STUBBORN")
    assert column(page, "No.") == [*"642"]
    assert page.texts("#matches") == ["3 of 6 shown"]


def test_an_episode_opens_by_its_link_and_is_left_by_the_keyboard(page, plain):
    page.open(plain, "#sort=-number")
    page.press("j")
    page.press("j")
    assert page.run("document.activeElement.id") == "row-4"
    page.press("Enter")
    page.wait("!document.querySelector('#episode').hidden")
    assert page.texts("#episode h2")[0].startswith("5. ")
    link = page.run("location.hash")
    assert link.startswith("#episode-")
    page.press("k")
    page.wait("document.querySelector('#episode h2').innerText.startsWith('6. ')")
    page.press("ArrowRight")
    page.wait("document.querySelector('#episode h2').innerText.startsWith('5. ')")
    page.press("Escape")
    page.wait("document.querySelector('#episode').hidden")
    assert page.run("document.activeElement.id") == "row-4"
    assert page.run("location.hash") == "#sort=-number"
    page.open(plain, link)
    assert page.texts("#episode h2")[0].startswith("5. ")
    assert not page.run("document.querySelector('#list').checkVisibility()")
    assert page.complaints() == []


def test_each_view_shows_what_that_character_sees(page, plain):
    page.open(plain)
    page.run("document.querySelector('#row-0').click()")
    page.wait("!document.querySelector('#episode').hidden")
    assert len(page.texts("#episode .cast .card")) == 2
    page.run("document.querySelector('input[value=agent_1]').click()")
    assert page.texts("#episode .cast .card") == []
    (known,) = page.texts("#episode .card:has(h3):has(p ~ p ~ p)")[:1]
    episode = some_episodes(1)[0]
    assert episode.task.goal("agent_1") in known
    assert episode.task.goal("agent_0") not in page.run("document.body.innerText")


def elements(page):
    return page.run(
        "[...new Set([...document.querySelectorAll('*')].map(e => e.localName))].sort()"
    )


def test_hostile_text_becomes_no_element_and_runs_nothing(page, plain, hostile):
    page.open(plain)
    page.run("document.querySelector('#row-0').click()")
    page.wait("document.querySelectorAll('.said').length > 0")
    known = {*elements(page), "pre", "small"}
    page.open(hostile)
    assert page.run("document.title") == "<b>hostile</b>"
    assert column(page, "No.") == [*"123"]
    page.run("document.querySelector('#row-0').click()")
    page.wait("document.querySelectorAll('.said').length > 0")
    assert set(elements(page)) <= known
    scripts = "document.querySelectorAll('script:not([type=\"application/json\"])').length"
    assert page.run(scripts) == 1
    assert page.run("document.querySelectorAll('style').length") == 1
    assert page.run("document.querySelector('img, iframe, object, [style], [onload]')") is None
    said = page.run("[...document.querySelectorAll('.said')].map(e => e.textContent)")
    assert len(said) == len(HOSTILE)
    plain_texts = [t for t in HOSTILE if t.isascii() and t.isprintable()]
    assert len(plain_texts) > 20
    assert set(plain_texts) <= set(said)
    assert not any(set("\u2028\u2029\u202e\u200b\x00\x1b") & set(text) for text in said)
    assert "U+202E" in page.texts(".unseen")
    assert page.run("location.protocol") == "file:"
    assert requested(page) <= {f"file://{hostile}"}
    assert page.complaints() == []


def test_an_injected_script_would_be_refused(page, plain, tmp_path):
    path = tmp_path / "report.html"
    text = plain.read_text(encoding="utf-8")
    path.write_text(
        text.replace("<header", "<script>document.title = 'broken'</script><header"),
        encoding="utf-8",
    )
    page.open(path)
    assert page.run("document.title") == "Six episodes"
    assert page.complaints()
    tried = "try { document.body.innerHTML = '<p>x' } catch (error) { String(error) }"
    assert "requires 'TrustedHTML'" in page.run(tried)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_screen_and_can_be_read(page, hostile, width, dark):
    page.size(width, dark=dark)
    page.open(hostile)
    for step in ("", "document.querySelector('#row-0').click()", OPEN_DETAILS):
        page.run(step)
        if step:
            page.wait("document.querySelectorAll('.said').length > 0")
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        assert page.run(CONTRAST) == []
