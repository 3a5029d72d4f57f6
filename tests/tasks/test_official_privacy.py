"""Nobody learns what the official tasks hide: all 450, both roles, by a second reading of rules.

The rules are written here a second time, on the raw records, so that a mistake in the library's
reading of them cannot hide itself. A text is hidden if any sentence of it must not be seen; what an
agent may see anyway (its own goal, the scene, ...) is no leak when it says the same.
"""

import json
import re
from dataclasses import dataclass

import pytest

from sotopia_gym.envs.parallel import SocialEnv
from sotopia_gym.tasks.suites import load_suite

STRANGER, KNOW_BY_NAME, ACQUAINTANCE, FRIEND, ROMANTIC, FAMILY = range(6)
MAX_TURNS = 4  # nobody is as young as that: no age is hidden behind this number
AGENTS = ("agent_0", "agent_1")

_ENVIRONMENT_ONLY = re.compile(r"<p viewer=\"environment\">(.*?)</p>", re.DOTALL)
_OTHER_TAGS = re.compile(r"</?(?:extra_info|clarification_hint|strategy_hint)>")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|</?[^<>]*>|\n|;")


def plain(text):
    """The text as it is compared: one kind of space, one kind of letter."""
    return " ".join(text.split()).casefold()


def sentences(text):
    """The sentences of a text, also those that only tags divide, for comparing."""
    found = (plain(part).strip(" ()") for part in _SENTENCE_END.split(text))
    return [sentence for sentence in found if len(sentence) > 3]


def shown(text):
    """A scene or goal as its reader may see it."""
    return _OTHER_TAGS.sub("", _ENVIRONMENT_ONLY.sub("", text))


def has_word(text, word):
    return re.search(rf"(?<!\w){re.escape(plain(word))}(?!\w)", plain(text)) is not None


@dataclass
class Raw:
    """One task as its records have it, from one agent's side."""

    scene: str
    closeness: int
    me: dict
    other: dict
    goal: str
    other_goal: str
    stories: list

    @property
    def may_see(self):
        """All texts that the agent may see."""
        me, other = self.me, self.other
        texts = [shown(self.scene), shown(self.goal), name(me), name(other)]
        texts += [me["public_info"], me["personality_and_values"], me["secret"], me["occupation"]]
        if self.closeness >= ACQUAINTANCE:
            texts += [other["public_info"], other["occupation"]]
        if self.closeness >= FRIEND:
            texts += [other["personality_and_values"]]
        return texts

    @property
    def must_not_see(self):
        """The texts that the agent may not see, by what they are."""
        other = self.other
        hidden = {
            "goal": self.other_goal,
            "secret": other["secret"],
            "story": "\n".join(self.stories),
            "environment": "\n".join(
                part
                for text in (self.scene, self.goal, self.other_goal)
                for part in _ENVIRONMENT_ONLY.findall(text)
            ),
            "big five": other["big_five"],
        }
        if self.closeness < ACQUAINTANCE:
            hidden["public info"] = other["public_info"]
        if self.closeness < FRIEND:
            hidden["personality"] = other["personality_and_values"]
        return hidden


def name(person):
    return f"{person['first_name']} {person['last_name']}"


def leaks(raw, observation, info):
    """What is wrong with what an agent perceives: what leaks, and what is missing."""
    background = observation["background"]
    assert isinstance(background, str)
    others = [str(v) for k, v in observation.items() if k != "background"]
    everything = plain("\n".join([background, *others, str(info)]))
    allowed = plain("\n".join(raw.may_see))
    problems = [
        f"{what} leaks: {sentence}"
        for what, text in raw.must_not_see.items()
        for sentence in sentences(text)
        if sentence in everything and sentence not in allowed
    ]
    # The single facts of the other, outside of what is said of oneself.
    rest = [line for line in background.split("\n") if not line.startswith(("About you", "Your "))]
    rest = plain("\n".join([*rest, *others, str(info)]))
    for text in sorted(map(plain, raw.may_see[:2]), key=len, reverse=True):
        rest = rest.replace(text, " ")
    other = raw.other
    facts = (str(other["age"]), other["gender"], other["gender_pronoun"], other["occupation"])
    for fact in facts:
        if has_word(rest, fact) != (raw.closeness >= ACQUAINTANCE):
            problems.append(f"closeness {raw.closeness}, but fact {fact}: {rest}")
    problems += ["MBTI type leaks" for _ in range(has_word(everything, other["mbti"]))]
    for tag in ("<p", "<extra", "<strat", "<clar", "</", "viewer="):
        if tag in everything:
            problems.append(f"a tag is shown: {tag}")
    # What must be there.
    required = [*raw.may_see, str(raw.me["age"]), raw.me["gender"], raw.me["gender_pronoun"]]
    problems += [f"missing: {text}" for text in required if plain(text) not in plain(background)]
    return problems


