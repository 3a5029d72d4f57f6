"""Tables like the paper's: ours beside published rows, differences marked, pairs tested."""

import json
import re
from pathlib import Path

import pytest
from scipy import stats

from eval import paper_tables
from eval.paper_tables import (
    COLUMNS,
    OURS,
    as_markdown,
    as_text,
    by_difficulty,
    load,
    overview,
    paired,
    recipe_paired,
    recipe_table,
    sheets,
    tables,
)
from sotopia_gym import Rollout, load_suite
from sotopia_gym.benchmark import benchmark
from sotopia_gym.benchmark.published import published_rows
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import DimensionScore, Judgement
from sotopia_gym.errors import ConfigError
from sotopia_gym.judges.base import Judge
from sotopia_gym.tasks.sampling import family
from sotopia_gym.tasks.schema import Suite

REPOSITORY = Path(__file__).parents[2]
TASKS = load_suite("starter").split("heldout").tasks[:4]


class Counting(Judge):
    """All seven dimensions, by how much was said."""

    dimensions = tuple(DIMENSIONS)

    def __init__(self, name):
        self.name = name

    def judge(self, episode):
        scores = {}
        for agent in episode.task.agents:
            said = sum(len(e.action.argument) for e in episode.events if e.agent == agent)
            scores[agent] = {
                name: DimensionScore(score=said % 7 - place)
                for place, name in enumerate(DIMENSIONS)
            }
        return Judgement(judge=self.name, scores=scores)


def run(suite, agent="scripted/fair", judge="gpt-4-0613", **settings):
    """The result of a few tasks under the name of ``suite``."""
    few = Suite(name=suite, tasks=TASKS)
    return benchmark(few, agent, ["scripted/firm"], judge=Counting(judge), **settings)


@pytest.fixture(scope="module")
def hard():
    return run("sotopia-hard")


def of(found, tasks):
    return next(table for table in found if table.tasks == tasks)


def shown(block, model):
    return next(row for row in block.rows if row.model == model)


def test_ours_stand_above_the_published_rows_in_the_papers_columns(hard):
    table = of(tables([("mine", hard)]), "sotopia-hard")
    ours, paper = table.blocks[:2]
    assert (ours.source, ours.judge, ours.partner) == (OURS, "gpt-4-0613", "scripted/firm")
    assert ours.extent == "8 episodes of 4 scenarios"
    cells = shown(ours, "mine").cells
    assert list(cells) == list(COLUMNS)
    for name, cell in cells.items():
        estimate = hard.overall.scores[name]
        assert (cell.mean, cell.low, cell.high) == (estimate.mean, estimate.low, estimate.high)
    assert (paper.judge, paper.partner) == ("gpt-4-0613", "gpt-3.5-turbo-0613")
    row = shown(paper, "BC+SR")
    assert [row.cells[name].mean for name in COLUMNS] == [
        *(9.19, 0.96, 3.59, 0.0, -0.21, 0.41, 5.34, 2.76)
    ]


def test_every_published_row_is_in_the_table_of_its_suite_once(hard):
    found = tables([("mine", hard)])
    for row in published_rows():
        table = of(found, row.suite)
        same = [
            each
            for block in table.blocks
            if (block.source, block.partner) == (row.source, row.partner)
            for each in block.rows
            if each.model == row.model and each.episodes == row.episodes
            if {name: cell.mean for name, cell in each.cells.items()} == row.scores
        ]
        assert len(same) == 1, row


def test_what_differs_is_numbered_and_said(hard):
    table = of(tables([("mine", hard)]), "sotopia-hard")
    ours, paper = table.blocks[:2]
    people = next(block for block in table.blocks if block.judge == "people")
    told = [table.notes[number - 1] for number in paper.notes]
    assert told == [
        "partner: theirs is gpt-3.5-turbo-0613, ours is scripted/firm",
        "episodes: theirs are 140 of 14 scenarios, ours 8 scored of 4 scenarios",
    ]
    assert ours.notes == ()
    assert table.notes[people.notes[0] - 1].startswith("judge: people rated theirs")
    # What is the same of two protocols is said once.
    assert paper.notes[0] in people.notes
    assert len(set(table.notes)) == len(table.notes)
    text = as_text(sheets([], [table], []))
    assert f"140 episodes of 14 scenarios [{paper.notes[0]}, {paper.notes[1]}]" in text
    for number, note in enumerate(table.notes, start=1):
        assert f"[{number}] {note}" in text


