"""Episodes in the formats of others, and back."""

import json
import sys
from collections import Counter

import pytest
from typer.testing import CliRunner

import sotopia_gym
from sotopia_gym.cli import app
from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import Action, Event
from sotopia_gym.envs.session import Session
from sotopia_gym.episodes import exporters, sotopia
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.exporters import EXPORT_FORMATS, chats, export, is_parquet, read_parquet
from sotopia_gym.episodes.importers import import_episodes
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import DimensionScore, Judgement, Usage
from sotopia_gym.errors import ConfigError, JournalError, MissingDependencyError
from sotopia_gym.judges import OutcomeJudge
from sotopia_gym.tasks.background import background
from tests.episodes.test_importers import episode_log, release

KINDS = {"release": "sotopia-release", "episode_log": "sotopia-log"}


def seven(task):
    """A judgement of all dimensions, with reasons that are hard to take apart."""
    return Judgement(
        judge="llm/some-model",
        scores={
            agent: {
                name: DimensionScore(
                    score=dimension.low + number, reasoning=f'{agent} "did":\n\nwell, {name} so'
                )
                for name, dimension in DIMENSIONS.items()
            }
            for number, agent in enumerate(task.agents)
        },
    )


@pytest.fixture(scope="module")
def played():
    """Played episodes: all endings, one with usage, one failed, one of each judge."""
    env = sotopia_gym.make("sotopia-v0", judge="none")
    found = []
    for number, names in enumerate([("fair", "firm"), ("random", "random"), ("generous", "fair")]):
        players = {f"agent_{i}": f"scripted/{name}" for i, name in enumerate(names)}
        options = {"task": env.suite.tasks[30 * number].task_id}
        found.append(sotopia_gym.play(env, players, seed=number, options=options))
    used = {"agent_0": Usage(requests=3, prompt_tokens=40, completion_tokens=2, cost=0.5)}
    task = found[0].task
    found[0] = found[0].with_judgement(OutcomeJudge().judge(found[0]))
    found[1] = found[1].model_copy(update={"usage": used}).with_judgement(seven(found[1].task))
    silence = [Event(turn, f"agent_{(turn - 1) % 2}", Action("none")) for turn in (1, 2, 3)]
    found.append(found[0].model_copy(update={"events": tuple(silence), "ending": "silence"}))
    left = (Event(1, "agent_0", Action("speak", 'Say "no".\nTurn #2')), *_rest(task))
    found.append(found[0].model_copy(update={"events": left, "ending": "left", "judgements": ()}))
    return [type(e).model_validate_json(e.model_dump_json()) for e in found]


def _rest(task):
    return (
        Event(2, "agent_1", Action("non-verbal communication", "[nods] \u2028 slowly")),
        Event(3, "agent_0", Action("action", "shows a note", ("agent_1",))),
        Event(4, "agent_1", Action("leave")),
    )


@pytest.fixture
def failed(played):
    return played[0].model_copy(update={"ending": "failed", "error": "down", "judgements": ()})


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def reimported(folder, kind, episodes):
    path = folder / f"{kind}.jsonl"
    export(episodes, KINDS[kind], path)
    return import_episodes([path])


