"""What users of SocialEnv rely on beyond the API tests."""

import asyncio
import pickle

import numpy as np
import pytest

import sotopia_gym
from sotopia_gym import Action, Judge, SocialEnv, Suite
from sotopia_gym.envs.dialogue import ACTION_TYPES
from sotopia_gym.envs.solo import SoloEnv
from sotopia_gym.envs.spaces import MAX_DIALOGUE_LENGTH
from sotopia_gym.envs.view import DialogueView
from sotopia_gym.episodes.schema import DimensionScore, Judgement
from sotopia_gym.errors import (
    ActionError,
    ConfigError,
    EpisodeStateError,
    JudgeError,
    ModelError,
    TaskError,
    UnknownIdError,
)
from sotopia_gym.tasks.schema import Task

HELLO = Action("speak", "hello")


@pytest.fixture(scope="module")
def starter():
    return sotopia_gym.load_suite("starter")


@pytest.fixture(scope="module")
def trio(starter):
    """A suite of one open-ended task for three."""
    first, second = starter.tasks[0], starter.tasks[2]
    cast = {c.name: c for c in (*first.characters, *second.characters)}
    raw = first.model_dump()
    raw["scenario"]["goals"] = ["be kind", "be brief", "be gone"]
    raw["scenario"] |= {"outcome": None, "constraints": ()}
    raw |= {"task_id": "trio", "characters": list(cast.values())[:3]}
    return Suite(name="trio", tasks=(Task.model_validate(raw),))


class Flaky(Judge):
    """Fails a number of times, then scores everybody 7."""

    name = "flaky"

    def __init__(self, failures):
        self.failures = failures

    def judge(self, episode):
        if self.failures:
            self.failures -= 1
            return Judgement(judge=self.name, error="the server is down")
        seven = {"goal": DimensionScore(score=7)}
        return Judgement(judge=self.name, scores=dict.fromkeys(episode.task.agents, seven))


class TestReset:
    def test_a_task_can_be_picked(self, starter):
        env = SocialEnv(starter)
        wanted = starter.tasks[17]
        _, infos = env.reset(options={"task": wanted.task_id})
        assert {info["task_id"] for info in infos.values()} == {wanted.task_id}
        assert env.task == wanted

    def test_an_unknown_task_is_an_error_that_suggests_the_nearest(self, starter):
        env = SocialEnv(starter)
        with pytest.raises(UnknownIdError, match="price-v1-train-7'"):
            env.reset(options={"task": "price-v1-train-7x"})

    def test_unknown_options_are_listed(self, starter):
        _, infos = SocialEnv(starter).reset(options={"colour": "red", "task": None})
        assert infos["agent_0"]["ignored_options"] == ["colour"]

    def test_without_a_seed_the_generator_carries_on(self, starter):
        env = SocialEnv(starter)
        env.reset(seed=1)
        tasks = {env.reset()[1]["agent_0"]["task_id"] for _ in range(20)}
        assert len(tasks) > 5

    def test_only_the_tasks_of_a_split_are_played(self):
        env = sotopia_gym.make("sotopia-v0", split="heldout")
        tasks = {env.reset(seed=s)[1]["agent_0"]["task_id"] for s in range(40)}
        assert all("heldout" in task for task in tasks)

    def test_a_suite_of_mixed_sizes_is_refused(self, starter, trio):
        with pytest.raises(TaskError, match="same number of agents"):
            SocialEnv(Suite(name="mixed", tasks=(*starter.tasks[:1], *trio.tasks)))


