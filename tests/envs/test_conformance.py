"""Every registered id keeps PettingZoo's and Gymnasium's contracts."""

import re
import warnings

import gymnasium
import pettingzoo
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, render_test, seed_test
from pettingzoo.utils.conversions import parallel_to_aec

import sotopia_gym
from sotopia_gym.envs.solo import SoloEnv
from sotopia_gym.errors import EpisodeStateError
from sotopia_gym.registration import SOLO_ID
from tests.random_play import equal, whole_episodes

# Text is neither an array nor a Box: PettingZoo says so, and nothing can be done about it.
UNAVOIDABLE = re.compile(
    r"Observation is not a NumPy array"
    r"|Observation space for each agent probably should be gymnasium\.spaces\.(box|Box)"
    r"|Action space for each agent probably should be gymnasium\.spaces\.(box|Box)"
)
EXACT = ("sotopia-v0", "sotopia-families-v0", "sotopia-plan-v0")
ORDERS = ("round-robin", "simultaneous", "random")


@pytest.fixture(
    params=[id for id in sotopia_gym.list_envs() if sotopia_gym.spec(id).view == "text"]
)
def env_id(request):
    if request.param in ("sotopia-all-v0", "sotopia-hard-v0"):
        request.getfixturevalue("official_suites")
    return request.param


@pytest.fixture
def kwargs(env_id):
    """How an id is made offline: the outcome judge where there is ground truth."""
    return {} if env_id in EXACT else {"judge": "none"}


@pytest.fixture(params=ORDERS)
def turn_order(request):
    return request.param


@pytest.fixture
def only_unavoidable_warnings():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    avoidable = [str(w.message) for w in caught if not UNAVOIDABLE.match(str(w.message))]
    assert not avoidable


@pytest.mark.usefixtures("only_unavoidable_warnings")
class TestPettingZoo:
    def test_parallel_api(self, env_id, kwargs, turn_order):
        parallel_api_test(sotopia_gym.make(env_id, turn_order=turn_order, **kwargs), num_cycles=60)

    def test_aec_api_of_our_own_view(self, env_id, kwargs, turn_order):
        api_test(sotopia_gym.make_aec(env_id, turn_order=turn_order, **kwargs), num_cycles=60)

    def test_aec_api_of_pettingzoos_conversion(self, env_id, kwargs, turn_order):
        env = parallel_to_aec(sotopia_gym.make(env_id, turn_order=turn_order, **kwargs))
        api_test(env, num_cycles=60)

    def test_render_modes(self, env_id, kwargs, capsys):
        render_test(
            lambda render_mode: sotopia_gym.make_aec(env_id, render_mode=render_mode, **kwargs)
        )
        assert "Scene:" in capsys.readouterr().out

    def test_pettingzoos_seed_tests(self, env_id, kwargs):
        parallel_seed_test(lambda: sotopia_gym.make(env_id, **kwargs))
        seed_test(lambda: sotopia_gym.make_aec(env_id, **kwargs))

    def test_ids_exist_in_pettingzoos_registry(self, env_id, kwargs):
        env = pettingzoo.make("parallel", f"sotopia/{env_id}", max_cycles=7, **kwargs)
        assert (env.spec.id, env.max_turns) == (env_id, 7)
        aec = pettingzoo.make("aec", f"sotopia/{env_id}", **kwargs).unwrapped
        assert isinstance(aec, sotopia_gym.SocialAECEnv)


def test_equal_seeds_give_equal_episodes_observations_rewards_and_infos(env_id, kwargs, turn_order):
    one, other, third = (
        whole_episodes(sotopia_gym.make(env_id, turn_order=turn_order, **kwargs), seed, 5)
        for seed in (3, 3, 4)
    )
    assert len(one) == len(other)
    for returned, again in zip(one, other, strict=True):
        assert all(equal(a, b) for a, b in zip(returned, again, strict=True))
    assert not equal(one[0][0], third[0][0])


def test_observations_always_lie_in_their_spaces(env_id, kwargs, turn_order):
    env = sotopia_gym.make(env_id, turn_order=turn_order, **kwargs)
    for returned in whole_episodes(env, seed=11, count=30):
        for agent, observation in returned[0].items():
            assert env.observation_space(agent).contains(observation)


def test_all_end_together_in_the_step_that_carries_the_rewards(env_id, kwargs, turn_order):
    env = sotopia_gym.make(env_id, turn_order=turn_order, **kwargs)
    steps = [r for r in whole_episodes(env, seed=5, count=30) if len(r) == 5]
    for _, rewards, terminations, truncations, infos in steps:
        ended = {t or u for t, u in zip(terminations.values(), truncations.values(), strict=True)}
        assert len(ended) == 1
        assert all(type(value) is bool for value in (*terminations.values(), *truncations.values()))
        assert all(type(reward) is float and 0 <= reward <= 10 for reward in rewards.values())
        if not ended.pop():
            assert set(rewards.values()) == {0.0}
        statuses = {info["judgement"] for info in infos.values()}
        assert statuses <= ({"pending", "scored"} if env_id in EXACT else {"unjudged"})