class TestSotopia:
    @pytest.mark.parametrize("kind", KINDS)
    def test_synthetic_records_come_back_field_for_field(self, tmp_path, kind):
        plain = {"release": release, "episode_log": episode_log}[kind]()
        odd = {
            **plain,
            "_source": None,
            "models_seen": {"a": [True, 1]},
            "reasoning": "none of the usual form",
            sotopia._MESSAGES[kind]: [
                [["Environment", "Ada Birch", "?"], ["Environment", "B", ""]]
            ],
        }
        odd.pop("raw_rewards_prompt", None)
        for number, record in enumerate((plain, odd)):
            path = tmp_path / f"{number}.json"
            path.write_text(json.dumps(record))
            imported = import_episodes([path])
            (episode,) = imported.episodes
            stored = Journal(tmp_path / f"{number}.jsonl")
            stored.append(episode)
            (back,) = [sotopia.record(e, kind) for e in stored]
            assert json.dumps(back, sort_keys=True) == json.dumps(record, sort_keys=True)

    def test_only_what_differs_is_kept(self, tmp_path):
        path = tmp_path / "x"
        path.write_text(json.dumps(episode_log()))
        (episode,) = import_episodes([path]).episodes
        kept = episode.extra["sotopia"]["episode_log"]
        assert set(kept) <= {"introductions", "fields"}
        # In the synthetic record one message goes to one agent only, and 0 is no mean.
        assert set(kept["fields"]) == {"messages", "rewards", "rewards_prompt"}

    def test_what_cannot_be_stored_is_told(self, tmp_path):
        path = tmp_path / "x"
        path.write_text(json.dumps({**episode_log(), "rewards_prompt": "\ud800"}))
        imported = import_episodes([path])
        assert "cannot be written again" in imported.notes[-1].what
        Journal(tmp_path / "out").append(imported.episodes[0])

    @pytest.mark.parametrize("kind", KINDS)
    def test_real_records_come_back_field_for_field(self, data, tmp_path, kind):
        name = {"release": "release_schema_20", "episode_log": "episode_logs_21"}[kind]
        path = data / "episodes" / f"{name}.jsonl"
        journal = Journal(tmp_path / "all", fsync=float("inf"))
        kept = Counter()
        with journal.writing() as write:
            for episode in import_episodes([path]).episodes:
                write(episode)
                unlike = episode.extra["sotopia"][kind]
                kept.update(unlike.get("fields", {}).keys())
                assert "absent" not in unlike
        export(journal, KINDS[kind], tmp_path / "back")
        original = lines(path)
        assert len(original) == {"release": 20, "episode_log": 21}[kind]
        for back, record in zip(lines(tmp_path / "back"), original, strict=True):
            assert set(back) == set(record)
            for field, value in record.items():
                assert json.dumps(back[field], sort_keys=True) == json.dumps(value, sort_keys=True)
        # The rest is written anew from the episode: conversations, scores, reasons, goals.
        prompts = {"raw_rewards_prompt", "rewards_prompt"}
        assert set(kept) - prompts <= {"agents_background"}
        assert kept["agents_background"] <= 2

    def test_both_formats_of_one_episode(self, tmp_path):
        path = tmp_path / "x"
        records = [{**release(), "episode_id": "one"}, {**episode_log(), "pk": "one"}]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        (episode,) = import_episodes([path]).episodes
        assert sotopia.record(episode, "release") == records[0]
        assert sotopia.record(episode, "episode_log") == records[1]

    @pytest.mark.parametrize("kind", KINDS)
    def test_ours_keep_events_scores_and_reasons(self, tmp_path, played, kind):
        imported = reimported(tmp_path, kind, played)
        assert imported.notes == ()
        for episode, back in zip(played, imported.episodes, strict=True):
            assert [(e.turn, e.agent, e.action) for e in back.events] == [
                (e.turn, e.agent, e.action) for e in episode.events
            ]
            assert back.ending == episode.ending
            assert back.turn_order == "round-robin"
            assert back.agents == episode.agents
            assert back.episode_id == episode.episode_id
            assert back.task.names == episode.task.names
            ours, theirs = episode.judgement, back.judgement
            assert (ours.scores if ours else None) == (theirs.scores if theirs else None)
            for agent in episode.task.agents:
                assert back.task.goal(agent) == episode.task.goal(agent)
        assert imported.episodes[1].judgement.judge == "llm/some-model (recorded)"

    def test_a_record_of_ours_is_laid_out_as_theirs(self, data, played):
        for kind, name in (("release", "release_schema_20"), ("episode_log", "episode_logs_21")):
            theirs = lines(data / "episodes" / f"{name}.jsonl")[0]
            theirs.pop("_source", None)
            ours = sotopia.record(played[1], kind)
            assert list(ours) == list(theirs)
            assert {n: type(v) for n, v in ours.items()} == {n: type(v) for n, v in theirs.items()}
            messages = sotopia._MESSAGES[kind]
            shape = [[s == "Environment" for s, _, _ in turn] for turn in theirs[messages][:1]]
            assert [[s == "Environment" for s, _, _ in t] for t in ours[messages][:1]] == shape

    def test_nobody_is_told_what_it_may_not_know(self, played):
        episode = played[4]
        record = sotopia.record(episode, "episode_log")
        names = list(episode.task.names.values())
        for number, agent in enumerate(episode.task.agents):
            (told,) = (
                t for s, r, t in record["messages"][0] if (s, r) == ("Environment", names[number])
            )
            other = episode.task.agents[1 - number]
            assert episode.task.goal(agent) in told
            assert episode.task.goal(other) not in told
            secret = episode.task.character(other).secret
            assert not secret or secret not in told
        assert [names[0], names[1], "[action] shows a note"] in record["messages"][2]

    def test_three_agents_and_what_is_private(self, tmp_path, played):
        task = three(played[0].task)
        session = Session(task, seed=1, rng=None, turn_order="simultaneous", max_turns=2)
        say = [
            {"agent_0": Action("speak", "To you two.", ("agent_1", "agent_2"))},
            {"agent_2": Action("speak", "To you.", ("agent_0",))},
        ]
        for actions in say:
            session.advance({a: actions.get(a, Action("none")) for a in task.agents})
        episode = session.episode()
        record = sotopia.record(episode, "release")
        names = list(task.names.values())
        told = {receiver: text for sender, receiver, text in record["raw_messages"][2]}
        assert told == {
            names[0]: f'Turn #1: {names[2]} said: "To you."\n',
            names[1]: "Turn #1: \n",
            names[2]: f'Turn #1: {names[2]} said: "To you."\n',
        }
        (back,) = reimported(tmp_path, "release", [episode]).episodes
        assert back.events == episode.events

    def test_incomplete_episodes_and_bare_scores_are_left_out(self, tmp_path, played, failed):
        for kind in ("sotopia-release", "sotopia-log", "chat"):
            assert export([failed], kind, tmp_path / kind) == 0
            assert (tmp_path / kind).read_bytes() == b""


