"""A language model as judge: what is asked, what is read, and what a failure becomes."""

import asyncio
import json

import pytest

import sotopia_gym
from sotopia_gym import Action, Episode, SocialEnv, judges
from sotopia_gym.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigError,
    JudgeError,
    RefusalError,
    TruncatedAnswerError,
    UnavailableModelError,
    UnknownIdError,
)
from sotopia_gym.judges import DIMENSIONS, Dimension
from sotopia_gym.judges.credit import turn_rewards
from sotopia_gym.judges.llm import GPT4_JUDGE, LLMJudge
from sotopia_gym.judges.prompt import judge_messages
from sotopia_gym.llm.chat import Completion
from tests.canned import Canned

AGENTS = ("agent_0", "agent_1")
SEVEN = tuple(DIMENSIONS.values())


def scores(agents=AGENTS, dimensions=SEVEN, **changed):
    """A good answer, with some scores changed."""
    return json.dumps(
        {
            agent: {
                d.name: {"reasoning": "because", "score": changed.get(d.name, max(0, d.low))}
                for d in dimensions
            }
            for agent in agents
        }
    )


@pytest.fixture(scope="module")
def env():
    return sotopia_gym.make("sotopia-v0", judge="none")


@pytest.fixture(scope="module")
def episode(env) -> Episode:
    return sotopia_gym.play(
        env, {"agent_0": "scripted/fair", "agent_1": "scripted/generous"}, seed=2
    )


def test_both_agents_are_scored_in_one_call_at_temperature_0(episode):
    model = Canned(scores(goal=8, relationship=-2))
    judgement = LLMJudge(model).judge(episode)
    assert judgement.scored
    assert judgement.judge == "canned"
    assert judgement.goal("agent_0") == 8
    assert set(judgement.scores["agent_1"]) == set(DIMENSIONS)
    assert judgement.scores["agent_1"]["relationship"].reasoning == "because"
    ((_, kwargs),) = model.asked
    assert kwargs["temperature"] == 0.0
    schema = kwargs["schema"]["properties"]["agent_0"]["properties"]["goal"]
    assert list(schema["properties"]) == ["reasoning", "score"]


def test_or_each_in_a_call_of_its_own(episode):
    model = Canned(scores(["agent_0"]), scores(["agent_1"]))
    assert LLMJudge(model, one_call=False).judge(episode).scored
    assert len(model.asked) == 2


def test_what_it_cost_and_who_answered_is_kept(episode):
    judgement = LLMJudge(Canned("nonsense", scores())).judge(episode)
    assert judgement.usage.requests == 2
    assert judgement.usage.cost == pytest.approx(0.02)
    assert judgement.models == ("canned-1 fp",)
    assert judgement.prompt.startswith("judge-v")


def test_an_answer_that_is_of_no_use_is_paid_for_too(episode):
    cut = Completion('{"agent', 100, 20, model="canned-1", fingerprint="fp", cost=0.01)
    error = TruncatedAnswerError("cut off", cut.text, cut)
    judgement = LLMJudge(Canned(error, scores())).judge(episode)
    assert judgement.scored
    assert judgement.usage.cost == pytest.approx(0.02)
    assert LLMJudge(Canned(error)).judge(episode).usage.cost == pytest.approx(0.03)


def test_the_truth_is_recorded_beside(episode):
    judgement = LLMJudge(Canned(scores(goal=10))).judge(episode)
    exact = judges.OutcomeJudge().judge(episode)
    assert judgement.true_goals == exact.true_goals
    assert judgement.outcome == exact.outcome
    assert judgement.goal("agent_0") == 10


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("I would say 7 of 10.", "not JSON"),
        (scores() + " I hope this helps!", "not JSON"),
        (scores()[:-3], "not JSON"),
        (scores(["agent_0"]), "missing"),
        (scores(goal=15), "15 is not in 0 to 10"),
        (scores(secret=1), "1 is not in -10 to 0"),
        (scores(goal="8"), "not a number"),
        (scores(goal=True), "not a number"),
        (scores(goal=float("nan")), "NaN"),
        (RefusalError("the model declined", "no"), "declined"),
        (UnavailableModelError("no answer from the server", 6), "no answer"),
    ],
)
def test_a_failure_is_tried_again_and_then_unscored_with_its_cause(episode, answer, cause):
    model = Canned(answer)
    judgement = LLMJudge(model, attempts=3).judge(episode)
    assert not judgement.scored
    assert judgement.scores == {}
    assert judgement.goal("agent_0") is None
    assert cause in judgement.error
    assert [kwargs["attempt"] for _, kwargs in model.asked] == [0, 1, 2]
    if not isinstance(answer, UnavailableModelError):
        assert cause in model.asked[1][0][-1]["content"]
    assert LLMJudge(Canned(answer, scores(goal=3))).judge(episode).goal("agent_1") == 3


