"""Bargaining in numbers: the libraries' contracts, and that the numbers mean what was said."""

import pickle

import gymnasium
import numpy as np
import pettingzoo
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test, parallel_seed_test

import sotopia_gym
from sotopia_gym import NumericEnv, NumericSoloEnv
from sotopia_gym.agents.scripted import PARTNERS
from sotopia_gym.envs.numeric import LEVELS
from sotopia_gym.envs.numeric_codec import FEATURES
from sotopia_gym.envs.numeric_families import CODECS
from sotopia_gym.episodes.schema import Judgement
from sotopia_gym.errors import (
    ActionError,
    ConfigError,
    EpisodeStateError,
    JudgeError,
    UnknownIdError,
)
from sotopia_gym.judges.outcome import OutcomeJudge
from sotopia_gym.registration import NUMERIC_SOLO_IDS
from sotopia_gym.tasks.families import get_family
from sotopia_gym.tasks.families.division import division_spec, splits
from sotopia_gym.tasks.families.price import price_spec
from sotopia_gym.tasks.schema import OutcomeSpec
from tests.random_play import equal, whole_episodes

FAMILIES = sorted(CODECS)
ACTIONS = ("discrete", "continuous")
MOST, ACCEPT, LEAVE = LEVELS - 1, LEVELS, LEVELS + 1

family = pytest.mark.parametrize("family", FAMILIES)
actions = pytest.mark.parametrize("actions", ACTIONS)


def numeric_id(family: str) -> str:
    return f"sotopia-numeric-{family.replace('_', '-')}-v0"


def named(vector) -> dict[str, float]:
    return dict(zip(FEATURES, vector.tolist(), strict=True))


def random_solo_episodes(env, seed: int, count: int) -> list:
    returned = []
    env.action_space.seed(seed)
    for episode in range(count):
        returned.append(env.reset(seed=seed if episode == 0 else None))
        over = False
        while not over:
            returned.append(env.step(env.action_space.sample()))
            over = returned[-1][2] or returned[-1][3]
    return returned


class TestContracts:
    @family
    @actions
    @pytest.mark.parametrize("turn_order", ["round-robin", "simultaneous", "random"])
    def test_pettingzoo(self, family, actions, turn_order):
        def make():
            return sotopia_gym.make(numeric_id(family), actions=actions, turn_order=turn_order)

        parallel_api_test(make(), num_cycles=30)
        parallel_seed_test(make)

    @family
    @actions
    def test_gymnasium(self, family, actions):
        env = gymnasium.make(NUMERIC_SOLO_IDS[family], actions=actions)
        check_env(env.unwrapped, skip_render_check=True)

    @family
    def test_ids_are_in_all_registries(self, family):
        id_ = numeric_id(family)
        assert id_ in sotopia_gym.list_envs()
        env = sotopia_gym.make(id_, split="heldout")
        assert isinstance(env, NumericEnv)
        assert env.spec.kwargs == {"family": family, "split": "heldout", "judge": "outcome"}
        assert pettingzoo.make("parallel", f"sotopia/{id_}", max_cycles=7).max_cycles == 7
        assert isinstance(gymnasium.make(NUMERIC_SOLO_IDS[family]).unwrapped, NumericSoloEnv)
        with pytest.raises(ConfigError, match="parallel_to_aec"):
            sotopia_gym.make_aec(id_)

    @family
    @actions
    def test_equal_seeds_give_equal_episodes(self, family, actions):
        one, other, third = (
            whole_episodes(NumericEnv(family, actions=actions), seed, 4) for seed in (3, 3, 4)
        )
        assert equal(one, other)
        assert not equal(one[0][0], third[0][0])

    @family
    def test_equal_seeds_give_equal_solo_episodes(self, family):
        one, other = (random_solo_episodes(NumericSoloEnv(family), 5, 6) for _ in range(2))
        assert equal(one, other)

    @family
    @actions
    def test_observations_lie_in_their_space_and_rewards_come_last(self, family, actions):
        env = NumericSoloEnv(family, actions=actions)
        for seen, *rest in random_solo_episodes(env, 1, 15):
            assert env.observation_space.contains(seen)
            if len(rest) > 1:
                reward, terminated, truncated, _ = rest
                assert type(reward) is float
                assert 0 <= reward <= 10
                assert not truncated
                assert terminated or reward == 0

    def test_an_environment_can_be_pickled_in_the_middle_of_an_episode(self):
        env = NumericSoloEnv("price")
        env.reset(seed=2)
        env.step(MOST)
        copy = pickle.loads(pickle.dumps(env))
        for _ in range(20):
            mine, theirs = env.step(MOST), copy.step(MOST)
            assert equal(mine, theirs)
            if mine[2]:
                break
        assert mine[2]

    def test_the_turn_limit_terminates_since_it_is_seen(self):
        env = NumericEnv("price", max_turns=4)
        seen, _ = env.reset(seed=0)
        while env.agents:
            seen, rewards, terminations, truncations, infos = env.step(dict.fromkeys(seen, MOST))
        assert infos["agent_0"]["ending"] == "turn-limit"
        assert named(seen["agent_0"])["turn"] == 1
        assert set(terminations.values()) == {True}
        assert set(truncations.values()) == {False}
        assert set(rewards.values()) == {2.5}

    def test_stable_baselines3_takes_it_without_a_warning(self):
        pytest.importorskip("stable_baselines3")
        from stable_baselines3.common import env_checker
        from stable_baselines3.common.env_util import make_vec_env

        for chosen in ACTIONS:
            env_checker.check_env(NumericSoloEnv("price", actions=chosen), warn=True)
        envs = make_vec_env(NumericSoloEnv, n_envs=2, seed=0)
        envs.reset()
        rows = [envs.step(np.array([LEAVE, MOST]))]
        assert rows[0][2].tolist() == [True, False]
        assert rows[0][3][0]["episode"]["r"] == 2.5

    @pytest.mark.slow
    def test_stable_baselines3_plays_it_in_processes_of_its_own(self):
        pytest.importorskip("stable_baselines3")
        from stable_baselines3.common.env_util import make_vec_env
        from stable_baselines3.common.vec_env import SubprocVecEnv

        envs = make_vec_env(NumericSoloEnv, 2, seed=0, vec_env_cls=SubprocVecEnv)
        assert envs.reset().shape == (2, len(FEATURES))
        assert envs.step(np.array([LEAVE, LEAVE]))[2].all()
        envs.close()


