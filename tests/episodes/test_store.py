"""Files of episodes that do not fit into memory: each once, merged, summed up."""

import json
import math
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import sotopia_gym
from sotopia_gym import stats as statistics
from sotopia_gym.cli import app
from sotopia_gym.envs.dialogue import Action, Event
from sotopia_gym.episodes import summary
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import (
    DimensionScore,
    Episode,
    Judgement,
    Source,
    Usage,
)
from sotopia_gym.episodes.store import latest, merge, merged
from sotopia_gym.episodes.summary import stats
from sotopia_gym.errors import JournalError
from sotopia_gym.files import appending
from sotopia_gym.stats import mean_interval
from sotopia_gym.tasks.schema import Character, Scenario, Task

FAILED = {"ending": "failed", "error": "ModelError: down after 12 tries"}


def task(number=0):
    return Task(
        task_id=f"task-{number}",
        scenario=Scenario(
            scenario_id=f"scene-{number}",
            source="a book",
            context="A fence between two gardens.",
            goals=("Get the ladder back.", "Keep the ladder until Sunday."),
            relationship=3,
        ),
        characters=(
            Character(character_id="ada", first_name="Ada"),
            Character(character_id="bo", first_name="Bo"),
        ),
    )


def judgement(judge="j", goals=(7, 2), **fields):
    scores = {f"agent_{i}": {"goal": DimensionScore(score=goal)} for i, goal in enumerate(goals)}
    return Judgement(judge=judge, scores=scores, **fields)


def episode(key="a", said="May I have my ladder?", number=0, **fields):
    events = (
        Event(1, "agent_0", Action("speak", said)),
        Event(2, "agent_1", Action("leave")),
    )
    known = {
        "task": task(number),
        "key": key,
        "agents": {"agent_0": "model-a", "agent_1": "model-b"},
        "events": events,
        "ending": "left",
    }
    return Episode(**{**known, **fields})


def imported(record_id, **fields):
    source = Source(format="release", record_id=record_id, transcript=True)
    return episode(key="", **{"source": source, **fields})


def write(path, *episodes):
    with Journal(path, fsync=float("inf")).writing() as append:
        for each in episodes:
            append(each)
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path


class TestLatest:
    def test_the_last_complete_record_wins_and_keeps_the_first_place(self, folder):
        failed, stopped = episode(**FAILED), episode(ending="interrupted")
        done = episode(judgements=(judgement(),))
        other = episode("b", **FAILED)
        path = write(folder / "run", failed, episode(), other, done, stopped, stopped)
        assert list(latest(path)) == [done, other]
        assert list(latest(Journal(path))) == [done, other]

    def test_if_none_is_complete_the_last_counts(self, folder):
        path = write(folder / "run", episode(**FAILED), episode(ending="interrupted"))
        assert [e.ending for e in latest(path)] == ["interrupted"]

    def test_without_a_key_the_id_tells(self, folder):
        one, other = episode(key=""), episode(key="", said="Hello.")
        foreign = imported("r")
        path = write(folder / "run", one, foreign, other, one, foreign)
        assert list(latest(path)) == [one, foreign, other]

    def test_those_that_are_asked_for_come_alone(self, folder):
        named, unnamed = [episode(key) for key in "abc"], episode(key="")
        path = write(folder / "run", *named, unnamed, episode("b", **FAILED))
        assert list(latest(path, {"c", "b", "x"})) == named[1:]
        assert list(latest(path, {unnamed.episode_id})) == [unnamed]
        assert list(latest(path, set())) == []

    def test_a_torn_tail_is_not_read_and_no_file_is_empty(self, folder):
        path = write(folder / "run", episode("a"), episode("b"))
        path.write_bytes(path.read_bytes()[:-20])
        assert [e.key for e in latest(path)] == ["a"]
        assert list(latest(folder / "none")) == []

    @pytest.mark.parametrize("line", ["no JSON", "[]", '{"key": "x"}', '{"key": 1}'])
    def test_a_broken_line_is_named(self, folder, line):
        path = write(folder / "run", episode("a"), episode("b"))
        with path.open("a") as file:
            file.write(line + "\n")
        write(path, episode("c"))
        with pytest.raises(JournalError, match=r"run, line 3 is not an episode"):
            list(latest(path))


