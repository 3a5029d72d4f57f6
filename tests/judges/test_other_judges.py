"""Panels, calibrations, people, and judging again."""

import asyncio

import pytest

import sotopia_gym
from sotopia_gym import Judge, Judgement
from sotopia_gym.episodes.schema import DimensionScore, Usage
from sotopia_gym.errors import BudgetExceededError, JudgeError, UnknownIdError
from sotopia_gym.judges import OutcomeJudge
from sotopia_gym.judges.calibrated import CalibratedJudge, Calibration, fit
from sotopia_gym.judges.human import HumanJudge
from sotopia_gym.judges.panel import PanelJudge
from sotopia_gym.judges.rejudge import compare, rejudge, scored_by


class Fixed(Judge):
    """Gives every agent the same scores."""

    def __init__(self, name, error=None, **scores):
        self.name, self.error, self.given = name, error, scores
        self.dimensions = tuple(scores)

    def judge(self, episode):
        if self.error:
            return Judgement(judge=self.name, error=self.error)
        scores = {name: DimensionScore(score=score) for name, score in self.given.items()}
        return Judgement(
            judge=self.name,
            scores=dict.fromkeys(episode.task.agents, scores),
            usage=Usage(requests=1, cost=0.25),
        )


@pytest.fixture(scope="module")
def episodes():
    env = sotopia_gym.make("sotopia-v0", split="heldout", judge="none")
    players = {"agent_0": "scripted/expert", "agent_1": "scripted/firm"}
    return [
        sotopia_gym.play(env, players, seed=0, options={"task": task.task_id})
        for task in env.suite.tasks[:12]
    ]


class TestPanel:
    def test_it_gives_the_mean_or_median_and_the_spread(self, episodes):
        members = [Fixed("a", goal=2, secret=0), Fixed("b", goal=3), Fixed("c", goal=10)]
        mean = PanelJudge(members).judge(episodes[0])
        assert mean.goal("agent_0") == 5
        assert mean.metrics["spread/agent_1/goal"] == 8
        assert [member.judge for member in mean.members] == ["a", "b", "c"]
        assert mean.usage.cost == 0.75
        assert set(mean.scores["agent_0"]) == {"goal"}
        assert PanelJudge(members, combine="median").judge(episodes[0]).goal("agent_0") == 3

    def test_it_is_unscored_if_a_member_fails_and_says_which(self, episodes):
        panel = PanelJudge([Fixed("a", goal=2), Fixed("b", error="down", goal=0)])
        judgement = panel.judge(episodes[0])
        assert not judgement.scored
        assert "1 of 2 members failed: b: down" in judgement.error

    @pytest.mark.parametrize("lacking", ["agent", "dimension"])
    def test_it_is_unscored_if_a_member_has_not_scored_all_and_says_what(self, episodes, lacking):
        class Partial(Fixed):
            def judge(self, episode):
                scores = dict(super().judge(episode).scores)
                if lacking == "agent":
                    del scores["agent_1"]
                else:
                    scores["agent_1"] = {"secret": DimensionScore(score=0)}
                return Judgement(judge=self.name, scores=scores)

        panel = PanelJudge([Fixed("a", goal=2), Partial("b", goal=3)])
        judgement = panel.judge(episodes[0])
        assert not judgement.scored
        assert "1 of 2 members failed: b: no score of agent_1 in goal" in judgement.error

    def test_what_its_members_ask_is_part_of_what_it_asks(self, episodes):
        def panel(prompt):
            asking = Fixed("a", goal=2)
            asking.prompt = prompt
            return PanelJudge([asking, Fixed("b", goal=3)])

        one, other = panel("judge-v1:one"), panel("judge-v1:other")
        judgement = one.judge(episodes[0])
        judged = episodes[0].with_judgement(judgement)
        assert scored_by(judged, one.name, one.prompt) == judgement
        assert scored_by(judged, other.name, other.prompt) is None

    def test_one_judge_is_no_panel(self):
        with pytest.raises(ValueError, match="at least two"):
            PanelJudge([Fixed("a", goal=1)])