class TestStep:
    def test_actions_come_as_objects_dicts_or_samples(self, starter):
        for hello in (
            HELLO,
            {"action_type": "speak", "argument": "hello"},
            {"action_type": 1, "argument": "hello", "to": []},
            {"action_type": np.int64(1), "argument": "hello", "to": np.zeros(2, dtype=np.int8)},
        ):
            env = SocialEnv(starter)
            env.reset(seed=0)
            observations, *_ = env.step({"agent_0": hello})
            assert observations["agent_1"]["last_turn"].endswith('said: "hello"')

    @pytest.mark.parametrize(
        ("garbage", "message"),
        [
            ({"agent_0": "hello"}, "agent_0: an action must be"),
            ({"agent_0": None}, "agent_0: an action must be"),
            ({"agent_0": {"argument": "hello"}}, "no 'action_type'"),
            ({"agent_0": {"action_type": 9}}, "below 5"),
            ({"agent_0": {"action_type": -1}}, "below 5"),
            ({"agent_0": {"action_type": True}}, "must be one of"),
            ({"agent_0": {"action_type": "speak", "argument": b"x"}}, "must be a string"),
            ({"agent_0": {"action_type": "speak", "volume": 3}}, "unknown keys"),
            ({"agent_0": {"action_type": "speak", "argument": "x", "to": [1]}}, "2 zeros and"),
            ({"agent_0": {"action_type": "speak", "argument": "x", "to": [0, 2]}}, "2 zeros and"),
            ({"agent_0": {"action_type": "speak", "argument": "x", "to": 3}}, "0/1 vector"),
            ({"agent_7": HELLO}, "no agent agent_7"),
            ({}, "no action came for agent_0"),
            (HELLO, "expected a dict of agent to action"),
        ],
    )
    def test_garbage_is_an_error_that_leaves_the_state_as_it_was(self, starter, garbage, message):
        env = SocialEnv(starter)
        env.reset(seed=0)
        before = env.observe("agent_1")
        with pytest.raises(ActionError, match=message):
            env.step(garbage)
        after = env.observe("agent_1")
        assert all(np.array_equal(before[key], after[key]) for key in before)
        env.step({"agent_0": HELLO})

    def test_acting_out_of_turn_becomes_none_and_the_info_says_so(self, starter):
        env = SocialEnv(starter)
        env.reset(seed=0)
        observations, *_, infos = env.step({"agent_0": HELLO, "agent_1": HELLO})
        assert infos["agent_0"]["coerced"] is None
        assert "not this agent's turn" in infos["agent_1"]["coerced"]
        assert observations["agent_0"]["dialogue"].count("hello") == 1

    def test_allowed_actions_say_whose_turn_it_is(self, starter):
        env = SocialEnv(starter)
        observations, _ = env.reset(seed=0)
        assert observations["agent_0"]["allowed_actions"].tolist() == [1] * len(ACTION_TYPES)
        assert observations["agent_1"]["allowed_actions"].tolist() == [1, 0, 0, 0, 0]
        assert (observations["agent_0"]["your_turn"], observations["agent_1"]["your_turn"]) == (
            1,
            0,
        )

    def test_leaving_terminates_and_the_turn_limit_truncates(self, starter):
        env = SocialEnv(starter, max_turns=2)
        env.reset(seed=0)
        env.step({"agent_0": HELLO})
        _, _, terminations, truncations, _ = env.step({"agent_1": HELLO})
        assert set(terminations.values()) == {False}
        assert set(truncations.values()) == {True}
        env.reset()
        _, _, terminations, truncations, _ = env.step({"agent_0": Action("leave")})
        assert set(terminations.values()) == {True}
        assert set(truncations.values()) == {False}

    def test_no_step_without_reset_or_after_the_end(self, starter):
        env = SocialEnv(starter)
        with pytest.raises(EpisodeStateError, match=r"reset\(\)"):
            env.step({"agent_0": HELLO})
        env.reset(seed=0)
        env.step({"agent_0": Action("leave")})
        with pytest.raises(EpisodeStateError, match=r"reset\(\)"):
            env.step({"agent_0": HELLO})


class TestMoreThanTwo:
    def test_private_words_are_seen_by_sender_and_addressee_only(self, trio):
        env = SocialEnv(trio, judge="none")
        env.reset(seed=0)
        observations, *_ = env.step({"agent_0": Action("speak", "psst", ("agent_2",))})
        assert "psst" in observations["agent_0"]["last_turn"]
        assert "privately" in observations["agent_2"]["last_turn"]
        assert observations["agent_1"]["last_turn"] == observations["agent_1"]["dialogue"] == ""

    def test_they_may_also_be_addressed_by_name(self, trio):
        env = SocialEnv(trio, judge="none")
        env.reset(seed=0)
        whisper = Action("speak", "psst", (env.task.names["agent_2"],))
        observations, *_ = env.step({"agent_0": whisper})
        assert "psst" in observations["agent_2"]["dialogue"]
        assert "psst" not in observations["agent_1"]["dialogue"]

    def test_one_who_left_perceives_nothing_more(self, trio):
        env = SocialEnv(trio, judge="none")
        env.reset(seed=0)
        env.step({"agent_0": Action("leave")})
        observations, *_ = env.step({"agent_1": HELLO})
        assert "hello" in observations["agent_2"]["dialogue"]
        assert "hello" not in observations["agent_0"]["dialogue"]

    def test_one_who_left_stays_until_all_end_together(self, trio):
        env = SocialEnv(trio, judge="none")
        env.reset(seed=0)
        env.step({"agent_0": Action("leave")})
        assert env.agents == ["agent_0", "agent_1", "agent_2"]
        *_, infos = env.step({"agent_0": HELLO, "agent_1": HELLO})
        assert infos["agent_0"]["coerced"] is not None
        _, rewards, terminations, _, _ = env.step({"agent_2": Action("leave")})
        assert set(terminations.values()) == {True}
        assert len(rewards) == 3
        assert env.agents == []

    def test_a_turn_of_five_that_shout_fits_the_observation(self, trio):
        env = SocialEnv(trio, judge="none", turn_order="simultaneous", max_turns=12)
        env.reset(seed=0)
        shout = Action("speak", "\U000e0041" * 4096)
        while env.agents:
            observations, *_, infos = env.step(dict.fromkeys(env.possible_agents, shout))
            assert env.observation_space("agent_0").contains(observations["agent_0"])
        assert infos["agent_0"]["dialogue_cut"] > 0


