"""The embedded language model, for real."""

import json
from itertools import pairwise

import pytest

import sotopia_gym
from sotopia_gym import Action
from sotopia_gym.agents.local import LocalAgent, action_schema, chat_messages
from sotopia_gym.errors import ModelError
from sotopia_gym.llm import models

MODEL = "smollm2-135m"


@pytest.fixture(scope="module")
def agent():
    pytest.importorskip("xllamacpp", reason="the extra 'local' is not installed")
    try:
        models.find(MODEL)
    except ModelError as error:
        pytest.skip(str(error))
    return LocalAgent(MODEL)


def test_it_plays_a_whole_episode_in_words_of_its_own(agent):
    env = sotopia_gym.make("sotopia-v0", max_turns=6)
    cast = {"agent_0": "scripted/fair", "agent_1": agent}
    episode = sotopia_gym.play(env, cast, seed=0)
    said = [e.action for e in episode.events if e.agent == "agent_1"]
    assert any(action.argument.strip() for action in said)
    assert episode.agents["agent_1"] == "local/smollm2-135m"
    assert episode.judgement.scored
    usage = episode.usage["agent_1"]
    assert usage.requests == len(said)
    assert usage.prompt_tokens > usage.completion_tokens > 0


def test_equal_seeds_give_equal_words_once_the_prompt_is_cached(agent):
    observation = sotopia_gym.make("sotopia-v0").reset(seed=4)[0]["agent_0"]
    agent.act(observation)
    said = []
    for seed in (1, 1, 2):
        agent.reset(seed=seed)
        said.append(agent.act(observation))
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_it_can_only_do_what_is_allowed(agent):
    observation = sotopia_gym.make("sotopia-v0").reset(seed=4)[0]["agent_1"]
    assert observation["your_turn"] == 0
    agent.reset(seed=0)
    assert agent.act(observation).action_type == "none"


@pytest.mark.slow
def test_a_chat_longer_than_the_context_loses_its_oldest_turns(agent):
    env = sotopia_gym.make("sotopia-v0", judge="none", max_turns=60)
    observations, _ = env.reset(seed=0)
    for turn in range(40):
        speaker = f"agent_{turn % 2}"
        observations, *_ = env.step({speaker: Action("speak", f"{turn} " + "words " * 600)})
    agent.reset(seed=0)
    agent.act(observations["agent_0"])
    usage = agent.usage()
    assert usage["requests"] > 1
    assert 0 < usage["prompt_tokens"] < models.get_model(MODEL).context


class TestPrompt:
    def test_earlier_messages_are_a_prefix_of_later_ones(self):
        env = sotopia_gym.make("sotopia-v0", judge="none")
        observations, _ = env.reset(seed=0)
        chats = []
        for turn in range(8):
            if turn % 2 == 0:
                chats.append(chat_messages(observations["agent_0"]))
            observations, *_ = env.step({f"agent_{turn % 2}": Action("speak", f"line {turn}")})
        for earlier, later in pairwise(chats):
            assert later[: len(earlier)] == earlier
            assert json.loads(later[len(earlier)]["content"])["argument"].startswith("line")

    def test_it_holds_role_goal_and_what_was_said(self):
        env = sotopia_gym.make("sotopia-v0", judge="none")
        env.reset(seed=0)
        observations, *_ = env.step({"agent_0": Action("speak", "Good morning!")})
        last = chat_messages(observations["agent_1"])[-1]["content"]
        assert env.task.names["agent_1"] in last
        assert env.task.goal("agent_1") in last
        assert env.task.goal("agent_0") not in last
        assert 'said: "Good morning!"' in last

    def test_the_schema_allows_what_the_observation_allows(self):
        assert action_schema([1, 0, 0, 0, 1])["properties"]["action_type"]["enum"] == [
            "none",
            "leave",
        ]


class TestModels:
    def test_a_missing_model_says_how_to_get_it(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SOTOPIA_GYM_HOME", str(tmp_path))
        with pytest.raises(ModelError, match="sotopia-gym models pull smollm2-135m"):
            models.find(MODEL)

    def test_another_file_is_refused_and_nothing_is_kept(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SOTOPIA_GYM_HOME", str(tmp_path / "home"))
        other = tmp_path / "other.gguf"
        other.write_bytes(b"not a model")
        with pytest.raises(ModelError, match="SHA-256"):
            models.pull(MODEL, source=other)
        with pytest.raises(ModelError, match="cannot take"):
            models.pull(MODEL, source=tmp_path / "nowhere.whl")
        assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]

    def test_a_file_one_has_is_taken_whole(self, agent, monkeypatch, tmp_path):
        own = models.find(MODEL)
        monkeypatch.setenv("SOTOPIA_GYM_HOME", str(tmp_path))
        seen = []
        path = models.pull(
            MODEL, source=own, progress=lambda done, total: seen.append(done / total)
        )
        assert path.read_bytes() == own.read_bytes()
        assert seen[-1] == 1
        assert models.pull(MODEL) == path

    def test_a_damaged_file_is_noticed(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SOTOPIA_GYM_HOME", str(tmp_path))
        path = models.get_model(MODEL).path
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
        with pytest.raises(ModelError, match="4 bytes, expected 98362432"):
            models.find(MODEL)
