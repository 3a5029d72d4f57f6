"""The exact judge and what judgements are."""

import pytest
from pydantic import ValidationError

import sotopia_gym
from sotopia_gym import judges
from sotopia_gym.episodes.schema import DimensionScore, Judgement
from sotopia_gym.errors import UnknownIdError
from sotopia_gym.judges import DIMENSIONS, OutcomeJudge


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
