"""Judges against people and outcomes: statistics, what is compared, the study's command."""

import json
import re
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from eval import judge_agreement
from eval.agreement import (
    agreement,
    alpha,
    bin_count,
    bins,
    calibration,
    intraclass,
    pairwise_agreement,
    pearson,
    randolph_kappa,
    reliability,
    spearman,
)
from eval.agreement_scores import PILOT, RATINGS, collect, crossed, load_ratings, rated_twice
from sotopia_gym import Rollout, load_suite
from sotopia_gym.benchmark.published import PEOPLE, published_rows
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import DimensionScore, Judgement
from sotopia_gym.errors import ConfigError
from sotopia_gym.judges.base import Judge
from sotopia_gym.judges.outcome import beside
from sotopia_gym.tasks.schema import Suite

# --- statistics

SHROUT_FLEISS = [
    [9, 2, 5, 8],
    [6, 1, 3, 2],
    [8, 4, 6, 8],
    [7, 1, 2, 6],
    [10, 5, 6, 9],
    [6, 2, 4, 7],
]
"""Shrout and Fleiss 1979, Table 2: six targets and four judges."""


def test_intraclass_correlations_of_shrout_and_fleiss():
    found = intraclass(SHROUT_FLEISS)
    assert {name: round(value, 2) for name, value in found.items()} == {
        "ICC(1,1)": 0.17,
        "ICC(2,1)": 0.29,
        "ICC(3,1)": 0.71,
        "ICC(1,k)": 0.44,
        "ICC(2,k)": 0.62,
        "ICC(3,k)": 0.91,
    }


def test_who_is_always_higher_is_consistent_but_does_not_agree():
    found = intraclass([[1, 3], [2, 4], [5, 7]])
    assert found["ICC(3,1)"] == pytest.approx(1)
    assert found["ICC(2,1)"] < 0.8


@pytest.mark.parametrize(
    ("counts", "agreed", "kappa"),
    [
        ([[7, 1], [3, 5]], 0.607143, 0.214286),
        ([[6, 1, 0], [0, 7, 0]], 0.857143, 0.785714),
        ([[7, 0], [0, 7]], 1, 1),
    ],
)
def test_randolphs_kappa_is_that_of_his_calculator(counts, agreed, kappa):
    # How many raters chose each category, and what justusrandolph.net/kappa says of it.
    ratings = [[c for c, count in enumerate(row) for _ in range(count)] for row in counts]
    assert pairwise_agreement(ratings) == pytest.approx(agreed, abs=1e-6)
    assert randolph_kappa(ratings, len(counts[0])) == pytest.approx(kappa, abs=1e-6)


def test_krippendorffs_alpha_is_that_of_its_definition():
    ratings = np.random.default_rng(0).integers(0, 5, size=(12, 3))
    observed = np.mean([(a - b) ** 2 for row in ratings for a, b in permutations(row, 2)])
    expected = np.mean([(a - b) ** 2 for a, b in permutations(ratings.ravel(), 2)])
    assert alpha(ratings, "interval") == pytest.approx(1 - observed / expected)
    assert alpha(ratings * 100, "ordinal") == pytest.approx(alpha(ratings, "ordinal"))
    assert alpha(ratings**3, "ordinal") == pytest.approx(alpha(ratings, "ordinal"))


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0, 10, 2, {0: 0, 5: 0, 5.5: 1, 10: 1}),
        (-10, 0, 2, {0: 0, -5: 0, -5.5: -1, -10: -1}),
        (-5, 5, 3, {-5: -1, -3: -1, -2.5: 0, 0: 0, 2: 0, 3: 1, 5: 1}),
    ],
)
def test_bins_are_halves_of_the_range(low, high, count, expected):
    assert bin_count(low, high) == count
    assert bins(list(expected), low, high).tolist() == list(expected.values())