class TestWords:
    @family
    @pytest.mark.parametrize("split", ["train", "heldout"])
    def test_every_sentence_is_read_as_what_it_means(self, family, split):
        for seed in range(25):
            task = get_family(family).generate(seed, split)
            for agent in task.agents:
                codec = CODECS[family](task, agent, 20)
                name = task.names[agent]
                for level in np.linspace(0, 1, LEVELS):
                    terms = codec.terms(float(level), ())
                    proposal, agreement = codec.told(terms)
                    (proposed,) = codec.statements([(name, 1, proposal)])
                    (agreed,) = codec.statements([(name, 1, agreement)])
                    assert proposed.reading.offer == agreed.reading.offer == terms
                    assert proposed.reading.asks
                    assert not agreed.reading.asks
                (asked,) = codec.statements([(name, 1, "What do you suggest?")])
                read = asked.reading
                assert read.offer is None
                assert not any((read.accepts, read.rejects, read.retracts))

    @family
    def test_a_higher_level_never_asks_for_less(self, family):
        for seed in range(25):
            task = get_family(family).generate(seed)
            for agent in task.agents:
                codec = CODECS[family](task, agent, 20)
                asked = [codec.worth(codec.terms(level, ())) for level in (0.3, 0.6, 0.8, 1.0)]
                assert asked == sorted(asked) or family == "division"
                assert all(-1 <= worth <= 1 for worth in asked)

    @family
    def test_what_one_offers_the_other_accepts_and_both_get_the_score_of_the_judge(self, family):
        env = NumericEnv(family)
        for seed in range(5):
            env.reset(seed=seed)
            seen, *_ = env.step({"agent_0": MOST})
            assert named(seen["agent_1"])["theirs_made"] == 1
            assert named(seen["agent_0"])["mine_worth"] > 0
            seen, *_ = env.step({"agent_1": ACCEPT})
            assert named(seen["agent_0"])["agreed"] == named(seen["agent_1"])["agreed"] == 1
            _, rewards, terminations, _, infos = env.step({"agent_0": 0})
            assert all(terminations.values())
            assert infos["agent_0"]["ending"] == "left"
            judged = OutcomeJudge().judge(env.episode)
            assert judged.outcome.agreed
            assert rewards == {agent: judged.goal(agent) for agent in rewards}

    def test_a_price_at_ones_own_target_is_worth_10_to_both_roles(self):
        # In the grid of levels the target itself is two thirds of the way up.
        env = NumericEnv("price")
        for seed in range(6):
            env.reset(seed=seed)
            spec = price_spec(env.task)
            seen, *_ = env.step({"agent_0": 10})
            assert named(seen["agent_0"])["mine_worth"] == pytest.approx(0, abs=0.02)
            env.step({"agent_1": ACCEPT})
            _, rewards, *_, infos = env.step({"agent_0": 0})
            paid = infos["agent_0"]["outcome"]["terms"]["price"]
            target = spec.seller_target if spec.seller == "agent_0" else spec.buyer_target
            assert paid == pytest.approx(target, abs=0.5)
            assert rewards["agent_0"] == pytest.approx(10, abs=0.5)

    def test_nobody_proposes_more_than_the_asking_price(self):
        for seed in range(40):
            task = get_family("price").generate(seed)
            for agent in task.agents:
                codec = CODECS["price"](task, agent, 20)
                for level in (0.0, 0.5, 1.0):
                    assert 1 <= codec.terms(level, ()) <= price_spec(task).listing

    def test_who_proposes_no_more_than_it_was_offered_accepts(self):
        env = NumericEnv("price")
        env.reset(seed=0)
        env.step({"agent_0": 0})  # half its target short of the target
        seen, *_ = env.step({"agent_1": 8})
        assert named(seen["agent_1"])["agreed"] == 1
        assert env.env.observe("agent_0")["last_turn"].endswith('it is."')

    def test_to_accept_where_nothing_was_offered_asks(self):
        env = NumericEnv("price")
        env.reset(seed=0)
        seen, *_ = env.step({"agent_0": ACCEPT})
        assert env.env.observe("agent_0")["last_turn"].endswith('"What do you suggest?"')
        assert named(seen["agent_1"])["theirs_made"] == 0

    def test_leaving_is_no_deal(self):
        env = NumericSoloEnv("price", role="agent_0")
        env.reset(seed=0)
        _, reward, terminated, *_ = env.step(LEAVE)
        assert (reward, terminated) == (2.5, True)

    def test_a_division_leaves_what_the_other_asked_for(self):
        task = get_family("division").generate(0)
        codec = CODECS["division"](task, "agent_0", 20)
        counts = [item.count for item in division_spec(task).items]
        for kind, count in enumerate(counts):
            wanted = tuple(0 if k == kind else n for k, n in enumerate(counts))
            mine = codec.terms(0.5, [wanted])
            least = min(s[kind] for s in splits(counts) if codec.worth(s) >= 0)
            assert mine[kind] == least <= count