class TestJudging:
    def test_the_last_step_carries_scores_outcome_and_reward(self, starter):
        env = SocialEnv(starter)
        task = next(t for t in starter if t.scenario.outcome.family == "price")
        env.reset(options={"task": task.task_id})
        env.step({"agent_0": Action("speak", "How about $50?")})
        env.step({"agent_1": Action("speak", "Deal.")})
        _, rewards, _, _, infos = env.step({"agent_0": Action("leave")})
        for agent, info in infos.items():
            assert info["judgement"] == "scored"
            assert info["judge"] == "outcome"
            assert info["scores"] == {"goal": rewards[agent]}
            assert info["outcome"]["terms"] == {"price": 50.0}
        assert env.episode.judgement.goal("agent_0") == rewards["agent_0"]

    def test_playing_unjudged_says_so_everywhere(self, starter):
        env = SocialEnv(starter, judge="none")
        _, infos = env.reset(seed=0)
        assert infos["agent_0"]["judgement"] == "unjudged"
        _, rewards, *_, infos = env.step({"agent_0": Action("leave")})
        assert infos["agent_1"]["judgement"] == "unjudged"
        assert set(rewards.values()) == {0.0}
        assert env.episode.judgement is None

    def test_auto_is_resolved_in_spec_and_infos(self):
        env = sotopia_gym.make("sotopia-v0")
        assert env.spec.kwargs["judge"] == "outcome"
        assert env.reset(seed=0)[1]["agent_0"]["judge"] == "outcome"

    def test_a_judge_that_cannot_score_a_suite_says_so_when_the_environment_is_made(self, trio):
        with pytest.raises(JudgeError, match="trio has no ground truth"):
            SocialEnv(trio, judge="outcome")

    def test_an_episode_that_cannot_be_scored_is_an_error_that_carries_it(self, starter):
        env = SocialEnv(starter, judge=Flaky(failures=2))
        env.reset(seed=0)
        with pytest.raises(JudgeError, match="the server is down") as caught:
            env.step({"agent_0": Action("leave")})
        assert caught.value.episode.ending == "left"
        assert caught.value.episode.judgement.error == "the server is down"
        with pytest.raises(EpisodeStateError, match="rejudge"):
            env.step({"agent_0": HELLO})
        with pytest.raises(JudgeError):
            env.rejudge()
        _, rewards, terminations, _, infos = env.rejudge()
        assert rewards == {"agent_0": 7.0, "agent_1": 7.0}
        assert terminations["agent_0"]
        assert infos["agent_0"]["judgement"] == "scored"
        assert env.agents == []
        with pytest.raises(EpisodeStateError):
            env.rejudge()

    @pytest.mark.parametrize("failure", [JudgeError("mine"), ModelError("down"), None])
    def test_a_judge_that_raises_or_returns_nothing_loses_no_episode(self, starter, failure):
        class Broken(Flaky):
            def judge(self, episode):
                if failure is not None:
                    raise failure

        env = SocialEnv(starter, judge=Broken(0))
        env.reset(seed=0)
        with pytest.raises(JudgeError, match="flaky") as caught:
            env.step({"agent_0": Action("leave")})
        assert caught.value.episode.judgement.error
        assert caught.value.episode.ending == "left"

    @pytest.mark.parametrize("reward", [float("nan"), None])
    def test_a_reward_function_cannot_score_what_is_unscored(self, starter, reward):
        env = SocialEnv(starter, judge=Flaky(0), reward=lambda judgement, agent: reward)
        env.reset(seed=0)
        with pytest.raises(JudgeError, match="no reward for agent_0"):
            env.step({"agent_0": Action("leave")})
        env = SocialEnv(starter, judge=Flaky(1), reward=lambda judgement, agent: 1.0)
        env.reset(seed=0)
        with pytest.raises(JudgeError, match="the server is down"):
            env.step({"agent_0": Action("leave")})

    @pytest.mark.parametrize("reward", [{}, {"goal": "a"}, None, 3])
    def test_a_reward_that_is_none_is_refused_when_the_environment_is_made(self, starter, reward):
        with pytest.raises(ConfigError, match=r"reward|weight"):
            SocialEnv(starter, reward=reward)

    def test_the_single_agent_view_can_judge_again_too(self, starter):
        env = SoloEnv(role="agent_0", env=SocialEnv(starter, judge=Flaky(failures=1)))
        with pytest.raises(EpisodeStateError, match="reset"):
            env.step(HELLO)
        env.reset(seed=0)
        with pytest.raises(JudgeError):
            env.step(Action("leave"))
        _, reward, terminated, _, info = env.rejudge()
        assert (reward, terminated, info["judgement"]) == (7.0, True, "scored")

    def test_an_environment_can_be_pickled_in_mid_episode(self, starter):
        env = SocialEnv(starter)
        env.reset(seed=0)
        env.step({"agent_0": HELLO})
        copy = pickle.loads(pickle.dumps(env))
        ends = [e.step({"agent_1": Action("leave")}) for e in (env, copy)]
        assert ends[0][1] == ends[1][1]
        assert ends[0][0]["agent_0"]["dialogue"] == ends[1][0]["agent_0"]["dialogue"]

    def test_a_spec_makes_the_same_environment_again(self):
        env = sotopia_gym.make("sotopia-v0", judge="panel:outcome+outcome", max_turns=7)
        again = sotopia_gym.make(env.spec.id, **env.spec.kwargs)
        assert (again.judge_name, again.max_turns) == (env.judge_name, 7)
        sotopia_gym.spec("sotopia-v0").kwargs["max_turns"] = 1
        assert sotopia_gym.make("sotopia-v0").max_turns == 20

    def test_the_asynchronous_step_gives_the_same(self, starter):
        env = SocialEnv(starter, judge=Flaky(failures=1))
        env.reset(seed=0)

        async def play():
            await env.astep({"agent_0": HELLO})
            with pytest.raises(JudgeError):
                await env.astep({"agent_1": Action("leave")})
            return await env.arejudge()

        assert asyncio.run(play())[1] == {"agent_0": 7.0, "agent_1": 7.0}


