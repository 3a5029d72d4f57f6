"""The exact judge and what judgements are."""

import asyncio

import pytest
from pydantic import ValidationError

import sotopia_gym
from sotopia_gym import Action, judges
from sotopia_gym.envs.dialogue import Event
from sotopia_gym.episodes.schema import DimensionScore, Episode, Judgement, Source
from sotopia_gym.errors import UnknownIdError
from sotopia_gym.judges import DIMENSIONS, OutcomeJudge
from sotopia_gym.judges.outcome import beside
from sotopia_gym.tasks.families import Outcome, get_family


def test_specs():
    assert judges.from_spec("none") is None
    assert judges.from_spec("auto").name == "outcome"
    judge = OutcomeJudge()
    assert judges.from_spec(judge) is judge
    with pytest.raises(UnknownIdError, match="Did you mean 'outcome'"):
        judges.from_spec("outcomes")


def test_seven_dimensions():
    assert len(DIMENSIONS) == 7
    assert (DIMENSIONS["goal"].low, DIMENSIONS["goal"].high) == (0, 10)
    assert (DIMENSIONS["secret"].low, DIMENSIONS["secret"].high) == (-10, 0)


def test_a_task_without_ground_truth_is_unscored_not_zero():
    env = sotopia_gym.make("sotopia-v0", judge="none")
    players = {"agent_0": "scripted/silent", "agent_1": "scripted/silent"}
    episode = sotopia_gym.play(env, players, seed=0)
    scenario = episode.task.scenario.model_copy(update={"outcome": None})
    task = episode.task.model_copy(update={"scenario": scenario})
    judgement = OutcomeJudge().judge(episode.model_copy(update={"task": task}))
    assert not judgement.scored
    assert judgement.goal("agent_0") is None
    assert "no ground truth" in judgement.error


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_is_a_finite_number(score):
    with pytest.raises(ValidationError, match="finite"):
        DimensionScore(score=score)


def test_a_judgement_with_an_error_is_unscored():
    assert not Judgement(judge="x", error="down").scored


FOREIGN = Source(format="test", record_id="1", transcript=True)


def foreign(*lines):
    """A conversation of another environment over the price of something, buyer first."""
    task = next(
        t
        for t in sotopia_gym.load_suite("starter")
        if t.scenario.outcome.family == "price" and t.scenario.outcome.buyer == "agent_0"
    )
    events = tuple(
        Event(turn, f"agent_{(turn - 1) % 2}", Action("speak", line))
        for turn, line in enumerate(lines, start=1)
    )
    return Episode(task=task, events=events, ending="unknown", source=FOREIGN)


def test_a_conversation_of_others_is_read_by_selective_rules():
    listing = int(foreign().task.scenario.outcome.listing)
    episode = foreign(
        f"would you take {listing - 1}?", f"ok {listing - 1} and I'll throw in the lock", "great!"
    )
    judgement = OutcomeJudge().judge(episode)
    assert judgement.outcome.terms == {"price": listing - 1}
    assert judgement.true_goals == {
        agent: score.goal
        for agent, score in get_family("price")
        .score(
            episode.task,
            Outcome(family="price", status="agreement", terms={"price": listing - 1}),
        )
        .scores.items()
    }
    assert asyncio.run(OutcomeJudge().ajudge(episode)) == judgement
    # The words are no agreement by the rule of our own environment.
    own = episode.model_copy(update={"source": None})
    assert not OutcomeJudge().judge(own).outcome.agreed


def test_where_the_words_of_others_carry_no_outcome_there_is_no_score():
    episode = foreign("hello, is it still there?", "yes, come and see it")
    judgement = OutcomeJudge().judge(episode)
    assert judgement.outcome.status == "unread"
    assert not judgement.scored
    assert "do not carry" in judgement.error
    given = Judgement(judge="somebody")
    assert beside(given, episode) is given
