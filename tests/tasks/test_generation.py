"""New tasks from a language model: what is of use gets through, nothing else does."""

import asyncio
import json

import pytest

from sotopia_gym import load_suite
from sotopia_gym.errors import ConfigError, RefusalError, UnavailableModelError
from sotopia_gym.tasks.generation import (
    REASONS,
    Attempt,
    Generator,
    Inspiration,
    RejectedError,
    as_suite,
    attempts_file,
    read_attempts,
    read_inspirations,
    read_scenario,
    report,
)
from sotopia_gym.tasks.schema import RelationshipType, Suite
from tests.canned import Canned

STARTER = load_suite("starter").split("train")
ABOUT = Inspiration("abc", "bringing back a broken umbrella", "social_chem")
GOOD = {
    "codename": "the umbrella",
    "context": "In the hallway of an old house, somebody brings back the umbrella that was lent a "
    "month ago. One of its ribs is broken.",
    "first_goal": "Give the umbrella back without paying for it. (<extra_info>Extra information: "
    "It broke when your bicycle fell over.</extra_info>)",
    "second_goal": "Have the repair paid, and be asked before anything is borrowed again.",
    "relationship": "acquaintance",
    "first_person": {"min_age": 18, "max_age": 80, "occupations": []},
    "second_person": {"min_age": 25, "max_age": 80, "occupations": []},
}


def answer(**changes):
    return json.dumps(GOOD | changes)


def other(number):
    """A scenario that is like none of the others."""
    words = [f"w{chr(97 + number)}{chr(97 + place)}" for place in range(26)]
    return answer(
        context=" ".join(words[:12]) + ".",
        first_goal=" ".join(words[12:19]) + ".",
        second_goal=" ".join(words[19:]) + ".",
    )


def generator(*answers, **settings):
    return Generator(Canned(*answers), STARTER, **{"pairs": 3, **settings})


def run(made, inspirations=(ABOUT,), done=(), **settings):
    async def collect():
        return [attempt async for attempt in made.generate(list(inspirations), done, **settings)]

    return asyncio.run(collect())


def test_a_good_scenario_becomes_tasks_with_characters_who_fit():
    (attempt,) = run(generator(answer()))
    assert attempt.reason == ""
    assert len(attempt.tasks) == 3
    assert len({tuple(task.names.values()) for task in attempt.tasks}) == 3
    for task in attempt.tasks:
        scenario = task.scenario
        assert scenario.relationship is RelationshipType.ACQUAINTANCE
        assert scenario.goals[0] == GOOD["first_goal"]
        assert "social_chem" in scenario.source
        assert all(c.admits(p) for c, p in zip(scenario.constraints, task.characters, strict=True))
    assert Suite.model_validate(as_suite("new", [attempt]).model_dump()).num_agents == 2


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("answer", "Certainly! Here is a scenario."),
        ("answer", "{}"),
        ("answer", answer(relationship="nemesis")),
        ("answer", answer(mood="tense")),
        ("answer", answer(first_person={"min_age": 60, "max_age": 20, "occupations": []})),
        ("answer", answer(first_person={"min_age": "20", "max_age": 30, "occupations": []})),
        ("text", answer(second_goal="Win.")),
        ("text", answer(context="A hall.")),
        ("text", answer(context="A very long hall. " * 200)),
        ("tags", answer(first_goal="Give it back. (<extra_info>It broke when you fell.")),
        ("tags", answer(first_goal="Give it back, please. </extra_info>It broke when you fell.")),
        ("minors", answer(first_person={"min_age": 15, "max_age": 30, "occupations": []})),
        ("minors", answer(context="Between two high-school students, an umbrella is given back.")),
        (
            "names",
            answer(context="Elena and Marcus stand in a hallway, with an umbrella."),
        ),
        ("names", answer(second_goal="Have the repair paid by a neighbour called Bartholomew.")),
        ("names", answer(context="In the hallway, Zuzanna brings back what was lent to her.")),
        ("minors", answer(first_goal="Give it back quickly: you are twelve, and late for bed.")),
        (
            "duplicate",
            answer(second_goal=STARTER.tasks[0].goal("agent_1").split(" (")[0]),
        ),
        ("placeholder", answer(second_goal="Have the repair paid by Agent 1, before the evening.")),
        ("placeholder", answer(context="In [place], somebody brings back the umbrella of [name].")),
        ("same goal", answer(second_goal=GOOD["first_goal"])),
        (
            "leak",
            answer(context=f"{GOOD['context']} It broke when your bicycle fell over last week."),
        ),
        (
            "leak",
            answer(second_goal="They give the umbrella back without paying for it: resist."),
        ),
        (
            "characters",
            answer(first_person={"min_age": 98, "max_age": 99, "occupations": []}),
        ),
    ],
)
def test_what_is_of_no_use_is_rejected_with_the_reason(reason, text):
    (attempt,) = run(generator(text, attempts=1))
    assert (attempt.reason, attempt.tasks) == (reason, ())
    assert attempt.answer == text


