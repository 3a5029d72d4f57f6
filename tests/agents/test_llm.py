"""Language models as agents; the embedded one, for real."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

import sotopia_gym
from sotopia_gym import Action, agents
from sotopia_gym.agents.llm import LLMAgent, read_action
from sotopia_gym.agents.prompts import CHAT, PROMPTS, SMALL, SOTOPIA, action_schema
from sotopia_gym.errors import (
    ActionError,
    ContextOverflowError,
    ModelError,
    RefusalError,
    TruncatedAnswerError,
    UnavailableModelError,
)
from sotopia_gym.llm import models
from sotopia_gym.llm.chat import Completion
from tests.canned import Canned

MODEL = "smollm2-135m"


@pytest.fixture(scope="module")
def agent():
    pytest.importorskip("xllamacpp", reason="the extra 'local' is not installed")
    try:
        models.find(MODEL)
    except ModelError as error:
        pytest.skip(str(error))
    return agents.from_spec(f"local/{MODEL}")


@pytest.mark.model
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


@pytest.mark.model
def test_equal_seeds_give_equal_words_once_the_prompt_is_cached(agent):
    observation = sotopia_gym.make("sotopia-v0").reset(seed=4)[0]["agent_0"]
    agent.act(observation)
    said = []
    for seed in (1, 1, 2):
        agent.reset(seed=seed)
        said.append(agent.act(observation))
    assert said[0] == said[1]
    assert said[0] != said[2]


@pytest.mark.model
def test_it_can_only_do_what_is_allowed(agent):
    observation = sotopia_gym.make("sotopia-v0").reset(seed=4)[0]["agent_1"]
    assert observation["your_turn"] == 0
    agent.reset(seed=0)
    assert agent.act(observation).action_type == "none"


@pytest.mark.slow
@pytest.mark.model
def test_a_chat_longer_than_the_context_loses_its_oldest_turns(agent):
    env = sotopia_gym.make("sotopia-v0", judge="none", max_turns=60)
    observations, _ = env.reset(seed=0)
    for turn in range(40):
        speaker = f"agent_{turn % 2}"
        observations, *_ = env.step({speaker: Action("speak", f"{turn} " + "words " * 600)})
    agent.reset(seed=0)
    agent.act(observations["agent_0"])
    usage = agent.usage()
    assert 0 < usage.prompt_tokens < models.get_model(MODEL).context


def first_observation():
    return sotopia_gym.make("sotopia-v0", judge="none").reset(seed=0)[0]["agent_0"]


GOOD = '{"action_type": "speak", "argument": "Hello."}'


class TestRepair:
    def test_an_invalid_answer_is_sent_back_with_what_is_wrong(self):
        model = Canned("I say hello.", '{"action_type": "shout", "argument": ""}', GOOD)
        assert LLMAgent(model).act(first_observation()) == Action("speak", "Hello.")
        _, second, third = (messages for messages, _ in model.asked)
        assert second[-2] == {"role": "assistant", "content": "I say hello."}
        assert "not JSON" in second[-1]["content"]
        assert "action_type must be one of" in third[-1]["content"]
        assert [kwargs["attempt"] for _, kwargs in model.asked] == [0, 1, 2]

    def test_after_the_last_repair_the_turn_passes_and_the_episode_keeps_the_reason(self):
        env = sotopia_gym.make("sotopia-v0", max_turns=2)
        bad = LLMAgent(Canned("no", "no", "no"))
        episode = sotopia_gym.play(env, {"agent_0": bad, "agent_1": "scripted/silent"}, seed=0)
        assert episode.events[0].action == Action("none")
        assert "no valid action in 3 answers: it is not JSON" in episode.events[0].note
        assert episode.usage["agent_0"].requests == 3
        assert episode.usage["agent_0"].cost == pytest.approx(0.03)

    def test_an_answer_that_is_of_no_use_is_paid_for_too(self):
        cut = Completion('{"acti', 100, 20, model="canned-1", fingerprint="fp", cost=0.01)
        agent = LLMAgent(Canned(TruncatedAnswerError("cut off", cut.text, cut), GOOD))
        assert agent.act(first_observation()) == Action("speak", "Hello.")
        assert agent.usage().requests == 2
        assert agent.usage().cost == pytest.approx(0.02)

    def test_a_refusal_counts_as_an_invalid_answer(self):
        model = Canned(RefusalError("refused", "I cannot do that"), GOOD)
        assert LLMAgent(model).act(first_observation()).argument == "Hello."
        assert model.asked[1][0][-2]["content"] == "I cannot do that"

    def test_a_model_that_cannot_be_reached_is_an_error_not_a_silence(self):
        model = Canned(UnavailableModelError("down", 6))
        with pytest.raises(UnavailableModelError):
            LLMAgent(model).act(first_observation())

    def test_a_dialogue_too_long_for_the_model_loses_its_oldest_turns_only(self):
        env = sotopia_gym.make("sotopia-v0", judge="none")
        observations, _ = env.reset(seed=0)
        for turn in range(8):
            said = Action("speak", f"line {turn}")
            observations, *_ = env.step({f"agent_{turn % 2}": said})
        model = Canned(ContextOverflowError("too long"), ContextOverflowError("too long"), GOOD)
        LLMAgent(model).act(observations["agent_0"])
        last = "\n".join(m["content"] for m in model.asked[-1][0])
        assert "line 7" in last
        assert "line 0" not in last
        assert env.task.goal("agent_0") in last


class TestReading:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "not JSON"),
            ("Sure! " + GOOD, "not JSON"),
            ("[]", "must be an object"),
            ('{"action_type": "speak", "argument": "x", "mood": 1}', "must be an object"),
            ('{"argument": "x"}', "action_type must be one of"),
            ('{"action_type": "speak", "argument": 3}', "must be a string"),
            ('{"action_type": "speak", "argument": ' + "9" * 5000 + "}", "not JSON"),
            ('{"action_type": "speak", "argument": "' + "x" * 5000 + '"}', "5000 characters"),
        ],
    )
    def test_what_is_no_action_says_why(self, text, problem):
        with pytest.raises(ActionError, match=problem):
            read_action(text, action_schema(first_observation()))

    @pytest.mark.parametrize("text", [GOOD, f"```json\n{GOOD}\n```", f" {GOOD}\n"])
    def test_json_is_read_also_in_a_fence(self, text):
        assert read_action(text, action_schema(first_observation())) == Action("speak", "Hello.")

    def test_where_there_are_several_others_one_can_be_addressed(self):
        observation = first_observation()
        background = observation["background"].replace(" (you), ", " (you), Bo Ek, ", 1)
        schema = action_schema(observation | {"background": background})
        answer = '{"action_type": "speak", "argument": "psst", "to": ["Bo Ek"]}'
        assert read_action(answer, schema) == Action("speak", "psst", ("Bo Ek",))
        with pytest.raises(ActionError, match="list of names among Bo Ek"):
            read_action(answer.replace("Bo Ek", "Nobody"), schema)
        with pytest.raises(ActionError, match="only"):
            read_action(answer, action_schema(observation))

    def test_surrogates_spelled_out_are_replaced(self):
        text = '{"action_type": "speak", "argument": "a\\ud800b"}'
        assert read_action(text, action_schema(first_observation())).argument == "a?b"


class TestPrompts:
    @pytest.mark.parametrize("prompt", [CHAT, SMALL])
    def test_earlier_chats_are_a_prefix_of_later_ones(self, prompt):
        env = sotopia_gym.make("sotopia-v0", judge="none")
        observations, _ = env.reset(seed=0)
        chats = []
        for turn in range(8):
            if turn % 2 == 0:
                chats.append(prompt.messages(observations["agent_0"]))
            observations, *_ = env.step({f"agent_{turn % 2}": Action("speak", f"line {turn}")})
        for earlier, later in pairwise(chats):
            assert later[: len(earlier)] == earlier
            assert json.loads(later[len(earlier)]["content"])["argument"].startswith("line")

    @pytest.mark.parametrize("prompt", PROMPTS.values(), ids=list(PROMPTS))
    def test_it_holds_role_goal_and_what_was_said(self, prompt):
        env = sotopia_gym.make("sotopia-v0", judge="none")
        env.reset(seed=0)
        observations, *_ = env.step({"agent_0": Action("speak", "Good morning!")})
        text = prompt.messages(observations["agent_1"])[-1]["content"]
        assert env.task.names["agent_1"] in text
        assert env.task.goal("agent_1") in text
        assert env.task.goal("agent_0") not in text
        assert 'said: "Good morning!"' in text

    def test_the_papers_layout_tells_turn_and_available_actions_in_one_message(self):
        (message,) = SOTOPIA.messages(first_observation())
        assert (
            "You are at turn 1. Your available action types are: none, speak," in message["content"]
        )

    def test_every_change_of_a_prompt_changes_its_version(self):
        assert len({prompt.version for prompt in PROMPTS.values()}) == len(PROMPTS)
        changed = replace(CHAT, system=CHAT.system + " ")
        assert changed.version != CHAT.version
        assert changed.version.startswith("chat-v1:")

    def test_the_prompt_goes_into_the_episode(self):
        env = sotopia_gym.make("sotopia-v0", max_turns=1)
        players = {"agent_0": LLMAgent(Canned(GOOD)), "agent_1": "scripted/silent"}
        assert sotopia_gym.play(env, players, seed=0).prompts == {"agent_0": CHAT.version}

    def test_the_schema_allows_what_the_observation_allows(self):
        observation = first_observation() | {"allowed_actions": [1, 0, 0, 0, 1]}
        kinds = action_schema(observation)["properties"]["action_type"]["enum"]
        assert kinds == ["none", "leave"]


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
        with pytest.raises(ModelError, match="no file"):
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