def test_in_turn_an_agent_hears_of_its_own_last_action():
    env = sotopia_gym.make_aec("sotopia-v0")
    env.reset(seed=0)
    first = env.agent_selection
    env.step(sotopia_gym.Action("speak", "  "))
    env.step(sotopia_gym.Action("speak", "Hello."))
    assert env.agent_selection == first
    assert env.last()[-1]["coerced"] is not None
    env.step(sotopia_gym.Action("speak", "Hello."))
    assert env.infos[first]["coerced"] is None


class TestGymnasium:
    @pytest.mark.parametrize("role", ["agent_0", "agent_1", "random"])
    @pytest.mark.parametrize("partner", ["scripted/fair", "scripted/random", "scripted/silent"])
    def test_check_env(self, role, partner):
        env = gymnasium.make(SOLO_ID, role=role, partner=partner)
        check_env(env.unwrapped, skip_render_check=True)

    @pytest.mark.parametrize("suite", ["sotopia-all", "sotopia-hard"])
    def test_check_env_on_the_official_suites(self, suite, official_suites):
        env = gymnasium.make(SOLO_ID, suite=suite, judge="none", partner="scripted/random")
        check_env(env.unwrapped, skip_render_check=True)

    def test_render_modes(self, capsys):
        env = gymnasium.make(SOLO_ID, render_mode="ansi")
        env.reset(seed=0)
        assert "Scene:" in env.render()
        env = gymnasium.make(SOLO_ID, render_mode="human")
        env.reset(seed=0)
        assert env.render() is None
        assert "Scene:" in capsys.readouterr().out

    def test_the_partner_moves_first_when_the_learner_is_second(self):
        env = SoloEnv(role="agent_1", partner="scripted/fair")
        observation, info = env.reset(seed=0)
        assert observation["turn"] == 1
        assert observation["your_turn"] == 1
        assert info["role"] == "agent_1"
        assert observation["dialogue"]

    def test_the_end_is_reported_once(self):
        env = SoloEnv(role="agent_0", partner="scripted/silent")
        env.reset(seed=0)
        assert env.step(sotopia_gym.Action("leave"))[2]
        for action in (sotopia_gym.Action("leave"), "garbage"):
            with pytest.raises(EpisodeStateError, match=r"reset\(\)"):
                env.step(action)
        env.reset(seed=1)
        assert not env.step(sotopia_gym.Action("speak", "Hello."))[2]

    def test_an_action_that_had_another_effect_is_told_after_the_partners_have_played(self):
        env = SoloEnv(role="agent_0", partner="scripted/silent")
        assert env.reset(seed=0)[1]["coerced"] is None
        assert env.step(sotopia_gym.Action("speak", "  "))[-1]["coerced"] is not None
        assert env.step(sotopia_gym.Action("speak", "Hello."))[-1]["coerced"] is None

    def test_both_roles_come_up_and_can_be_chosen(self):
        env = SoloEnv()
        roles = {env.reset(seed=seed)[1]["role"] for seed in range(10)}
        assert roles == {"agent_0", "agent_1"}
        assert env.reset(seed=0, options={"role": "agent_1"})[1]["role"] == "agent_1"

    def test_vectorised_without_shared_memory(self):
        envs = gymnasium.make_vec(
            SOLO_ID, num_envs=2, vectorization_mode="async", vector_kwargs={"shared_memory": False}
        )
        observations, _ = envs.reset(seed=0)
        assert all(text.startswith("Scene:") for text in observations["background"])
        envs.step(envs.action_space.sample())
        envs.close()


def test_random_play_of_10_000_episodes_ends_each_with_float_rewards():
    env = sotopia_gym.make("sotopia-v0")
    for agent in env.possible_agents:
        env.action_space(agent).seed(1)
    env.reset(seed=1)
    endings = set()
    for _ in range(10_000):
        env.reset()
        turns = 0
        while env.agents:
            _, rewards, *_, infos = env.step(
                {agent: env.action_space(agent).sample() for agent in env.agents}
            )
            turns += 1
            assert turns <= env.max_turns
        assert all(type(reward) is float and 0 <= reward <= 10 for reward in rewards.values())
        endings.add(infos["agent_0"]["ending"])
    assert {"left", "turn-limit"} <= endings