class TestKnowledge:
    def test_an_observation_does_not_depend_on_what_the_other_keeps_to_itself(self):
        env = NumericSoloEnv("price", role="agent_0", partner="scripted/fair")
        env.reset(seed=1)
        env.step(MOST)
        observation = env.solo.env.observe("agent_0")
        task = env.solo.env.task
        told = price_spec(task).model_dump()
        secret = "seller_target" if told["buyer"] == "agent_0" else "buyer_target"
        scenario = task.scenario.model_copy(
            update={"outcome": OutcomeSpec.model_validate(told | {secret: told[secret] * 1.3})}
        )
        changed = task.model_copy(update={"scenario": scenario})
        one, other = (CODECS["price"](t, "agent_0", 20) for t in (task, changed))
        assert np.array_equal(
            one.vector(one.read(observation)), other.vector(other.read(observation))
        )

    def test_offers_are_worth_more_the_better_they_are_for_either_role(self):
        task = get_family("price").generate(3)
        spec = price_spec(task)
        buyer, seller = (CODECS["price"](task, agent, 20) for agent in (spec.buyer, spec.seller))
        assert buyer.worth(spec.buyer_target) == seller.worth(spec.seller_target) == 0
        assert buyer.worth(0.8 * spec.buyer_target) > 0 > buyer.worth(1.2 * spec.buyer_target)
        assert seller.worth(1.2 * spec.seller_target) > 0 > seller.worth(0.8 * spec.seller_target)
        assert (buyer.context[0], seller.context[0]) == (-1, 1)

    def test_the_partners_concessions_are_seen(self):
        env = NumericSoloEnv("price", role="agent_0", partner="scripted/fair")
        env.reset(seed=2)
        views = [named(env.step(MOST)[0]) for _ in range(6)]
        assert all(view["theirs_made"] == 1 for view in views)
        worth = [view["theirs_worth"] for view in views]
        assert worth == sorted(worth)
        assert worth[-1] > worth[0] == pytest.approx(views[-1]["theirs_first"])
        assert views[-1]["theirs_best"] == pytest.approx(worth[-1])
        assert [view["turn"] for view in views] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])

    def test_the_last_chance_is_seen(self):
        env = NumericSoloEnv("price", role="agent_0", partner="scripted/stubborn")
        seen, _ = env.reset(seed=2)
        views = []
        over = False
        while not over:
            views.append(named(seen)["last_chance"])
            seen, _, over, *_ = env.step(MOST)
        assert views == [0] * 9 + [1]