@pytest.fixture(scope="module")
def raw_tasks(data):
    """Both sides of every official task, by its id."""
    folder = data / "sotopia"

    def read(file, key):
        path = folder / f"{file}.jsonl"
        if not path.is_file():
            pytest.skip(f"no {path.name} in {folder}")
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return {record[key]: record for record in records}

    people = read("agent_profiles", "agent_id")
    scenarios = read("environment_profiles", "env_id")
    stories = read("relationship_profiles", "relationship_id").values()
    tasks = {}
    for combo in read("env_agent_combo_storages", "combo_id").values():
        scenario = scenarios[combo["env_id"]]
        pair = [people[i] for i in combo["agent_ids"]]
        told = [
            s["background_story"]
            for s in stories
            if {s["agent1_id"], s["agent2_id"]} == set(combo["agent_ids"])
        ]
        tasks[combo["combo_id"]] = {
            agent: Raw(
                scene=scenario["scenario"],
                closeness=int(scenario["relationship"]),
                me=pair[i],
                other=pair[1 - i],
                goal=scenario["agent_goals"][i],
                other_goal=scenario["agent_goals"][1 - i],
                stories=told,
            )
            for i, agent in enumerate(AGENTS)
        }
    return tasks


@pytest.fixture(scope="module")
def suite(official_suites):
    assert "sotopia-all" in official_suites
    return load_suite("sotopia-all")


def speak(text):
    return {agent: {"action_type": "speak", "argument": text} for agent in AGENTS}


@pytest.mark.parametrize("turn_order", ["round-robin", "simultaneous"])
def test_nobody_learns_what_is_hidden(turn_order, suite, raw_tasks):
    env = SocialEnv(suite, judge="none", max_turns=MAX_TURNS, turn_order=turn_order)
    assert len(raw_tasks) == 450
    seen = 0
    for task_id, sides in raw_tasks.items():
        observations, infos = env.reset(seed=1, options={"task": task_id})
        for turn in range(MAX_TURNS + 1):
            for agent, raw in sides.items():
                assert leaks(raw, observations[agent], infos[agent]) == []
                assert ("hello" in observations[agent]["dialogue"]) == (turn > 0)
                seen += 1
            if turn < MAX_TURNS:
                observations, _, _, _, infos = env.step(speak("hello"))
        assert env.agents == []
    assert seen == 450 * 2 * (MAX_TURNS + 1)


def test_the_check_has_something_to_check(raw_tasks):
    """Most of what is hidden is said nowhere else, so that it would be noticed."""
    sides = [raw for both in raw_tasks.values() for raw in both.values()]
    assert {raw.closeness for raw in sides} == {0, 1, 2, 3, 4, 5} - {FAMILY}
    noticed = dict.fromkeys(("goal", "secret", "story", "environment", "public info"), 0)
    total = dict(noticed)
    for raw in sides:
        allowed = plain("\n".join(raw.may_see))
        for what in noticed:
            found = sentences(raw.must_not_see.get(what, ""))
            total[what] += bool(found)
            noticed[what] += any(sentence not in allowed for sentence in found)
    assert all(total.values())
    for what in noticed:
        # Two scenarios give both the same goal: 5 tasks each, two sides.
        expected = 2 * 2 * 5 if what == "goal" else 0
        assert total[what] - noticed[what] == expected, what


# --- the check notices leaks --------------------------------------------------------------------


def leak_goal(task, agent):
    return next(task.goal(other) for other in task.agents if other != agent)


def leak_goal_in_full(task, agent):
    return task.scenario.goals[1 - task.agents.index(agent)]


def other(task, agent):
    return task.characters[1 - task.agents.index(agent)]