def test_what_asking_again_cannot_mend_is_asked_once(episode):
    model = Canned(AuthenticationError("the key is not accepted"))
    assert "not accepted" in LLMJudge(model).judge(episode).error
    assert len(model.asked) == 1


def test_a_spent_budget_says_nothing_about_the_episode(episode, env):
    judge = LLMJudge(Canned(BudgetExceededError("$1 is spent")))
    with pytest.raises(BudgetExceededError):
        judge.judge(episode)
    playing = SocialEnv(env.suite, judge=judge)
    playing.reset(seed=0)
    playing.step({"agent_0": Action("speak", "Hello.")})
    with pytest.raises(JudgeError, match="spent") as caught:
        playing.step({"agent_1": Action("leave")})
    assert caught.value.episode.ending == "left"


class TestSilence:
    def test_an_empty_conversation_is_scored_by_rule_without_asking(self, env):
        players = {"agent_0": "scripted/silent", "agent_1": "scripted/silent"}
        model = Canned("never asked")
        judgement = LLMJudge(model).judge(sotopia_gym.play(env, players, seed=0))
        assert model.asked == []
        assert {s.score for by in judgement.scores.values() for s in by.values()} == {0.0}
        assert "By rule" in judgement.scores["agent_0"]["goal"].reasoning

    def test_of_a_one_sided_one_only_the_active_side_is_asked(self, env):
        players = {"agent_0": "scripted/silent", "agent_1": "scripted/fair"}
        episode = sotopia_gym.play(env, players, seed=0)
        model = Canned(scores(["agent_1"], goal=6))
        judgement = LLMJudge(model).judge(episode)
        assert (judgement.goal("agent_0"), judgement.goal("agent_1")) == (0, 6)
        assert list(judgement.scores) == ["agent_0", "agent_1"]


class TestDimensions:
    def test_dimensions_are_data(self, episode):
        humour = Dimension("humour", 1, 5, "Was it funny? 1: no; 5: very.")
        model = Canned(scores(dimensions=(humour,), humour=4))
        judgement = LLMJudge(model, dimensions=(humour,)).judge(episode)
        assert judgement.scores["agent_0"]["humour"].score == 4
        assert "Was it funny?" in model.asked[0][0][0]["content"]
        assert judgement.goal("agent_0") is None

    def test_a_range_is_a_range(self):
        with pytest.raises(ValueError, match="not below"):
            Dimension("humour", 5, 1, "")

    def test_the_judge_sees_goals_secrets_and_the_whole_conversation(self, episode):
        text = "\n".join(m["content"] for m in judge_messages(episode, AGENTS, ()))
        task = episode.task
        for agent in task.agents:
            assert json.dumps(task.character(agent).secret, ensure_ascii=False) in text
            assert json.dumps(task.goal(agent), ensure_ascii=False) in text
        assert text.count("\nTurn ") == len(episode.events)


class TestReward:
    def test_it_can_be_another_dimension_weights_or_a_function(self, env):
        answer = scores(goal=8, relationship=3)
        rewards = {}
        for name, reward in {
            "goal": "goal",
            "relationship": "relationship",
            "weights": {"goal": 0.5, "relationship": 2},
            "function": lambda judgement, agent: 1.0 if agent == "agent_0" else -1.0,
        }.items():
            playing = SocialEnv(env.suite, judge=LLMJudge(Canned(answer)), reward=reward)
            playing.reset(seed=0)
            playing.step({"agent_0": Action("speak", "Hello.")})
            playing.step({"agent_1": Action("speak", "Hello.")})
            _, rewards[name], *_ = playing.step({"agent_0": Action("leave")})
        assert {name: found["agent_0"] for name, found in rewards.items()} == {
            "goal": 8,
            "relationship": 3,
            "weights": 10,
            "function": 1,
        }
        assert rewards["function"]["agent_1"] == -1

    def test_one_that_the_judge_cannot_give_is_refused_when_the_environment_is_made(self):
        with pytest.raises(JudgeError, match="'relationship', which the judge 'outcome'"):
            sotopia_gym.make("sotopia-v0", judge="outcome", reward="relationship")