class TestOptions:
    def test_by_default_the_partners_are_those_to_learn_with(self):
        env = NumericSoloEnv("price", role="agent_0")
        met = {env.reset(seed=seed)[1]["partners"]["agent_1"] for seed in range(25)}
        assert met == set(PARTNERS["train"])

    def test_any_agent_may_be_the_partner(self):
        env = NumericSoloEnv("price", role="agent_0", partner="scripted/accepting")
        env.reset(seed=0)
        seen, *_ = env.step(MOST)
        assert named(seen)["agreed"] == 1

    def test_tasks_of_the_family_come_from_a_suite_of_many(self):
        env = NumericEnv("division", suite="starter", split="heldout")
        assert len(env.env.suite) == 20
        assert {task.scenario.outcome.family for task in env.env.suite} == {"division"}

    def test_training_never_sees_a_held_out_task(self):
        train, heldout = (
            {task.task_id for task in NumericEnv("price", split=split).env.suite}
            for split in ("train", "heldout")
        )
        assert (len(train), len(heldout)) == (400, 100)
        assert not train & heldout

    def test_what_makes_no_sense_is_refused(self):
        with pytest.raises(UnknownIdError, match="Did you mean 'price'"):
            NumericEnv("prices")
        with pytest.raises(UnknownIdError, match="played in numbers"):
            NumericSoloEnv("secret")
        with pytest.raises(ConfigError, match="'both'"):
            NumericEnv("price", actions="both")

    @pytest.mark.parametrize("wrong", [-1, LEVELS + 2, 0.5, "3", None, [1, 2]])
    def test_a_wrong_discrete_action_changes_nothing(self, wrong):
        env = NumericEnv("price")
        env.reset(seed=0)
        with pytest.raises(ActionError):
            env.step({"agent_0": wrong})
        assert env.env.observe("agent_0")["turn"] == 0

    @pytest.mark.parametrize("wrong", [[1.5], [float("nan")], 0.5, [0.1, 0.2]])
    def test_a_wrong_continuous_action_changes_nothing(self, wrong):
        env = NumericSoloEnv("price", actions="continuous", role="agent_0")
        env.reset(seed=0)
        with pytest.raises(ActionError):
            env.step(np.array(wrong))
        assert env.solo.env.observe("agent_0")["turn"] == 0

    def test_missing_and_unknown_agents_are_refused(self):
        env = NumericEnv("price")
        env.reset(seed=0)
        with pytest.raises(ActionError, match="agent_0"):
            env.step({"agent_1": 3})
        with pytest.raises(ActionError, match="agent_7"):
            env.step({"agent_0": 3, "agent_7": 3})

    def test_there_must_be_an_episode(self):
        with pytest.raises(EpisodeStateError, match="reset"):
            NumericSoloEnv("price").step(0)
        with pytest.raises(EpisodeStateError, match="reset"):
            NumericEnv("price").step({"agent_0": 0})

    def test_an_episode_that_cannot_be_scored_raises_and_can_be_judged_again(self):
        class Faltering(OutcomeJudge):
            failed = False

            def judge(self, episode):
                if not self.failed:
                    self.failed = True
                    return Judgement(judge=self.name, error="for a test")
                return super().judge(episode)

        env = NumericSoloEnv("price", role="agent_0", judge=Faltering())
        env.reset(seed=0)
        with pytest.raises(JudgeError, match="for a test"):
            env.step(LEAVE)
        _, reward, terminated, *_ = env.rejudge()
        assert (reward, terminated) == (2.5, True)

    def test_the_episode_is_kept_in_words(self):
        env = NumericEnv("price", render_mode="ansi")
        env.reset(seed=0)
        env.step({"agent_0": MOST})
        env.step({"agent_1": LEAVE})
        assert 'said: "How about $' in env.render()
        assert env.episode.events[0].action.argument.startswith("How about $")
