"""The apps as people use them: real Chromium, real servers that are killed in between."""

import random
from itertools import pairwise

import pytest

from sotopia_gym import Action
from sotopia_gym.episodes.importers import import_episodes
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.web.export import write_ratings
from sotopia_gym.web.form import score_field
from sotopia_gym.web.store import StudyStore
from tests.episodes.test_report_browser import CHROMIUM, CONTRAST
from tests.web.browser import Browser, Server
from tests.web.people import (
    EPISODES,
    QUALIFIED,
    as_entered,
    asked,
    only_ratings,
    some_scores,
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not on the PATH")

SCRIPT = "<script>document.title = 'broken'</script><img src=x onerror=alert(1)>"
UNLABELLED = """[...document.querySelectorAll('input:not([type=hidden]), textarea, button')]
    .filter((e) => !(e.labels?.length || e.innerText?.trim())).length"""
HEADINGS = "[...document.querySelectorAll('h1, h2, h3, h4')].map((e) => Number(e.localName[1]))"
UNNAMED_GROUPS = """[...document.querySelectorAll('fieldset')]
    .filter((e) => !e.querySelector('legend')?.innerText.trim()).length"""


@pytest.fixture
def browser(tmp_path):
    made = Browser(tmp_path / "browser")
    yield made
    made.close()


@pytest.fixture
def browsers(tmp_path, browser):
    other = Browser(tmp_path / "other")
    yield [browser, other]
    other.close()


class Rater:
    """A person who rates in a browser, and notes down what was entered."""

    def __init__(self, browser, seed):
        self.browser, self.draw = browser, random.Random(seed)
        self.entered = {}

    def join(self, url):
        browser = self.browser
        browser.go(url)
        browser.click("Begin, or go on")
        browser.run("document.querySelector('input[name=agree]').click()")
        browser.click("Take part")
        self.name = browser.run("document.querySelector('footer b').innerText")
        browser.click("Read the instructions")
        browser.click("Look at the examples")
        browser.click("Begin")
        browser.fill(some_scores(self.draw, **QUALIFIED))
        browser.click("Submit")
        return self

    def fill(self):
        """Fill in the form, and note it down under the scene that it is about."""
        goals = {f"agent_{n}.goal": self.draw.choice([4, 5, 6]) for n in (0, 1)}
        values = some_scores(self.draw, **goals)
        values["agent_1.goal.reason"] = f"Two lines,\nand {SCRIPT}"
        number = asked(self.browser.text)
        if number is not None:
            values["check"] = number
        self.browser.fill(values)
        self.entered[self.browser.run("document.querySelector('.scene').innerText")] = values

    def submit(self):
        self.browser.click("Submit")
        assert self.browser.complaints() == []


@pytest.mark.slow
def test_two_raters_finish_a_study_with_a_restart_in_between(tmp_path, browsers):
    journal = tmp_path / "episodes.jsonl"
    for episode in EPISODES:
        Journal(journal).append(episode)
    server = Server("annotate", "serve", journal, "--db", tmp_path / "study.db")
    with server:
        raters = [Rater(b, seed).join(server.url) for seed, b in enumerate(browsers)]
        first, second = raters
        for number in range(1, 6):
            for rater in raters:
                assert rater.browser.heading == f"Conversation {number} of 10"
                rater.fill()
            for rater in raters:
                rater.submit()
        one_can_rate_by_keyboard(first)
        second.fill()  # and is in the midst of it when the server is killed
        nobody_rates_for_another(first, second)
    with server:
        second.submit()
        while first.browser.heading != "That was all" or second.browser.heading != "That was all":
            for rater in raters:
                if rater.browser.heading != "That was all":
                    assert hostile_text_is_text(rater.browser)
                    rater.fill()
                    rater.submit()
                else:
                    rater.browser.go(f"{server.url}rate")
    store = StudyStore(tmp_path / "study.db")
    assert (store.status().finished, store.status().ratings) == (10, 20)
    write_ratings(store, tmp_path / "ratings.jsonl")
    exported = {
        (episode.task.scenario.context, judgement.judge): as_entered(judgement.scores)
        for episode in import_episodes([tmp_path / "ratings.jsonl"]).episodes
        for judgement in episode.judgements
    }
    assert len(exported) == 20
    assert exported == {
        (scene, f"human/{rater.name}"): only_ratings(values)
        for rater in raters
        for scene, values in rater.entered.items()
    }


def one_can_rate_by_keyboard(rater):
    """Tab, arrows and Enter alone; what was chosen is noted down."""
    browser = rater.browser
    scene = browser.run("document.querySelector('.scene').innerText")
    number = asked(browser.text)
    wanted = {f"agent_{n}.goal": 5 for n in (0, 1)}
    values = some_scores(rater.draw, **wanted)
    if number is not None:
        values["check"] = number
    fields = browser.run(
        "[...new Set([...document.querySelectorAll('form [name]:not([type=hidden])')]"
        ".map((e) => e.name))]"
    )
    assert set(fields) == set(values)
    browser.key("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    browser.key("Enter")
    for field in fields:
        while browser.run("document.activeElement.name") != field:
            browser.key("Tab")
        if field.endswith(".reason"):
            browser.type(values[field])
            continue
        browser.key(" ")
        while browser.run("document.activeElement.value") != values[field]:
            browser.key("ArrowRight")
    browser.key("Tab")
    assert browser.run("document.activeElement.innerText") == "Submit"
    browser.run("window.here = true")
    browser.key("Enter")
    browser.wait("window.here === undefined && document.readyState === 'complete'")
    assert "Conversation 7 of 10" in browser.heading
    rater.entered[scene] = values


def nobody_rates_for_another(rater, victim):
    """With the other's assignment in the own form, in a page of its own."""
    theirs = victim.browser.run("document.getElementsByName('assignment')[0].value")
    rater.browser.fill(some_scores(rater.draw))
    number = asked(rater.browser.text)
    if number is not None:
        rater.browser.fill({"check": number})
    rater.browser.run(f"document.getElementsByName('assignment')[0].value = '{theirs}'")
    rater.browser.click("Submit")
    assert "There is no such page" in rater.browser.text
    assert rater.browser.run("document.cookie") == ""
    rater.browser.events.clear()
    rater.browser.click("Back to the start")
    rater.browser.click("Begin, or go on")
    assert "Conversation 7 of 10" in rater.browser.heading


def hostile_text_is_text(browser):
    return (
        browser.run("document.querySelector('script, img, svg, iframe, style, [style]')") is None
        and "broken" not in browser.run("document.title")
        and browser.run("location.pathname") == "/rate"
    )


LOOKS = [(360, False), (360, True), (1280, False), (1280, True)]


def check(browser):
    """The page fits its screen and can be read, by eye and by ear."""
    for width, dark in LOOKS:
        browser.size(width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), width
        assert browser.run(CONTRAST) == []
    assert browser.run(UNLABELLED) == browser.run(UNNAMED_GROUPS) == 0
    assert browser.run("document.documentElement.lang") == "en"
    levels = browser.run(HEADINGS)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels))