def test_what_differs_from_one_run_only_names_it(hard):
    other = run("sotopia-hard", judge="another")
    table = of(tables([("mine", hard), ("other", other)]), "sotopia-hard")
    paper = next(block for block in table.blocks if block.source != OURS)
    told = [table.notes[number - 1] for number in paper.notes]
    assert "other: judge: theirs is gpt-4-0613, ours is another" in told
    assert "partner: theirs is gpt-3.5-turbo-0613, ours is scripted/firm" in told
    assert [block.judge for block in table.blocks[:2]] == ["gpt-4-0613", "another"]


def test_other_tasks_have_a_table_of_their_own(hard):
    own = run("mine", split=None)
    found = tables([("a", own), ("b", hard)])
    assert [table.tasks for table in found] == ["mine", "sotopia-all", "sotopia-hard"]
    assert [block.source for block in found[0].blocks] == [OURS]
    assert "not comparable with suite 'mine'" in found[0].notes[0]
    text = as_text(sheets([], found, []))
    assert text.count("No run of ours is of these tasks.") == 1


def test_all_tasks_stand_beside_the_hard_ones(hard):
    found = tables([("mine", hard), ("mine", run("sotopia-all"))])
    over = overview(found)
    first = over[0]
    assert (first.model, first.source) == ("mine", OURS)
    assert set(first.cells) == {"sotopia-all", "sotopia-hard"}
    (paper,) = [e for e in over if (e.model, e.judge) == ("BC", "gpt-4-0613")]
    # Of 140 and of 28 episodes the former count.
    goals = {suite: cells["goal"].mean for suite, cells in paper.cells.items()}
    assert goals == {"sotopia-all": 7.27, "sotopia-hard": 5.25}
    assert paper.cells["sotopia-hard"]["overall"].mean == 2.76
    (people,) = [e for e in over if (e.model, e.judge) == ("BC", "people")]
    assert set(people.cells) == {"sotopia-hard"}


def test_two_runs_of_one_name_are_refused(hard):
    with pytest.raises(ConfigError, match="two results on sotopia-hard are called 'mine'"):
        tables([("mine", hard), ("mine", hard)])


# --- recipes


def test_a_recipes_goals_and_differences():
    gathered = load(REPOSITORY / "baselines" / "results" / "sotopia_pi_cpu.json")
    table = recipe_table(gathered)
    assert "not comparable" in table.notes[0]
    (block,) = table.blocks
    for row in block.rows:
        assert row.cells["goal"].mean == gathered["over_seeds"][row.model]["goal"]
    assert {"base", "bc"} <= {row.model for row in block.rows}
    # The base and the scripts were played once, and stand in the report of every seed.
    goals = {row.model: row.cells["goal"] for row in block.rows}
    once = gathered["seeds"][0]["arms"]["base"]
    assert (goals["base"].low, goals["base"].sd) == (once["goal"]["low"], None)
    assert shown(block, "base").episodes == once["scored"]
    assert goals["bc"].sd > 0
    assert shown(block, "bc").episodes == 3 * once["scored"]
    pairs = [(each.second, each.first) for each in recipe_paired(gathered)]
    assert len(pairs) == len(set(pairs))
    assert ("base", "silent") in pairs
    assert [second for second, first in pairs if first == "bc"] == [
        f"bc+sr (seed {seed})" for seed in range(3)
    ]


def test_several_seeds_have_a_spread():
    def arm(mean):
        return {"scored": 10, "goal": {"mean": mean, "low": mean - 1, "high": mean + 1}}

    gathered = {
        "recipe": "mine",
        "steps": {
            "common/heldout-all": {"settings": {"suite": "sotopia-all"}, "tasks": 90},
            "common/base/eval-all": {"settings": {"judge": "gpt-4", "partners": ["gpt-3.5"]}},
        },
        "over_seeds": {
            "bc": {"goal": 6.0, "sd": 0.5, "seeds": 2},
            "sr": {"goal": None, "sd": None, "seeds": 0},
        },
        "seeds": [
            {"seed": seed, "arms": {"bc": arm(mean)}, "differences": {}}
            for seed, mean in enumerate((5.5, 6.5))
        ],
    }
    table = recipe_table(gathered)
    (block,) = table.blocks
    assert (block.judge, block.partner, block.extent) == ("gpt-4", "gpt-3.5", "90 tasks, seeds: 2")
    (row,) = block.rows
    assert (row.episodes, row.cells["goal"].low, row.cells["goal"].sd) == (20, None, 0.5)
    assert "6.00 ±0.50" in as_text(sheets([], [table], []))


