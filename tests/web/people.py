"""Episodes to rate, and raters who use the app over HTTP."""

import random
import re
from html import unescape

from starlette.testclient import TestClient

from sotopia_gym import SocialEnv, play
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.web.annotate import annotation_app
from sotopia_gym.web.http import Visitors
from sotopia_gym.web.store import StudyStore
from sotopia_gym.web.study import Study, practice_episodes
from tests.episodes.test_report import hostile_episode

ROLES = ("agent_0", "agent_1")
CAST = {"agent_0": "scripted/expert", "agent_1": "scripted/stubborn"}
QUALIFIED = {
    "agent_0.goal": 9,
    "agent_0.secret": 0,
    "agent_0.social_rules": 0,
    "agent_1.goal": 1,
    "agent_1.secret": -9,
    "agent_1.social_rules": 0,
}
"""What the organisers say of the practice episode that comes with the library."""


def some_episodes(count):
    """Episodes of different tasks."""
    env = SocialEnv("starter", split="heldout", judge="outcome", max_turns=8)
    tasks = env.suite.tasks[:count]
    return [play(env, CAST, seed=n, options={"task": each.task_id}) for n, each in enumerate(tasks)]


EPISODES = some_episodes(10)
EPISODES[-1] = hostile_episode(EPISODES[-1])


def a_study(path, episodes=EPISODES[:3], *, now=None, restricted=False, hosts=(), **rules):
    """A study's file and its app; without qualification or attention checks unless asked for."""
    study = Study(**{"qualification": (), "attention_every": 0, **rules})
    practice = practice_episodes(study)
    clock = {} if now is None else {"now": now}
    store = StudyStore(path / "study.db", study, episodes, practice.values(), **clock)
    visitors = Visitors(store.database, restricted=restricted)
    return store, annotation_app(store, practice, visitors, hosts=hosts)


def some_scores(draw, **chosen):
    """Values for a form: drawn, but for those that are chosen by ``agent.dimension``."""
    values = {}
    for role in ROLES:
        for name, dimension in DIMENSIONS.items():
            score = draw.randint(int(dimension.low), int(dimension.high))
            what = f"{role}.{name}"
            values[f"{what}.score"] = str(chosen.get(what, score))
            values[f"{what}.reason"] = f"Reason {draw.random()}"
    return values


def asked(page):
    """The number that an attention check asks for, or None."""
    match = re.search(r"To show that you are, choose (\d+) here", page)
    return match and match[1]


class Person:
    """Somebody with a browser, or who does as if."""

    def __init__(self, app, seed=0):
        self.client = TestClient(app, raise_server_exceptions=False)
        self.draw = random.Random(seed)
        self.entered = []

    def get(self, path):
        return self.client.get(path)

    def post(self, path, **values):
        return self.client.post(path, data=values)

    def hidden(self, page, name):
        return unescape(re.search(rf'name="{name}" value="([^"]*)"', page)[1])

    def join(self):
        page = self.get("/start").text
        answer = self.post("/consent", csrf=self.hidden(page, "csrf"), agree="yes")
        self.code = re.search(r"<code>(.+?)</code>", answer.text)[1]
        self.name = re.search(r"random name: <b>(\w+)</b>", answer.text)[1]
        return self

    def form(self, **chosen):
        """The fields of a rating of what is to be rated now."""
        page = self.get("/rate").text
        values = {
            "csrf": self.hidden(page, "csrf"),
            "assignment": self.hidden(page, "assignment"),
            **some_scores(self.draw, **chosen),
        }
        number = asked(page)
        return values if number is None else values | {"check": number}

    def rate(self, **chosen):
        """Rate what is to be rated now."""
        values = self.form(**chosen)
        self.entered.append(values)
        answer = self.client.post("/rate", data=values)
        assert answer.status_code == 200
        return answer.text

    def rate_all(self, **chosen):
        """Rate until there is nothing more."""
        while 'name="assignment"' in self.get("/rate").text:
            self.rate(**chosen)
        return self


def as_entered(rating):
    """The scores and reasons of a rating, as the fields of its form."""
    return {
        f"{role}.{name}.{kind}": value
        for role, scores in rating.items()
        for name, given in scores.items()
        for kind, value in (("score", f"{given.score:g}"), ("reason", given.reasoning))
    }


def only_ratings(values):
    """The fields of a form that are scores and reasons."""
    return {name: value for name, value in values.items() if name.startswith("agent_")}