def three(task):
    """A task like ``task`` with a third character."""
    third = task.characters[0].model_copy(
        update={"first_name": "Third", "last_name": "Person", "character_id": "third"}
    )
    goals = (*task.scenario.goals, "Find out what they say.")
    scenario = task.scenario.model_copy(update={"goals": goals, "constraints": (), "outcome": None})
    return type(task)(
        task_id="three", scenario=scenario, characters=(*task.characters, third), relationships=()
    )


class TestChat:
    def test_each_agent_reads_what_it_saw(self, tmp_path, played):
        episode = played[4]
        assert export([episode], "chat", tmp_path / "chat") == 2
        first, second = lines(tmp_path / "chat")
        assert (first["agent"], second["agent"]) == ("agent_0", "agent_1")
        assert first["player"] == episode.agents["agent_0"]
        assert (first["goal"], first["task_id"]) == (None, episode.task.task_id)
        assert [m["role"] for m in first["messages"]] == ["system", *["user", "assistant"] * 2]
        system, *rest = [m["content"] for m in first["messages"]]
        assert system == background(episode.task, "agent_0", max_turns=episode.max_turns)
        names = list(episode.task.names.values())
        assert rest[0] == "It is your turn."
        assert json.loads(rest[1])["argument"] == 'Say "no".\nTurn #2'
        assert rest[2] == transcript.line(episode.events[1], episode.task.names)
        assert json.loads(rest[3]) == {
            "action_type": "action",
            "argument": "shows a note",
            "to": [names[1]],
        }

    def test_the_goal_score_is_the_agents_own(self, played):
        rows = list(chats(played[1]))
        assert [row["goal"] for row in rows] == [0.0, 1.0]

    def test_what_is_private_between_others_is_not_there(self, played):
        task = three(played[0].task)
        session = Session(task, seed=1, rng=None, max_turns=6)
        said = [
            Action("speak", "between us", ("agent_1",)),
            Action("speak", "aloud"),
            Action("speak", "third"),
            Action("speak", "psst", ("agent_2",)),
            Action("speak", "well"),
            Action("speak", "end"),
        ]
        for action in said:
            session.advance({session.dialogue.acting[0]: action})
        rows = {r["agent"]: [m["content"] for m in r["messages"]] for r in chats(session.episode())}
        assert "between us" not in "".join(rows["agent_2"])
        assert "between us" in rows["agent_1"][1]
        assert "psst" in rows["agent_2"][3]
        assert "psst" not in "".join(rows["agent_1"])

    def test_who_acts_at_the_same_time_is_heard_afterwards(self, played):
        task = played[0].task
        session = Session(task, seed=1, rng=None, turn_order="simultaneous", max_turns=2)
        for turn in (1, 2):
            session.advance({a: Action("speak", f"{a} in {turn}") for a in task.agents})
        for row in chats(session.episode()):
            other = {"agent_0": "agent_1", "agent_1": "agent_0"}[row["agent"]]
            heard = [m["content"] for m in row["messages"] if m["role"] == "user"]
            assert heard[0] == "It is your turn."
            assert f"{other} in 1" in heard[1]
            assert len(heard) == 2

    def test_how_long_it_may_last_is_left_out_where_it_is_unknown(self, played):
        unknown = played[0].model_copy(update={"max_turns": None})
        system = next(chats(unknown))["messages"][0]["content"]
        assert "lasts at most" not in system
        assert "Your goal (private): " in system.split("\n")[-1]