class TestCalibration:
    def test_fitting_gives_a_monotone_map_onto_the_targets(self):
        pairs = [(2, 1.0), (2, 3.0), (5, 1.5), (8, 6.0), (9, 7.0)]
        made = fit({"goal": pairs}, judge="a", fitted_on="five pairs")
        values = [made.apply("goal", score) for score in (0, 2, 3, 5, 8, 8.5, 10)]
        assert values == sorted(values)
        assert values[0] == values[1]
        assert made.apply("goal", 8.5) == 6.5
        assert made.apply("secret", -3) == -3
        assert (made.count, made.fitted_on) == (5, "five pairs")

    def test_it_is_kept_in_a_file_and_says_what_it_was_fitted_on(self, tmp_path, episodes):
        made = fit({"goal": [(0, 0), (10, 5)]}, judge="a", fitted_on="28 rated episodes")
        made.save(tmp_path / "map.json")
        judge = CalibratedJudge(Fixed("a", goal=8), Calibration.load(tmp_path / "map.json"))
        judgement = judge.judge(episodes[0])
        assert judgement.goal("agent_0") == 4
        assert "28 rated episodes" in judgement.scores["agent_0"]["goal"].reasoning
        assert judgement.members[0].goal("agent_0") == 8

    def test_another_judges_map_is_refused(self):
        made = fit({"goal": [(0, 0), (10, 5)]}, judge="a", fitted_on="x")
        with pytest.raises(JudgeError, match="says nothing about 'b'"):
            CalibratedJudge(Fixed("b", goal=8), made)

    def test_a_damaged_file_is_an_error(self, tmp_path):
        path = tmp_path / "map.json"
        path.write_text(
            '{"judge": "a", "fitted_on": "x", "count": 1, "maps": {"goal": [[2, 1], [0, 1]]}}'
        )
        with pytest.raises(JudgeError, match="must rise"):
            Calibration.load(path)

    def test_an_unscored_episode_stays_unscored(self, episodes):
        made = fit({"goal": [(0, 0), (10, 5)]}, judge="a", fitted_on="x")
        judgement = CalibratedJudge(Fixed("a", error="down", goal=1), made).judge(episodes[0])
        assert judgement.error == "down"

    def test_its_scores_are_known_as_its_own(self, episodes):
        base = Fixed("a", goal=8)
        base.prompt = "v1"
        made = fit({"goal": [(0, 0), (10, 5)]}, judge="a", fitted_on="x")
        judge = CalibratedJudge(base, made)
        given = judge.judge(episodes[0])
        judged = episodes[0].with_judgement(given)
        assert scored_by(judged, judge.name, judge.prompt) == given
        assert scored_by(judged, base.name, base.prompt) is None
        flatter = made.model_copy(update={"maps": {"goal": ((0.0, 10.0), (5.0, 5.0))}})
        other = CalibratedJudge(base, flatter)
        assert scored_by(judged, other.name, other.prompt) is None


class TestHuman:
    def test_the_mean_of_the_raters_counts(self, episodes):
        rated = episodes[0]
        for name, goal in (("human/ann", 4), ("human/bob", 7), ("gpt-4", 10)):
            rated = rated.with_judgement(Fixed(name, goal=goal).judge(rated))
        judgement = HumanJudge([rated]).judge(episodes[0])
        assert judgement.goal("agent_0") == 5.5
        assert judgement.metrics["raters"] == 2

    def test_what_fewer_people_had_rated_is_scored_again(self, episodes):
        once = episodes[0].with_judgement(Fixed("human/ann", goal=4).judge(episodes[0]))
        twice = once.with_judgement(Fixed("human/bob", goal=7).judge(once))
        judge = HumanJudge([once])
        judged = episodes[0].with_judgement(judge.judge(episodes[0]))
        assert scored_by(judged, "human", HumanJudge([once]).prompt)
        assert scored_by(judged, "human", HumanJudge([twice]).prompt) is None

    def test_people_cannot_judge_what_is_being_played(self):
        with pytest.raises(JudgeError, match="played already"):
            sotopia_gym.make("sotopia-v0", judge=HumanJudge([]))

    def test_an_episode_that_nobody_rated_is_unscored(self, episodes):
        assert "nobody has rated" in HumanJudge([]).judge(episodes[0]).error


class TestRejudging:
    def run(self, episodes, judge):
        async def collect():
            return [episode async for episode in rejudge(episodes, judge, concurrency=4)]

        return asyncio.run(collect())

    def test_the_second_judgement_stands_beside_the_first(self, episodes):
        once = self.run(episodes, OutcomeJudge())
        twice = self.run(once, Fixed("b", goal=1))
        assert {e.episode_id for e in twice} == {e.episode_id for e in episodes}
        assert all([j.judge for j in e.judgements] == ["outcome", "b"] for e in twice)

    def test_agreement_of_two_judges(self, episodes):
        class Half(OutcomeJudge):
            name = "half"

            def judge(self, episode):
                exact = super().judge(episode)
                scores = {
                    a: {"goal": DimensionScore(score=by["goal"].score / 2)}
                    for a, by in exact.scores.items()
                }
                if episode is judged[0]:
                    return Judgement(judge="half", error="down")
                return exact.model_copy(update={"judge": "half", "scores": scores})

        judged = self.run(episodes, OutcomeJudge())
        result = compare(self.run(judged, Half()), "outcome", "half")
        (goal,) = result.agreements
        assert goal.count == 2 * len(episodes) - 2
        assert goal.pearson == pytest.approx(1)
        assert goal.spearman == pytest.approx(1)
        assert goal.difference.high < 0
        assert result.unscored == (0, 1)

    def test_the_truth_can_be_compared_with(self, episodes):
        judged = self.run(episodes, OutcomeJudge())
        (goal,) = compare(judged, "truth", "outcome").agreements
        assert goal.difference.mean == 0

    def test_what_is_paid_for_is_kept_when_the_budget_is_spent(self, episodes):
        class Poor(Fixed):
            judged = 0

            async def ajudge(self, episode):
                self.judged += 1
                if self.judged == 3:
                    raise BudgetExceededError("$1 is spent")
                await asyncio.sleep(0.01)
                return self.judge(episode)

        kept = []

        async def collect():
            async for episode in rejudge(episodes, Poor("b", goal=1), concurrency=4):
                kept.append(episode)

        with pytest.raises(BudgetExceededError):
            asyncio.run(collect())
        assert len(kept) == 3

    def test_an_unknown_judge_is_an_error_that_suggests_the_nearest(self, episodes):
        judged = self.run(episodes[:2], OutcomeJudge())
        with pytest.raises(UnknownIdError, match="Did you mean 'outcome'"):
            compare(judged, "outcom", "truth")