# --- pairs


@pytest.fixture(scope="module")
def journals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("journals")
    found = {}
    for name in ("scripted/random", "scripted/fair", "scripted/expert"):
        path = folder / f"{name.replace('/', '-')}.jsonl"
        suite = Suite(name="few", tasks=TASKS)
        list(Rollout(suite, name, "scripted/firm", judge=Counting("x"), journal=path))
        found[name.removeprefix("scripted/")] = path
    return found


def test_pairs_are_tested_as_scipy_does(journals):
    found = paired(journals)
    assert {(each.first, each.second) for each in found} == {
        ("random", "fair"),
        ("random", "expert"),
    }
    assert {each.measure for each in found} == set(COLUMNS)
    scores = {
        name: {
            (e.task.task_id, e.focal): e.judgements[-1].scores[e.focal]["goal"].score
            for e in Journal(path)
        }
        for name, path in journals.items()
    }
    jobs = sorted(scores["random"])
    expected = stats.ttest_rel(
        [scores["expert"][job] for job in jobs], [scores["random"][job] for job in jobs]
    )
    (goal,) = [e for e in found if (e.second, e.measure) == ("expert", "goal")]
    assert goal.pairs == 8
    assert goal.t == pytest.approx(expected.statistic)
    assert goal.p_t == pytest.approx(expected.pvalue)
    assert goal.difference.low <= goal.difference.mean <= goal.difference.high
    assert 0 < goal.p_sign_flip <= goal.p_holm <= 1


def test_differences_that_do_not_vary_have_no_t(journals, tmp_path):
    same = paired({"one": journals["fair"], "two": journals["fair"]})
    assert {(each.difference.mean, each.t, each.p_t) for each in same} == {(0, None, None)}
    assert "-" in as_text(sheets([], [], same))
    with pytest.raises(ConfigError, match="there is no journal"):
        paired({"one": journals["fair"], "two": tmp_path / "nowhere.jsonl"})


def test_what_is_not_in_the_pairs_is_said(journals, tmp_path):
    few = tmp_path / "few.jsonl"
    suite = Suite(name="few", tasks=TASKS[:3])
    list(Rollout(suite, "scripted/fair", "scripted/firm", judge=Counting("x"), journal=few))
    found = paired({"random": journals["random"], "fair": few})
    assert {each.notes for each in found} == {("2 episodes of random have no counterpart",)}
    note = "fair - random: 2 episodes of random have no counterpart"
    assert as_text(sheets([], [], found)).count(note) == 1


# --- difficulty

MANY = [
    task
    for of in ("price", "division")
    for task in [t for t in load_suite("starter").split("heldout").tasks if family(t) == of][:3]
]


def play(path, agent, tasks=MANY, judge="outcome"):
    suite = Suite(name="few", tasks=tuple(tasks))
    list(Rollout(suite, agent, "scripted/firm", judge=judge, journal=path))
    return path


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graded")
    names = ("random", "fair", "expert")
    return {name: play(folder / f"{name}.jsonl", f"scripted/{name}") for name in names}


def goals_of(path, tasks):
    return [
        e.judgement.goal(e.focal)
        for e in sorted(Journal(path), key=lambda e: e.key)
        if e.task.task_id in tasks
    ]