class TestTables:
    def test_a_table_gives_the_episodes_back(self, tmp_path, played, failed, monkeypatch):
        parquet = pytest.importorskip("pyarrow.parquet")
        monkeypatch.setattr(exporters, "_GROUP_ROWS", 2)
        path = tmp_path / "t.parquet"
        assert export([*played, failed], "parquet", path) == 6
        assert is_parquet(path)
        assert list(read_parquet(path)) == [*played, failed]
        table = parquet.read_table(path)
        assert parquet.ParquetFile(path).num_row_groups == 3
        rows = table.to_pylist()
        assert [row["ending"] for row in rows] == [e.ending for e in (*played, failed)]
        first, second = rows[:2]
        assert first["episode_id"] == played[0].episode_id
        assert first["family"] == "price"
        assert first["players"] == ["scripted/fair", "scripted/firm"]
        assert first["goals"] == [played[0].judgement.goal(a) for a in played[0].task.agents]
        assert first["normalised"] == [played[0].judgement.normalised[a] for a in first["agents"]]
        assert (first["judge"], first["tokens"], first["cost"]) == ("outcome", None, None)
        assert (second["tokens"], second["cost"], second["normalised"]) == (42, 0.5, [None, None])
        assert first["turns"] == played[0].events[-1].turn
        assert str(table.schema.field("goals").type) == "list<element: double>"

    def test_an_empty_table_and_one_that_is_none(self, tmp_path):
        pytest.importorskip("pyarrow")
        assert export([], "parquet", tmp_path / "empty") == 0
        assert list(read_parquet(tmp_path / "empty")) == []
        (tmp_path / "bad").write_bytes((tmp_path / "empty").read_bytes()[:-5])
        with pytest.raises(JournalError, match="bad is not a Parquet table"):
            list(read_parquet(tmp_path / "bad"))

    def test_a_foreign_table_is_an_error(self, tmp_path):
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "other")
        with pytest.raises(JournalError, match="no column 'episode'"):
            list(read_parquet(tmp_path / "other"))
        parquet.write_table(pa.table({"episode": ["{}"]}), tmp_path / "broken")
        with pytest.raises(JournalError, match="row 1 is not an episode"):
            list(read_parquet(tmp_path / "broken"))

    def test_a_folder_of_shards(self, tmp_path, played, monkeypatch):
        pytest.importorskip("pyarrow")
        monkeypatch.setattr(exporters, "_SHARD_ROWS", 2)
        for count, shards in ((5, 3), (4, 2), (0, 1)):
            folder = tmp_path / str(count)
            assert export(played[:count], "datasets", folder) == count
            parts = sorted((folder / "data").iterdir())
            assert [part.name for part in parts] == [f"part-{n:05}.parquet" for n in range(shards)]
            back = [episode for part in parts for episode in read_parquet(part)]
            assert back == played[:count]
            assert f"{count} episodes" in (folder / "README.md").read_text()
        assert {path.name for path in tmp_path.iterdir()} == {"5", "4", "0"}

    def test_hugging_face_datasets_reads_the_folder(self, tmp_path, played, monkeypatch):
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        datasets = pytest.importorskip("datasets")
        export(played, "datasets", tmp_path / "folder")
        read = datasets.load_dataset(str(tmp_path / "folder"), split="train")
        assert [sotopia_gym.Episode.model_validate_json(t) for t in read["episode"]] == played

    def test_without_pyarrow_the_extra_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        for kind in ("parquet", "datasets"):
            with pytest.raises(MissingDependencyError, match=r"sotopia-gym\[store\]"):
                export([], kind, tmp_path / kind)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_nothing_is_left_if_the_episodes_break_off(tmp_path, played, kind):
    pytest.importorskip("pyarrow")

    def broken():
        yield played[0]
        raise JournalError("line 2 is not an episode")

    with pytest.raises(JournalError, match="line 2"):
        export(broken(), kind, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_what_is_there_stays(tmp_path, kind):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(JournalError, match="already there"):
        export([], kind, tmp_path / "out")
    with pytest.raises(ConfigError, match="'xml'"):
        export([], "xml", tmp_path / "other")


def test_the_command_exports_each_episode_once_and_imports_tables(tmp_path, played):
    pytest.importorskip("pyarrow")

    def run(*arguments):
        return CliRunner().invoke(app, ["episodes", *map(str, arguments)])

    journal = Journal(tmp_path / "run.jsonl")
    for episode in (*played, played[0]):
        journal.append(episode)
    assert (
        "10 rows" in run("export", journal.path, "--format", "chat", "--out", tmp_path / "c").output
    )
    table = tmp_path / "t"
    assert "5 rows" in run("export", journal.path, "--format", "parquet", "--out", table).output
    back = tmp_path / "back.jsonl"
    assert "5 episodes" in run("import", table, "--out", back).output
    assert list(Journal(back)) == played
    assert run("import", table, "--out", back, "--append").exit_code == 1
    assert run("import", table, table, "--out", tmp_path / "twice").exit_code == 1
    assert list(Journal(back)) == played