def test_correlations_are_those_of_scipy_with_intervals_that_know_of_clusters():
    rng = np.random.default_rng(1)
    of_cluster = np.repeat(rng.normal(size=30), 6)
    first = of_cluster + rng.normal(size=180) / 2
    second = of_cluster + rng.normal(size=180) / 2
    clusters = [number // 6 for number in range(180)]
    together, apart = pearson(first, second, clusters), pearson(first, second, range(180))
    assert together.value == apart.value == pytest.approx(stats.pearsonr(first, second).statistic)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert apart.low < apart.value < apart.high
    assert together.high - together.low > apart.high - apart.low


def test_intervals_of_correlations_cover_them_as_often_as_they_say():
    rng = np.random.default_rng(2)
    covered = []
    for number in range(100):
        x = rng.normal(size=80)
        found = pearson(x, 0.6 * x + 0.8 * rng.normal(size=80), range(80), seed=number)
        covered.append(found.low <= 0.6 <= found.high)
    assert 0.86 < np.mean(covered) < 1


def test_what_never_varies_has_no_correlation():
    found = agreement([1.0, 1.0, 1.0], [0.0, 2.0, 1.0], "abc", low=0, high=10)
    assert found.pearson.value is None
    assert found.spearman is None
    assert found.gap.value == 0
    same = reliability([[3, 3], [3, 3]], low=0, high=10)
    assert set(same.icc.values()) == {None}
    assert (same.alpha_interval, same.randolph_kappa) == (None, 1)


def test_gap_limits_and_distance_by_hand():
    found = agreement([8, 6, 5, 9], [7, 6, 3, 4], ["a", "a", "b", "b"], low=0, high=10)
    assert (found.pairs, found.clusters, found.judge, found.reference) == (4, 2, 7, 5)
    assert found.gap.value == found.mean_absolute_difference == 2
    spread = 1.96 * np.std([1, 0, 2, 5], ddof=1)
    assert found.limits == pytest.approx((2 - spread, 2 + spread))
    # Of two clusters the bootstrap takes both, or one of them twice.
    assert (found.gap.low, found.gap.high) == (0.5, 3.5)
    assert found.reliability.pairwise_agreement == 0.75
    assert set(found.points) == {(8, 7, 1), (6, 6, 1), (5, 3, 1), (9, 4, 1)}


def test_calibration_is_the_reference_by_the_judges_score():
    levels = calibration([7, 7.4, 8, 7.5], [5, 6, 9, 8], ["a", "b", "c", "d"])
    told = [(level.score, level.count, level.reference.value) for level in levels]
    assert told == [(7, 2, 5.5), (8, 2, 8.5)]
    assert (levels[0].reference.low, levels[0].reference.high) == (5, 6)


def test_scores_that_are_no_pairs_are_refused():
    with pytest.raises(ValueError, match="2 scores of one, 1 of the other"):
        agreement([1, 2], [1], ["a", "b"], low=0, high=10)


# --- SOTOPIA's human evaluation, the layout of it

SEVEN = dict.fromkeys(DIMENSIONS, 0.0)


def write_ratings(folder, ratings, gpt4, annotations=()):
    """A folder like that of the human evaluation, with an episode of each condition."""

    def lines(name, records):
        (folder / name).write_text("".join(json.dumps(each) + "\n" for each in records))

    def introduced(pk):
        told = "Here is the context of this interaction:\nScenario: A fence.\nParticipants: Ada "
        told += "Birch and Bo Cole\nAda Birch's background: A baker.\nBo Cole's background: A "
        told += "smith.\nAda Birch's goal: One\nBo Cole's goal: Two\nTurn #1\n"
        return f'{told}Ada Birch said: "Hello."\n\nTurn #2\nBo Cole left the conversation\n'

    rated = [
        {"pk": pk, "condition": condition, "rater": rater, "scenario": f"Scene {pk}.", "names": []}
        | {f"agent{n}_scores": SEVEN | scores for n, scores in enumerate(both, start=1)}
        for pk, condition, rater, *both in ratings
    ]
    lines(RATINGS, rated)
    otree = [
        {
            "pk": pk,
            "environment": f"scene-{pk}",
            "models": ["gpt-4", *models],
            "rewards_prompt": introduced(pk),
        }
        for pk, models in {
            "one": ("gpt-3.5-turbo", "gpt-4"),
            "two": ("custom_model", "gpt-3.5-turbo"),
        }.items()
    ]
    lines("all_otree_episodes.jsonl", otree)
    scored = {
        pk: {f"agent{n}": SEVEN | scores for n, scores in enumerate(both, start=1)}
        for pk, both in gpt4.items()
    }
    (folder / "gpt4_scores_140eps.json").write_text(json.dumps(scored))
    lines(
        PILOT,
        [
            {"pk": pk, "agent": agent, "rater": rater, "scores": scores, "reasons": {}}
            for pk, agent, rater, scores in annotations
        ],
    )


def goal(score):
    return {"goal": float(score)}


@pytest.fixture
def folder(tmp_path):
    ratings = [
        ("one", "gpt4", "ann", goal(1), goal(8)),
        ("two", "BC", "ann", goal(4), goal(5)),
        ("one", "gpt4", "bob", goal(3), goal(4)),
        ("two", "BC", "ann", goal(6), goal(5)),
        ("one", "gpt4", "cas", goal(5), goal(9)),
    ]
    annotations = [
        ("three", f"Agent{agent}", rater, SEVEN | goal(score))
        for rater, scores in {"x": (1, 5), "y": (2, 6)}.items()
        for agent, score in enumerate(scores, start=1)
    ]
    annotations.append(("three", "Agent1", "z", SEVEN))
    write_ratings(tmp_path, ratings, {"one": (goal(5), goal(10))}, annotations)
    return tmp_path


def test_a_judge_is_held_against_the_mean_of_all_raters(folder):
    (pairs,) = collect(load_ratings(folder).episodes).people.values()
    goals = {p.role: (p.judge, p.reference) for p in pairs if p.dimension == "goal"}
    assert goals == {"agent_0": (5, 3), "agent_1": (10, 7)}
    assert {pair.scenario for pair in pairs} == {"scene-one"}
    assert {pair.role: pair.model for pair in pairs} == {
        "agent_0": "gpt-3.5-turbo",
        "agent_1": "GPT-4",
    }


def test_the_first_two_ratings_are_compared_and_who_rated_twice_is_told(folder):
    twice = list(rated_twice(load_ratings(folder).episodes))
    assert [(p.first["goal"], p.second["goal"], p.same_person) for p in twice] == [
        (1, 3, False),
        (8, 4, False),
        (4, 6, True),
        (5, 5, True),
    ]


def test_annotators_are_those_who_rated_all(folder):
    raters, found = crossed(load_ratings(folder).annotated)
    assert raters == ("human/x", "human/y")
    assert found["goal"] == [[1, 2], [5, 6]]
    assert intraclass(found["goal"])["ICC(3,1)"] == pytest.approx(1)


def test_a_stages_gap_is_the_published_score_less_the_ratings_of_the_model(folder):
    found = judge_agreement.of_ratings(folder)
    stage = found["stages"]["BC"]
    # The model was agent_0, who got 4 and 6; GPT-4's published mean is 4.82.
    assert stage["agents"] == 1
    assert stage["dimensions"]["goal"]["people"]["value"] == 5
    assert stage["dimensions"]["goal"]["gap"]["value"] == pytest.approx(4.82 - 5)
    assert stage["dimensions"]["goal"]["gap, published"] == 1.27
    assert found["stages"]["GPT-4"]["dimensions"]["goal"]["people"]["value"] == 7
    alone = found["judges"]["the model alone"]["gpt-4 (recorded)"]["goal"]
    assert (alone["pairs"], alone["gap"]["value"]) == (1, 3)
    assert (found["third ratings"], found["rated by one person twice"]) == (1, 1)


def test_a_folder_without_ratings_is_refused(tmp_path, capsys):
    assert judge_agreement.main(["--ratings", str(tmp_path)]) == 1
    assert f"there is no {RATINGS}" in capsys.readouterr().err


# --- the real ratings

# As they come out of the files; the tests compute them in another way, too.
AGAINST_PEOPLE = {
    "goal": 0.79,
    "relationship": 0.54,
    "financial_and_material_benefits": 0.35,
    "believability": 0.07,
    "knowledge": 0.09,
    "social_rules": -0.06,
    "secret": 0.92,
}
RATER_AGAINST_RATER = {
    "goal": 0.72,
    "relationship": 0.47,
    "financial_and_material_benefits": 0.18,
    "believability": 0.28,
    "knowledge": -0.08,
    "social_rules": 0.16,
    "secret": -0.01,
}


@pytest.fixture(scope="module")
def human_eval(data):
    return data / "human-eval"


@pytest.fixture(scope="module")
def real(human_eval):
    return judge_agreement.of_ratings(human_eval)


@pytest.fixture(scope="module")
def raw(human_eval):
    """Goal and the rest by plain JSON: pairs of (GPT-4, people) and of (first, second rater)."""
    by_episode = {}
    for line in (human_eval / RATINGS).read_text().splitlines():
        record = json.loads(line)
        by_episode.setdefault(record["pk"], []).append(record)
    gpt4 = json.loads((human_eval / "gpt4_scores_140eps.json").read_text())
    judged = {name: ([], []) for name in DIMENSIONS}
    raters = {name: ([], []) for name in DIMENSIONS}
    for pk, records in by_episode.items():
        for agent in ("agent1", "agent2"):
            for name in DIMENSIONS:
                given = [record[f"{agent}_scores"][name] for record in records]
                raters[name][0].append(given[0])
                raters[name][1].append(given[1])
                if pk in gpt4:
                    judged[name][0].append(gpt4[pk][agent][name])
                    judged[name][1].append(np.mean(given))
    return judged, raters


def test_gpt4_against_people(real, raw):
    found = real["judges"]["both agents"]["gpt-4 (recorded)"]
    for name, expected in AGAINST_PEOPLE.items():
        judge, people = raw[0][name]
        assert found[name]["pairs"] == len(judge) == 56
        assert found[name]["pearson"]["value"] == pytest.approx(expected, abs=0.01), name
        assert found[name]["pearson"]["value"] == pytest.approx(
            stats.pearsonr(judge, people).statistic
        )
        assert found[name]["spearman"] == pytest.approx(stats.spearmanr(judge, people).statistic)
        assert found[name]["gap"]["value"] == pytest.approx(np.mean(np.subtract(judge, people)))


def test_rater_against_rater(real, raw):
    found = real["people"]["all"]
    for name, expected in RATER_AGAINST_RATER.items():
        first, second = raw[1][name]
        assert found[name]["pairs"] == len(first) == 308
        assert found[name]["pearson"]["value"] == pytest.approx(expected, abs=0.01), name
        assert found[name]["pearson"]["value"] == pytest.approx(
            stats.pearsonr(first, second).statistic
        )


def test_published_means_come_out_of_the_ratings(real):
    rows = {
        (row.judge, row.model): row.scores
        for row in published_rows()
        if (row.suite, row.episodes) == ("sotopia-hard", 28)
    }
    for model, stage in real["stages"].items():
        for name, of in stage["dimensions"].items():
            assert of["people"]["value"] == pytest.approx(rows[PEOPLE, model][name], abs=0.011)
            assert of["gap"]["value"] == pytest.approx(of["gap, published"], abs=0.011)
    alone = real["judges"]["the model alone"]["gpt-4 (recorded)"]
    for name, of in alone.items():
        assert of["judge"] == pytest.approx(rows["gpt-4-0613", "GPT-4"][name], abs=0.011)
        assert of["reference"] == pytest.approx(rows[PEOPLE, "GPT-4"][name], abs=0.011)


# --- episodes of our own


class Flattering(Judge):
    """Says the truth, and adds something to it that depends on the family."""

    name = "flattering"

    def __init__(self, extra):
        self._extra = extra

    def judge(self, episode):
        truth = episode.judgements[-1].true_goals
        extra = self._extra[episode.task.scenario.outcome.family]
        scores = {
            agent: {"goal": DimensionScore(score=goal + extra)} for agent, goal in truth.items()
        }
        return beside(Judgement(judge=self.name, scores=scores), episode)


def journal(path, agent, extra, unscored=0):
    """Episodes that were played by ``agent``, and judged exactly and otherwise."""
    starter = load_suite("starter").split("heldout").tasks
    tasks = [
        *[t for t in starter if t.scenario.outcome.family == "price"][:3],
        *[t for t in starter if t.scenario.outcome.family == "division"][:3],
    ]
    judge, kept = Flattering(extra), Journal(path)
    suite = Suite(name="few", tasks=tuple(tasks))
    for number, episode in enumerate(Rollout(suite, agent, "scripted/fair", judge="outcome")):
        judged = judge.judge(episode)
        if number < unscored:
            judged = Judgement(judge=judge.name, error="it would not say")
        kept.append(episode.with_judgement(judged))
    return path


@pytest.fixture(scope="module")
def journals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("journals")
    return {
        "base": journal(folder / "base.jsonl", "scripted/random", {"price": 1, "division": -1}),
        "bc": journal(folder / "bc.jsonl", "scripted/expert", {"price": 2, "division": 2}, 1),
    }


def test_bias_is_told_by_family_role_and_arm(journals):
    arms = judge_agreement.of_episodes(journals)["arms"]
    base = arms["base"]["judges"]["flattering"]["outcomes"]
    assert base["pairs"] == 12
    assert base["by_family"]["price"]["gap"] == {"value": 1, "low": 1, "high": 1}
    assert base["by_family"]["division"]["gap"]["value"] == -1
    assert base["gap"]["value"] == pytest.approx(0)
    # Every task is in both roles, so that the bias is the same in both.
    assert {name: of["pairs"] for name, of in base["by_role"].items()} == {
        "agent_0": 6,
        "agent_1": 6,
    }
    trained = arms["bc"]["judges"]["flattering"]
    assert (trained["unscored"], trained["outcomes"]["pairs"]) == (1, 11)
    assert trained["outcomes"]["gap"]["value"] == pytest.approx(2)
    assert trained["outcomes"]["pearson"]["value"] == pytest.approx(1)
    assert "outcome" not in arms["base"]["judges"]


def test_what_training_gained_in_the_judges_eyes_alone(journals):
    found = judge_agreement.of_episodes(journals)["changes"]["flattering"]["bc"]
    truths = {}
    for arm, path in journals.items():
        for episode in Journal(path):
            exact = episode.judgements[0].goal(episode.focal)
            if episode.judgements[-1].scored:
                truths.setdefault((episode.task.task_id, episode.focal), {})[arm] = exact
    both = [of for of in truths.values() if len(of) == 2]
    gained = np.mean([of["bc"] - of["base"] for of in both])
    assert found["pairs"] == len(both) == 11
    assert found["reference"]["value"] == pytest.approx(gained)
    assert found["judge"]["value"] == pytest.approx(gained + found["gap"]["value"])
    assert 1 < found["gap"]["value"] < 3


def test_people_in_a_journal_are_a_reference_too(tmp_path, journals):
    path = tmp_path / "rated.jsonl"
    for episode in Journal(journals["base"]):
        scores = {episode.focal: {"goal": DimensionScore(score=4)}}
        rated = episode.with_judgement(Judgement(judge="human/ann", scores=scores))
        Journal(path).append(rated)
    (of,) = judge_agreement.of_episodes({"base": path})["arms"]["base"]["judges"].values()
    assert of["people"]["goal"]["reference"] == 4
    assert of["people"]["goal"]["pairs"] == 12


def test_what_cannot_be_compared_is_refused(tmp_path, journals):
    alone = tmp_path / "alone.jsonl"
    for episode in Journal(journals["base"]):
        Journal(alone).append(episode.model_copy(update={"judgements": episode.judgements[:1]}))
    with pytest.raises(ConfigError, match="no episode has both"):
        judge_agreement.of_episodes({"base": alone})
    with pytest.raises(ConfigError, match="there is no journal"):
        judge_agreement.of_episodes({"base": tmp_path / "nowhere.jsonl"})
    twice = tmp_path / "twice.jsonl"
    for seed in (0, 1):
        for episode in Journal(journals["base"]):
            Journal(twice).append(episode.model_copy(update={"key": f"{seed} {episode.key}"}))
    with pytest.raises(ConfigError, match="several episodes of the same job"):
        judge_agreement.of_episodes({"base": twice, "bc": journals["bc"]})


# --- command


def test_the_command_writes_numbers_and_a_page_that_needs_no_network(
    folder, journals, tmp_path, capsys
):
    out, written = tmp_path / "page.html", tmp_path / "numbers.json"
    arguments = ["--ratings", str(folder), "--json", str(written), "--out", str(out)]
    arguments += ["--episodes", f"base={journals['base']}", f"b&c={journals['bc']}"]
    assert judge_agreement.main(arguments) == 0
    told = capsys.readouterr().out
    assert "gpt-4 (recorded) against people's means, both agents; ICC(2,1)" in told
    assert "flattering: what changed from base, on the same jobs" in told
    found = json.loads(written.read_text())
    assert found["command"] == (
        "python -m eval.judge_agreement --ratings FOLDER --episodes base=base.jsonl "
        "'b&c=bc.jsonl' --seed 0"
    )
    assert str(tmp_path) not in written.read_text() + out.read_text()
    text = out.read_text()
    assert text.count("<figure>") == 6
    assert "<script" not in text
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', text))
    assert "b&amp;c" in text
    assert "b&c" not in text


@pytest.mark.parametrize("given", ["base", "=x", "base="])
def test_arms_have_names_and_files(given, capsys):
    assert judge_agreement.main(["--episodes", given]) == 1
    assert "NAME=FILE" in capsys.readouterr().err


def test_without_arguments_the_data_is_found_by_the_environment(folder, monkeypatch, capsys):
    (folder / "data").mkdir()
    (folder / "data" / "human-eval").symlink_to(folder)
    monkeypatch.setenv("SOTOPIA_GYM_TEST_DATA", str(folder / "data"))
    assert judge_agreement.main([]) == 0
    assert "goal by stage of training" in capsys.readouterr().out