LEAKS = {  # what is added to a background, and up to which closeness it may not be there
    "goal": (leak_goal, FAMILY),
    "goal with tags": (leak_goal_in_full, FAMILY),
    "secret": (lambda t, a: f"{other(t, a).name} hides: {other(t, a).secret}", FAMILY),
    "story": (lambda t, a: "".join(r.background_story for r in t.relationships), FAMILY),
    "scene for the environment": (lambda t, a: re.sub(r"<[^<>]*>", "", t.scenario.context), FAMILY),
    "raw scene": (lambda t, a: t.scenario.context, FAMILY),
    "MBTI": (lambda t, a: f"({other(t, a).traits['mbti']})", FAMILY),
    "big five": (lambda t, a: other(t, a).traits["big_five"], FAMILY),
    "personality": (lambda t, a: other(t, a).personality, ACQUAINTANCE),
    "public info": (lambda t, a: other(t, a).public_info, KNOW_BY_NAME),
    "age": (lambda t, a: f"{other(t, a).age} years old", KNOW_BY_NAME),
    "gender": (lambda t, a: f"a {other(t, a).gender.lower()}", KNOW_BY_NAME),
    "pronouns": (lambda t, a: other(t, a).pronouns, KNOW_BY_NAME),
    "occupation": (lambda t, a: f"an {other(t, a).occupation}.", KNOW_BY_NAME),
}


def is_leak(what, raw):
    """Whether what is added says anything that was not there."""
    if "goal" in what:
        return "tags" in what or raw.goal != raw.other_goal
    if "scene" in what:
        return "<" in raw.scene
    return what != "story" or bool(raw.stories)


def noticed(env, raw_tasks, closeness, what):
    """Of the views that leak, how many there are and which are not noticed."""
    count, missed = 0, []
    for task_id, sides in raw_tasks.items():
        observations, infos = env.reset(seed=1, options={"task": task_id})
        for agent, raw in sides.items():
            if raw.closeness > closeness or not is_leak(what, raw):
                continue
            count += 1
            if not leaks(raw, observations[agent], infos[agent]):
                missed.append((task_id, agent, observations[agent]["background"]))
    return count, missed


@pytest.mark.parametrize("what", LEAKS)
def test_a_leak_would_be_noticed(what, monkeypatch, suite, raw_tasks):
    from sotopia_gym.envs import session

    made, (added, closeness) = session.background, LEAKS[what]

    def leaking(task, agent, *, max_turns):
        text = made(task, agent, max_turns=max_turns)
        return f"{added(task, agent)}\n{text}".replace("\n\n", "\n")

    monkeypatch.setattr(session, "background", leaking)
    env = SocialEnv(suite, judge="none", max_turns=MAX_TURNS)
    count, missed = noticed(env, raw_tasks, closeness, what)
    assert count > 0
    assert missed == []


def test_too_close_a_relationship_would_be_noticed(monkeypatch, suite, raw_tasks):
    from sotopia_gym.tasks import background

    known = background.acquaintance_with
    monkeypatch.setattr(
        background, "acquaintance_with", lambda who, closeness: known(who, min(closeness + 1, 5))
    )
    env = SocialEnv(suite, judge="none", max_turns=MAX_TURNS)
    for task_id, sides in raw_tasks.items():
        observations, infos = env.reset(seed=1, options={"task": task_id})
        for agent, raw in sides.items():
            wrong = bool(leaks(raw, observations[agent], infos[agent]))
            assert wrong == (raw.closeness in (KNOW_BY_NAME, ACQUAINTANCE))


GAPS = {
    "goal": lambda raw: shown(raw.goal)[-20:],
    "secret": lambda raw: raw.me["secret"],
    "scene": lambda raw: shown(raw.scene).strip()[-20:],
    "own personality": lambda raw: raw.me["personality_and_values"],
    "name of the other": lambda raw: name(raw.other),
}


@pytest.mark.parametrize("part", GAPS)
def test_a_gap_would_be_noticed(part, suite, raw_tasks):
    env = SocialEnv(suite, judge="none", max_turns=MAX_TURNS)
    for task_id, sides in raw_tasks.items():
        observations, infos = env.reset(seed=1, options={"task": task_id})
        for agent, raw in sides.items():
            observation = dict(observations[agent])
            text = " ".join(GAPS[part](raw).split())
            assert text in observation["background"]
            observation["background"] = observation["background"].replace(text, "")
            assert leaks(raw, observation, infos[agent])