def test_a_name_of_the_cast_is_a_name():
    name = STARTER.tasks[0].characters[0].first_name
    with pytest.raises(RejectedError, match=name):
        read_scenario(
            answer(context=f"In the hallway, {name} brings back the umbrella of a friend."),
            ABOUT,
            STARTER.tasks[0].characters,
        )


def test_a_scenario_that_is_known_is_a_duplicate():
    known = STARTER.tasks[0].scenario
    copied = answer(context=known.context, first_goal=known.goals[0], second_goal=known.goals[1])
    (attempt,) = run(generator(copied, attempts=1))
    assert attempt.reason in ("duplicate", "names", "leak")
    first, second = Inspiration("a", "one"), Inspiration("b", "two")
    attempts = run(generator(answer(), attempts=1), [first, second])
    assert [a.reason for a in attempts] == ["", "duplicate"]
    assert "generated-a" in attempts[1].detail


def test_with_an_embedder_a_scenario_of_the_same_meaning_is_a_duplicate():
    import numpy as np

    def embed(texts):
        kinds = [0 if text[:2] in ("wb", "wc") else 1 + ("ribs" in text) for text in texts]
        return np.eye(3)[kinds]

    inspirations = [Inspiration(str(i), "x") for i in range(3)]
    made = generator(other(1), other(2), answer(), attempts=1, embed=embed)
    assert [a.reason for a in run(made, inspirations, concurrency=1)] == ["", "duplicate", ""]


def test_a_rejected_inspiration_is_tried_again_and_then_left():
    made = generator("no", "no", other(1), "no")
    attempts = run(made, [ABOUT, Inspiration("b", "two")], concurrency=1)
    assert [(a.inspiration_id, a.number, a.reason) for a in attempts] == [
        ("abc", 0, "answer"),
        ("b", 0, "answer"),
        ("abc", 1, ""),
        ("b", 1, "answer"),
    ]


def test_an_answer_that_the_model_declines_costs_its_own_attempt_only():
    made = generator(RefusalError("declined", "I would rather not."), other(1), attempts=1)
    attempts = run(made, [ABOUT, Inspiration("b", "two")], concurrency=1)
    assert [a.reason for a in attempts] == ["answer", ""]
    assert attempts[0].answer == "I would rather not."


def test_a_model_that_is_gone_is_an_error_and_what_came_before_is_kept():
    made = generator(other(1), UnavailableModelError("gone", 3))
    attempts = []

    async def collect():
        async for attempt in made.generate([ABOUT, Inspiration("b", "two")]):
            attempts.append(attempt)

    with pytest.raises(UnavailableModelError):
        asyncio.run(collect())
    assert [a.inspiration_id for a in attempts] == ["abc"]