class TestCredit:
    def test_turns_share_the_reward_by_their_marks(self, episode):
        marks = {
            agent: {
                str(e.turn): n % 4
                for n, e in enumerate(episode.events)
                if e.agent == agent and e.action.action_type == "speak"
            }
            for agent in AGENTS
        }
        model = Canned(scores(goal=9), *(json.dumps(marks[agent]) for agent in AGENTS))
        judgement = LLMJudge(model, credit=True).judge(episode)
        for agent in AGENTS:
            shared = turn_rewards(judgement.credits[agent], judgement.goal(agent))
            assert sum(shared.values()) == pytest.approx(9)
            assert set(map(str, shared)) == set(marks[agent])

    def test_marks_that_cannot_be_read_are_sent_back_with_what_is_wrong(self, episode):
        model = Canned(scores(), '{"1": 7}')
        LLMJudge(model, credit=True).judge(episode)
        said, asked = model.asked[-1][0][-2:]
        assert said == {"role": "assistant", "content": '{"1": 7}'}
        assert "expected one mark for each of the turns" in asked["content"]

    def test_without_marks_the_episode_is_unscored(self, episode):
        judgement = LLMJudge(Canned(scores(), "?"), credit=True).judge(episode)
        assert not judgement.scored


class TestSpecs:
    def test_auto_is_the_dated_gpt_4_judge_where_a_key_is_set(self, monkeypatch, caplog):
        assert judges.from_spec("auto").name == "outcome"
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-not-a-key")
        with caplog.at_level("INFO"):
            judge = judges.from_spec("auto")
        assert judge.name == GPT4_JUDGE
        assert "$0.0" in caplog.text
        assert "sk-test" not in caplog.text
        judge.close()

    def test_panels_and_servers_have_specs(self):
        panel = judges.from_spec("panel:outcome+outcome")
        assert panel.dimensions == ("goal",)
        judge = judges.from_spec("tiny@http://127.0.0.1:9/v1")
        assert judge.name == "tiny@http://127.0.0.1:9/v1"
        judge.close()

    def test_dimensions_are_asked_of_language_models_alone(self):
        judge = judges.from_spec("tiny@http://127.0.0.1:9/v1", dimensions=["goal", "secret"])
        assert judge.dimensions == ("goal", "secret")
        judge.close()
        assert judges.from_spec("outcome", dimensions=["secret"]).dimensions == ("goal",)
        with pytest.raises(UnknownIdError, match="Did you mean 'goal'"):
            judges.from_spec("tiny@http://127.0.0.1:9/v1", dimensions=["goals"])
        with pytest.raises(ConfigError, match="at least one"):
            judges.from_spec("tiny@http://127.0.0.1:9/v1", dimensions=[])

    @pytest.mark.parametrize("spec", ["gpt4", "outcom", "local/smollm"])
    def test_an_unknown_one_suggests_the_nearest(self, spec):
        with pytest.raises(UnknownIdError, match="Did you mean"):
            judges.from_spec(spec)


def test_many_episodes_are_judged_at_once_and_one_failure_harms_no_other(episode):
    class Picky(Canned):
        async def complete(self, messages, **kwargs):
            await asyncio.sleep(0)
            bad = "seed 3" in messages[1]["content"]
            self.asked.append(messages)
            return Completion("?" if bad else scores(goal=5), 1, 1)

    def numbered(n):
        event = episode.events[0]
        said = Action("speak", f"seed {n}.")
        changed = type(event)(event.turn, event.agent, said)
        return episode.model_copy(update={"events": (changed, *episode.events[1:])})

    async def all_of_them():
        judge = LLMJudge(Picky(""))
        return await asyncio.gather(*(judge.ajudge(numbered(n)) for n in range(8)))

    judged = asyncio.run(all_of_them())
    assert [j.scored for j in judged] == [n != 3 for n in range(8)]