class TestMerge:
    def test_judgements_of_several_files_are_merged(self, folder):
        first, second, third = judgement("1"), judgement("2"), judgement("1", goals=(1, 1))
        one = write(
            folder / "one",
            episode("a", judgements=(first,)),
            episode("b"),
            imported("r", judgements=(first,)),
        )
        two = write(
            folder / "two",
            imported("r", judgements=(first, second)),
            episode("c"),
            episode("a", judgements=(second, first, third)),
            episode("b"),
        )
        found = list(merged([one, two, one]))
        assert [e.key or e.episode_id for e in found] == ["a", "b", "r", "c"]
        assert [list(e.judgements) for e in found] == [
            [first, second, third],
            [],
            [first, second],
            [],
        ]

    def test_what_is_merged_is_written_and_read_back(self, folder):
        one, two = write(folder / "one", episode("a")), write(folder / "two", episode("b"))
        two.write_bytes(two.read_bytes() + b'{"torn')
        assert merge([one, two], folder / "new" / "all") == 2
        assert list(Journal(folder / "new" / "all")) == [episode("a"), episode("b")]

    def test_a_complete_record_beats_what_failed_in_another_file(self, folder):
        one = write(folder / "one", episode(**FAILED), episode("b"))
        two = write(folder / "two", episode(said="Played again.", judgements=(judgement(),)))
        three = write(folder / "three", episode(ending="interrupted", said="x"))
        (first, _) = merged([one, two, three])
        assert first.complete
        assert first.events[0].action.argument == "Played again."
        assert first.judgements == (judgement(),)

    def test_scores_without_a_conversation_join_the_conversation(self, folder):
        bare = imported(
            "r",
            source=Source(format="gpt4_scores", record_id="r", transcript=False),
            events=(),
            ending="unknown",
            judgements=(judgement("gpt-4"),),
        )
        path = write(folder / "x", bare, imported("r", judgements=(judgement("person"),)))
        (found,) = merged([path])
        assert found.has_transcript
        assert [j.judge for j in found.judgements] == ["person", "gpt-4"]

    def test_two_conversations_of_one_episode_are_an_error_that_names_both(self, folder):
        one = write(folder / "one", episode("b"), episode("a"))
        two = write(folder / "two", episode("a", said="Something else."))
        out = folder / "out"
        with pytest.raises(JournalError, match=r"one, line 2 and .*two, line 1 hold different"):
            merge([one, two], out)
        assert sorted(path.name for path in folder.iterdir()) == [
            ".one.lock",
            ".two.lock",
            "one",
            "two",
        ]

    def test_an_input_is_replaced_only_if_it_is_named_as_such(self, folder):
        one, two = write(folder / "one", episode("a")), write(folder / "two", episode("b"))
        alias = folder / "alias"
        alias.symlink_to(one)
        other = write(folder / "other", episode("z"))
        before = one.read_bytes()
        for out, why in ((alias, "is the same file as"), (other, "is already there")):
            with pytest.raises(JournalError, match=why):
                merge([one, two], out)
        assert (one.read_bytes(), list(Journal(other))) == (before, [episode("z")])
        assert merge([one, two], one) == 2
        assert [e.key for e in Journal(one)] == ["a", "b"]
        assert [e.key for e in Journal(two)] == ["b"]

    def test_an_input_that_is_being_written_is_not_replaced(self, folder):
        path = write(folder / "one", episode("a"))
        with appending(path), pytest.raises(JournalError, match="another process"):
            merge([path], path)

    def test_a_missing_file_is_an_error(self, folder):
        with pytest.raises(JournalError, match="no file"):
            merge([folder / "none"], folder / "out")

    def test_what_is_appended_meanwhile_does_not_disturb(self, folder):
        path = write(folder / "one", episode("a"), episode("b"))
        found = []
        for each in merged([path, folder / "two"]):
            found.append(each.key)
            write(folder / "two", each)
            write(path, episode(f"{each.key}+"))
        assert found == ["a", "b"]