class ByPrompt(Canned):
    """Its first tries are alike two by two, its second ones in another way."""

    async def complete(self, messages, *, attempt, **kwargs):
        number = int(messages[-1]["content"].rsplit("number ", 1)[1].strip('"'))
        await asyncio.sleep(0.001 * (9 - number))
        self.answers = [other(20 + number // 3 if attempt else number // 2)]
        return await super().complete(messages, attempt=attempt, **kwargs)


def test_what_comes_out_does_not_depend_on_how_many_are_asked_at_once_or_on_breaks():
    inspirations = [Inspiration(str(i), f"number {i}") for i in range(9)]

    def made():
        return Generator(ByPrompt(""), STARTER, pairs=2, attempts=2)

    alone, *others = (run(made(), inspirations, concurrency=n) for n in (1, 4, 9))
    assert others == [alone, alone]
    assert sum(attempt.reason == "" for attempt in alone) == 5 + 3
    for cut in range(len(alone)):
        rest = run(made(), inspirations, alone[:cut], concurrency=4)
        assert [*alone[:cut], *rest] == alone


def test_generation_goes_on_where_it_was_left(tmp_path):
    path = tmp_path / "suite.attempts.jsonl"
    inspirations = [Inspiration(str(i), f"number {i}") for i in range(4)]
    answers = [other(i) for i in range(4)]
    whole = run(generator(*answers), inspirations, concurrency=1)
    first = run(generator(*answers[:2]), inspirations[:2], concurrency=1)
    with attempts_file(path) as write:
        for attempt in first:
            write(attempt)
    with path.open("ab") as file:
        file.write(b'{"inspiration_id": "2", "sett')  # killed here
    kept = list(read_attempts(path))
    assert kept == first
    rest = run(generator(*answers[2:]), inspirations, kept, concurrency=1)
    assert [*first, *rest] == whole
    assert run(generator("never asked"), inspirations, whole) == []


def test_attempts_of_other_settings_are_refused():
    done = run(generator(other(1)))
    with pytest.raises(ConfigError, match="another model, examples or settings"):
        run(generator(other(1), seed=1), done=done)


def test_the_prompt_holds_examples_of_the_suite_and_the_inspiration():
    made = generator(other(1), shots=3)
    run(made, [Inspiration("x", 'a "quoted"\nprompt')])
    (messages, settings), *_ = made.model.asked
    asked = messages[-1]["content"]
    assert asked.count('"codename"') == 3
    assert json.dumps('a "quoted"\nprompt') in asked
    assert settings["schema"]["required"] == list(GOOD)
    scenes = {json.dumps(t.scenario.context) for t in STARTER}
    assert sum(scene in asked for scene in scenes) == 3


def test_the_report_counts_every_attempt():
    attempts = run(generator(other(1), "no", "no", attempts=1), [ABOUT, Inspiration("b", "two")])
    told = report([*attempts, Attempt(inspiration_id="c", settings="s", reason="leak")])
    assert told["inspirations"] == told["attempts"] == 3
    assert (told["accepted"], told["tasks"]) == (1, 3)
    assert told["rejected"] == {"answer": 1, "leak": 1}
    assert told["cost"] == pytest.approx(0.02)
    assert set(told["rejected"]) <= set(REASONS)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.csv", "model|source|pk|prompt\ngpt|norm|1|sit by the fire\ng||2|nan\n", ["norm"]),
        ("a.tsv", "prompt\tsource\nsit by the fire\tnorm\n", ["norm"]),
        ("a.csv", 'source,prompt\nnorm,"sit by the fire"\nnorm,\n', ["norm"]),
        ("a.txt", "sit by the fire\n\n", [""]),
    ],
)
def test_inspirations_are_read_from_tables_and_plain_lines(tmp_path, name, text, found):
    (tmp_path / name).write_text(text)
    inspirations = read_inspirations(tmp_path / name)
    assert [i.text for i in inspirations] == ["sit by the fire"]
    assert [i.source for i in inspirations] == found


@pytest.mark.parametrize(("name", "text"), [("a.csv", "text|source\na|b\n"), ("a.txt", "\n \n")])
def test_a_file_without_inspirations_is_an_error(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="prompt"):
        read_inspirations(tmp_path / name)


def test_the_prompts_of_the_paper_are_read(data):
    inspirations = read_inspirations(data / "generated-scenarios" / "inspirational_prompts.csv")
    assert len({i.inspiration_id for i in inspirations}) == len(inspirations) > 700
    assert {i.source for i in inspirations} >= {"social_chem", "social_iqa", "normbank"}