class TestAec:
    def test_whoever_may_act_is_selected(self):
        env = sotopia_gym.make_aec("sotopia-v0")
        env.reset(seed=0)
        selected = []
        for _ in range(4):
            selected.append(env.agent_selection)
            env.step(HELLO)
        assert selected == ["agent_0", "agent_1"] * 2

    def test_simultaneous_actors_do_not_see_each_other_before_all_have_acted(self):
        env = sotopia_gym.make_aec("sotopia-v0", turn_order="simultaneous")
        env.reset(seed=0)
        env.step(HELLO)
        assert (env.agent_selection, env.last()[0]["dialogue"]) == ("agent_1", "")
        env.step(HELLO)
        assert env.last()[0]["dialogue"].count("hello") == 2

    def test_a_refused_action_can_be_given_again(self):
        env = sotopia_gym.make_aec("sotopia-v0")
        env.reset(seed=0)
        with pytest.raises(ActionError):
            env.step("hello")
        assert env.agent_selection == "agent_0"
        env.step(HELLO)
        assert env.agent_selection == "agent_1"


class TestView:
    def test_the_oldest_turns_are_cut_whole(self):
        view = DialogueView(limit=20)
        for line in ("a" * 8, "b" * 8, "c" * 8):
            view.add([line])
        assert (view.text, view.turns_cut, view.last_turn) == ("bbbbbbbb\ncccccccc", 1, "cccccccc")

    def test_it_grows_as_a_plain_join_until_then(self):
        view = DialogueView(limit=MAX_DIALOGUE_LENGTH)
        lines = [f"line {n}" for n in range(500)]
        for line in lines:
            view.add([line])
        view.add([])
        assert view.text == "\n".join(lines)
        assert (view.last_turn, view.turns_cut) == ("", 0)


class TestRender:
    def test_ansi_shows_scene_goals_and_turns(self):
        env = sotopia_gym.make("sotopia-v0", render_mode="ansi")
        env.reset(seed=0)
        env.step({"agent_0": HELLO})
        text = env.render()
        assert "Scene:" in text
        assert text.count("Goal of") == 2
        assert 'said: "hello"' in text

    def test_human_prints_every_turn_once(self, capsys):
        env = sotopia_gym.make("sotopia-v0", render_mode="human")
        env.reset(seed=0)
        env.step({"agent_0": HELLO})
        env.render()
        assert capsys.readouterr().out.count('"hello"') == 1

    def test_without_a_mode_it_says_how_to_get_one(self):
        env = sotopia_gym.make("sotopia-v0")
        env.reset(seed=0)
        with pytest.raises(EpisodeStateError, match="render_mode='ansi'"):
            env.render()

    def test_an_unknown_mode_is_refused(self):
        with pytest.raises(ValueError, match="rgb_array"):
            sotopia_gym.make("sotopia-v0", render_mode="rgb_array")