class TestStats:
    def test_everything_is_counted(self):
        used = {
            "agent_0": Usage(requests=2, prompt_tokens=10, completion_tokens=5, cost=0.5),
            "agent_1": Usage(requests=1, prompt_tokens=1, cost=0.25),
        }
        paid = judgement("j", usage=Usage(requests=1, prompt_tokens=100, cost=1.0))
        found = stats(
            [
                episode("a", usage=used, judgements=(paid,)),
                episode("b", judgements=(Judgement(judge="j", error="no answer in 3 tries"),)),
                episode("c", judgements=(Judgement(judge="j", error="no answer in 5 tries"),)),
                episode("d"),
                episode("e", usage=used, **FAILED),
                episode("f", ending="interrupted"),
            ]
        )
        assert (found.episodes, found.complete, found.failed, found.interrupted) == (6, 4, 1, 1)
        assert (found.unjudged, found.unscored, found.without_conversation) == (1, 2, 0)
        assert found.failures == {"ModelError: down after # tries": 1}
        assert found.unscored_because == {"no answer in # tries": 2}
        assert found.endings == {"left": 4, "failed": 1, "interrupted": 1}
        assert found.judges == {"j": 1}
        assert found.playing == Usage(requests=6, prompt_tokens=22, completion_tokens=10, cost=1.5)
        assert found.judging.cost == 1
        model_a, model_b = found.agents["model-a"], found.agents["model-b"]
        assert (model_a.episodes, model_a.seats, model_a.goal.count) == (4, 4, 1)
        assert (model_a.goal.mean, model_b.goal.mean) == (7, 2)
        assert (model_a.turns, model_a.words, model_b.words) == (2, 5, 0)
        assert (model_a.left, model_b.left) == (0, 1)
        assert model_a.usage.prompt_tokens == 10
        assert model_a.agreement is model_a.normalised is None
        assert set(found.families) == {summary.OPEN_ENDED}
        assert found.sources["a book"].goal.mean == 4.5
        assert found.sources["a book"].seats == 8

    def test_intervals_are_those_of_the_values_clustered_on_scenarios(self):
        goals = [(number % 4, (number * 7) % 11) for number in range(60)]
        episodes = [
            episode(str(i), number=scene, judgements=(judgement(goals=(goal, 0)),))
            for i, (scene, goal) in enumerate(goals)
        ]
        expected = mean_interval([float(g) for _, g in goals], [s for s, _ in goals])
        found = stats(episodes).agents["model-a"].goal
        assert (found.low, found.high, found.count) == (expected.low, expected.high, 60)
        assert found.mean == pytest.approx(expected.mean, rel=1e-12)
        assert found.low < found.mean < found.high

    def test_an_interval_does_not_depend_on_how_many_draws_are_held_at_a_time(self, monkeypatch):
        sums, sizes = [float(n % 13) for n in range(101)], [1 + n % 3 for n in range(101)]
        whole = statistics.interval_of_sums(sums, sizes)
        monkeypatch.setattr(statistics, "_DRAWS", 1000)
        assert statistics.interval_of_sums(sums, sizes) == whole

    def test_outcomes_of_played_tasks(self):
        env = sotopia_gym.make("sotopia-v0", split="heldout")
        players = {"agent_0": "scripted/generous", "agent_1": "scripted/generous"}
        played = [
            sotopia_gym.play(env, players, seed=0, options={"task": each.task_id})
            for each in env.suite.tasks
        ]
        found = stats(played)
        group = found.agents["scripted/generous"]
        assert (group.episodes, group.seats) == (len(played), 2 * len(played))
        agreed = [e.judgement.outcome.agreed for e in played]
        assert group.agreement.mean == pytest.approx(sum(agreed) / len(agreed))
        values = [v for e in played for v in e.judgement.normalised.values()]
        assert group.normalised.mean == pytest.approx(math.fsum(values) / len(values))
        assert len(found.families) > 1
        assert sum(g.episodes for g in found.families.values()) == len(played)

    def test_of_several_judges_the_latest_that_scored_counts_or_the_one_asked_for(self):
        one = episode(
            judgements=(
                judgement("x", (1, 1)),
                judgement("y", (9, 9)),
                Judgement(judge="x", error="down"),
            )
        )
        assert stats([one]).agents["model-a"].goal.mean == 9
        assert stats([one], judge="x").agents["model-a"].goal.mean == 1
        none = stats([one], judge="z")
        assert none.agents["model-a"].goal is None
        assert none.unjudged == 1

    def test_causes_do_not_grow_without_end(self):
        letters = [chr(ord("a") + i % 26) + chr(ord("a") + i // 26) for i in range(200)]
        found = stats(episode(ending="failed", error=f"E: {each}") for each in letters).failures
        assert len(found) == 51
        assert found["other causes"] == 150

    def test_nothing_at_all(self):
        assert stats([]).episodes == 0


MEASURE = """
import resource, sys
from sotopia_gym.episodes.store import latest, merge
from sotopia_gym.episodes.summary import stats

def run(path, count):
    assert stats(latest(path)).complete == count
    assert merge([path], path + ".merged") == count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

few, many = sys.argv[1:]
before = run(few, 500)
print(run(many, 20_000) - before)
"""


def test_memory_stays_small_while_the_files_grow(folder):
    """20,000 episodes, which as objects would take some 200 MB, grow a process by less than 20."""
    pytest.importorskip("resource")
    known = episode(judgements=(judgement(),))
    line = known.model_dump_json(exclude_defaults=True)
    for name, count in (("few", 500), ("many", 20_000)):
        with (folder / name).open("w") as file:
            for number in range(count):
                text = line.replace('"key":"a"', f'"key":"{number:032}"')
                file.write(text.replace("scene-0", f"scene-{number % 500}") + "\n")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder / "few"), str(folder / "many")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) / 1024 < 20


