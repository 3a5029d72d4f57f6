"""Scripted players."""

import pytest

import sotopia_gym
from sotopia_gym import agents
from sotopia_gym.agents.scripted import SCRIPTED
from sotopia_gym.errors import TaskError, UnknownIdError
from sotopia_gym.tasks.families import TEMPERAMENTS


@pytest.fixture(scope="module")
def env():
    return sotopia_gym.make("sotopia-v0", split="heldout")


@pytest.mark.parametrize("one", SCRIPTED)
@pytest.mark.parametrize("other", ["expert", "silent"])
def test_every_script_plays_both_roles_of_every_family(env, one, other):
    for task in env.suite.tasks[:2]:
        for cast in ((one, other), (other, one)):
            players = {f"agent_{n}": f"scripted/{name}" for n, name in enumerate(cast)}
            episode = sotopia_gym.play(env, players, seed=1, options={"task": task.task_id})
            assert episode.judgement.scored
            assert episode.agents == players


def test_equal_seeds_play_equal_episodes_and_others_differ(env):
    players = {"agent_0": "scripted/expert", "agent_1": "scripted/random"}
    one, again, other = (sotopia_gym.play(env, players, seed=seed) for seed in (5, 5, 6))
    assert one == again
    assert one.events != other.events


def test_experts_agree_and_the_controls_do_not(env):
    def rate(name):
        players = {"agent_0": f"scripted/{name}", "agent_1": f"scripted/{name}"}
        played = [
            sotopia_gym.play(env, players, seed=0, options={"task": task.task_id})
            for task in env.suite
        ]
        return sum(episode.judgement.outcome.agreed for episode in played) / len(played)

    assert rate("expert") >= 0.95
    assert rate("silent") == rate("accepting") == 0


@pytest.mark.parametrize("temperament", TEMPERAMENTS)
def test_a_script_sees_only_its_own_observation(env, temperament):
    """The same observation gives the same action, whatever the other's goal is."""
    for task in env.suite.tasks[:4]:
        actions = []
        for blind in (False, True):
            player = agents.from_spec(f"scripted/{temperament}")
            player.reset(seed=3)
            observations, _ = env.reset(seed=0, options={"task": task.task_id})
            observation = observations["agent_0"]
            if blind:
                env.reset(seed=1)
            actions.append(player.act(observation))
        assert actions[0] == actions[1]


def test_an_open_ended_task_is_refused_clearly(env):
    observations, _ = env.reset(seed=0)
    background = observations["agent_0"]["background"]
    start, end = background.index("Your goal"), background.index("\nThe conversation")
    background = background[:start] + "Your goal (private): Be nice." + background[end:]
    with pytest.raises(TaskError, match="price, division"):
        agents.from_spec("scripted/fair").act(observations["agent_0"] | {"background": background})


@pytest.mark.parametrize("spec", ["scripted/fare", "script/fair", "humann"])
def test_an_unknown_spec_suggests_the_nearest(spec):
    with pytest.raises(UnknownIdError, match="Did you mean"):
        agents.from_spec(spec)