def test_thirds_are_those_of_each_family_that_the_reference_found_hardest(graded):
    found = {each.model: each for each in by_difficulty(graded, graded["expert"])}
    assert list(found) == ["(reference)", *graded]
    assert found["expert"].cells == found["(reference)"].cells
    shares = {}
    for episode in Journal(graded["expert"]):
        shares.setdefault(episode.task.task_id, []).append(
            episode.judgement.normalised[episode.focal]
        )
    means = {task: sum(of) / len(of) for task, of in shares.items()}
    for place, third in enumerate(("hard", "middle", "easy")):
        # Of three tasks of a family each is a third.
        tasks = {
            sorted([t.task_id for t in MANY if family(t) == of], key=means.get)[place]
            for of in ("price", "division")
        }
        for name, path in graded.items():
            goals = goals_of(path, tasks)
            assert len(goals) == 4
            assert found[name].cells[third].mean == pytest.approx(sum(goals) / 4)
            if name != "random":
                less = (sum(goals) - sum(goals_of(graded["random"], tasks))) / 4
                assert found[name].changes[third].mean == pytest.approx(less)
    assert found["random"].changes == found["(reference)"].changes == {}
    assert {each.episodes for each in found.values()} == {12}
    text = as_text(sheets([], [], [], list(found.values())))
    assert "Goal by difficulty" in text
    assert "less random, on the same episodes" in text


def test_difficulty_needs_the_same_tasks_and_enough_of_them(graded, tmp_path):
    two = play(tmp_path / "two.jsonl", "scripted/fair", MANY[:2])
    with pytest.raises(ConfigError, match="has 2 tasks of 'price'; thirds need 3"):
        by_difficulty({}, two)
    three = play(tmp_path / "three.jsonl", "scripted/fair", MANY[:3])
    with pytest.raises(ConfigError, match="did not play 3 tasks of 'fair'"):
        by_difficulty({"fair": graded["fair"]}, three)
    with pytest.raises(ConfigError, match=r"'three' has no score in 3 tasks .* finish it first"):
        by_difficulty({"three": three}, graded["expert"])
    with pytest.raises(ConfigError, match="there is no journal"):
        by_difficulty({}, tmp_path / "nowhere.jsonl")


# --- files


def test_markdown_has_rows_of_equal_width_and_names_that_break_nothing(hard):
    found = tables([("a|b", hard)])
    text = as_markdown(sheets(overview(found), found, []))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert any("a\\|b" in row for row in rows)
    widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert widths == {len(COLUMNS) + 3, 6}


def test_the_command_prints_and_writes(hard, graded, tmp_path, capsys):
    result, both = tmp_path / "hard.json", [f"{name}={path}" for name, path in graded.items()]
    hard.save(result)
    for name in ("out.json", "out.md", "out.txt"):
        arguments = [f"BC={result}", "--episodes", *both, "--out", str(tmp_path / name)]
        arguments += ["--reference", str(graded["expert"])]
        assert paper_tables.main(arguments) == 0
    told = capsys.readouterr().out
    assert "expert - random" in told
    text, _, command = (tmp_path / "out.txt").read_text().partition("python -m eval.paper_tables")
    assert told.startswith(text.rstrip("\n"))
    assert "--reference" in command
    found = json.loads((tmp_path / "out.json").read_text())
    (ours,) = [b for t in found["tables"] for b in t["blocks"] if b["source"] == OURS]
    assert ours["rows"][0]["model"] == "BC"
    assert {each["second"] for each in found["paired"]} == {"fair", "expert"}
    assert {"all", "easy", "middle", "hard"} == set(found["difficulty"][0]["cells"])
    assert {"command", "date", "machine"} < set(found)
    assert (tmp_path / "out.md").read_text().startswith("## All tasks against the hard ones")


def test_committed_results_are_read(capsys):
    files = sorted((REPOSITORY / "eval" / "results").glob("benchmark_starter_*.json"))
    assert paper_tables.main([str(file) for file in files]) == 0
    told = capsys.readouterr().out
    for file in files:
        assert load(file).config.agent in told


@pytest.mark.parametrize(
    ("content", "cause"),
    [(None, "cannot read"), ("{", "as JSON"), ('{"a": 1}', "not the result"), ("[]", "not the")],
)
def test_what_is_no_result_is_refused(content, cause, tmp_path, capsys):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    assert paper_tables.main([str(path)]) == 1
    assert cause in capsys.readouterr().err


@pytest.mark.parametrize("given", [["a.jsonl"], ["bc=a.jsonl", "bc=b.jsonl"]])
def test_journals_have_names_of_their_own(given, capsys):
    assert paper_tables.main(["--episodes", *given]) == 1
    assert "NAME=JOURNAL" in capsys.readouterr().err