class TestCommands:
    def run(self, *arguments):
        return CliRunner().invoke(app, ["episodes", *map(str, arguments)])

    def test_stats_of_files(self, folder):
        one = write(folder / "one", episode(judgements=(judgement(),)), episode("b", **FAILED))
        two = write(folder / "two", episode(judgements=(judgement("k", (3, 3)),)))
        shown = self.run("stats", one, two).stdout
        assert "2 episodes: 1 complete, 1 failed" in shown
        assert "ModelError: down after # tries" in shown
        told = json.loads(self.run("stats", one, two, "--json", "--judge", "j").stdout)
        assert told["agents"]["model-a"]["goal"] == {
            "mean": 7.0,
            "low": None,
            "high": None,
            "count": 1,
        }
        assert told["judges"] == {"j": 1}

    def test_merge_of_files(self, folder):
        one = write(folder / "one", episode(judgements=(judgement(),)))
        two = write(folder / "two", episode(judgements=(judgement("k"),)), episode("b"))
        done = self.run("merge", one, two, "--out", folder / "out")
        assert "2 episodes ->" in done.stdout
        assert len(next(iter(Journal(folder / "out"))).judgements) == 2
        assert self.run("merge", one, two, "--out", folder / "out").exit_code == 1

    def test_a_sample_is_of_the_same_tasks_in_every_file(self, folder):
        numbers = [*range(8), *range(8)]
        played = [episode(f"{at}", number=number) for at, number in enumerate(numbers)]
        one = write(folder / "one", *played)
        two = write(folder / "two", *reversed(played[:8]), episode("x", number=9))
        chosen = []
        for path in (one, two):
            done = self.run("sample", path, "--tasks", 9, "--out", folder / f"{path.name}.all")
            assert done.exit_code == 0
            done = self.run("sample", path, "--tasks", 3, "--out", folder / f"{path.name}.some")
            assert done.exit_code == 0
            chosen.append([e.task.task_id for e in Journal(folder / f"{path.name}.some")])
        assert len(list(Journal(folder / "one.all"))) == 16
        assert len(chosen[0]) == 6
        assert len(set(chosen[0])) == 3
        assert set(chosen[0]) - {"task-9"} >= set(chosen[1]) - {"task-9"}
        other = folder / "other"
        self.run("sample", one, "--tasks", 3, "--seed", 1, "--out", other)
        assert {e.task.task_id for e in Journal(other)} != set(chosen[0])
        assert self.run("sample", one, "--tasks", 3, "--out", other).exit_code == 1

    def test_judging_passes_over_what_is_no_result(self, folder):
        path = write(folder / "run", episode(**FAILED), episode("b", ending="interrupted"))
        done = CliRunner().invoke(app, ["judge", str(path), "--judge", "outcome"])
        assert "0 judged now" in done.stdout