def test_every_page_fits_its_screen_and_can_be_read(tmp_path, browser):
    journal = tmp_path / "episodes.jsonl"
    Journal(journal).append(EPISODES[-1])
    with Server("annotate", "serve", journal, "--db", tmp_path / "study.db") as server:
        browser.go(server.url)
        check(browser)
        browser.click("Begin, or go on")
        check(browser)
        browser.run("document.querySelector('input[name=agree]').click()")
        for button in ("Take part", "Read the instructions", "Look at the examples", "Begin"):
            browser.click(button)
            check(browser)
        browser.fill(some_scores(random.Random(0), **QUALIFIED))
        browser.click("Submit")
        check(browser)
        browser.run("document.querySelector('form.rating').noValidate = true")
        browser.click("Submit")
        assert browser.run("document.activeElement.className") == "problems"
        check(browser)
        field = score_field("agent_0", "believability")
        browser.run("document.querySelector('.problems a').click()")
        assert browser.run("location.hash") == f"#{field}"
        assert browser.run("document.querySelector(':target').name") == field
        assert hostile_text_is_text(browser)


def test_two_people_play_in_the_browser_and_a_restart_costs_nothing(tmp_path, browsers):
    out = tmp_path / "played.jsonl"
    rules = ("--task", "price-v1-heldout-0", "--judge", "outcome", "--seed", "1", "--out", out)
    server = Server("play", "--web", *rules)
    words = [f"Hello from {name}! {SCRIPT}" for name in ("one", "two")]
    with server:
        for browser, said in zip(browsers, words, strict=True):
            browser.go(server.url)
            browser.click("Begin, or go on")
            browser.click("Begin")
            say(browser, said)
            check(browser)
    with server:
        for browser, said in zip(browsers, words, strict=True):
            browser.go(f"{server.url}play")
            assert [said in browser.text, browser.text.count("Hello from")] == [True, 1]
            assert browser.run("document.querySelector('img')") is None
            say(browser, "Goodbye.", "Leave")
            check(browser)
            assert "Your goal score" in browser.text
            assert browser.complaints() == []
    episodes = list(Journal(out))
    said = {episode.events[0].action for episode in episodes}
    assert said == {Action("speak", each) for each in words}


def say(browser, text, kind="Say"):
    browser.wait("document.activeElement.id === 'text'")
    browser.type(text)
    browser.run(
        "[...document.querySelectorAll('.kinds label')]"
        f".find((e) => e.innerText === '{kind}').click()"
    )
    browser.click("Send")
    browser.wait("document.querySelector('#waiting') === null")
