"""Importing SOTOPIA's own data, and fetching it."""

import hashlib
import io
import json
import re
from collections import Counter
from http.client import IncompleteRead
from urllib.error import URLError

import pytest
from typer.testing import CliRunner

from sotopia_gym.cli import app
from sotopia_gym.errors import MissingSuiteError, SotopiaGymError, TaskError, UnknownIdError
from sotopia_gym.files import HOME_VARIABLE
from sotopia_gym.tasks import official
from sotopia_gym.tasks.content import load_cast
from sotopia_gym.tasks.official import FILES, HARD_SCENARIOS, import_folder
from sotopia_gym.tasks.suites import BUILT_IN, list_suites, load_suite

AGENTS, COMBOS, SCENARIOS, RELATIONSHIPS = FILES
IDS = {
    AGENTS: "agent_id",
    COMBOS: "combo_id",
    SCENARIOS: "env_id",
    RELATIONSHIPS: "relationship_id",
}


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """An empty home folder."""
    folder = tmp_path / "own-home"
    folder.mkdir()
    monkeypatch.setenv(HOME_VARIABLE, str(folder))
    return folder


@pytest.fixture(scope="module")
def sotopia(data):
    """The folder of the official suite."""
    if not all((data / "sotopia" / name).is_file() for name in FILES):
        pytest.skip(f"no official suite in {data / 'sotopia'}")
    return data / "sotopia"


@pytest.fixture
def records(sotopia):
    """The official records, by file, to be changed at will."""
    return {
        name: [json.loads(line) for line in (sotopia / name).read_text("utf-8").splitlines()]
        for name in FILES
    }


def write(folder, records):
    folder.mkdir(exist_ok=True)
    for name, entries in records.items():
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["tasks", *map(str, arguments)])


def refused(folder, home, *options):
    """The message with which an import fails, having written nothing."""
    result = run("import", folder, *options)
    assert result.exit_code == 1
    assert isinstance(result.exception, TaskError)
    assert list(home.iterdir()) == []
    return str(result.exception)


# Small records in SOTOPIA's format, for tests that do not need the real ones.


def small(goals=("Buy it.", "Sell it."), **fields):
    people = [
        {
            "agent_id": f"a{n}",
            "first_name": first,
            "last_name": "Ray",
            "age": 30 + n,
            "occupation": "cook",
            "gender": "Woman",
            "gender_pronoun": "she/her",
            "public_info": "cooks",
            "personality_and_values": "calm",
            "secret": "none",
        }
        for n, first in enumerate(("Ann", "Bea", "Cleo"))
    ]
    scenario = {"env_id": "e0", "scenario": "A scene.", "agent_goals": list(goals)}
    return {
        AGENTS: people,
        SCENARIOS: [scenario | {"relationship": 2} | fields],
        COMBOS: [{"combo_id": "c0", "env_id": "e0", "agent_ids": ["a0", "a1"]}],
        RELATIONSHIPS: [
            {
                "relationship_id": "r0",
                "agent1_id": "a1",
                "agent2_id": "a0",
                "relationship": "2",
                "background_story": "They met.",
            }
        ],
    }


# --- the official suite -------------------------------------------------------------------------


def test_the_official_folder_gives_both_suites(sotopia, records, own_home):
    result = run("import", sotopia)
    assert result.exit_code == 0
    assert "sotopia-all: 90 scenarios, 450 tasks" in result.stdout
    assert "sotopia-hard: 14 scenarios, 70 tasks" in result.stdout
    assert list_suites() == [*BUILT_IN, "sotopia-all", "sotopia-hard"]

    whole, hard = load_suite("sotopia-all"), load_suite("sotopia-hard")
    known = json.loads((sotopia / "suites.json").read_text("utf-8"))
    assert {t.scenario.scenario_id for t in whole} == set(known["all"])
    assert {t.scenario.scenario_id for t in hard} == set(known["hard"])
    assert {t.scenario.scenario_id for t in hard} == HARD_SCENARIOS
    assert list(hard) == [t for t in whole if t.scenario.scenario_id in HARD_SCENARIOS]
    assert [t.task_id for t in whole] == sorted(c["combo_id"] for c in records[COMBOS])


def test_every_task_holds_what_its_records_hold(sotopia, records):
    whole = import_folder(sotopia).suites[0]
    scenarios = {r["env_id"]: r for r in records[SCENARIOS]}
    people = {r["agent_id"]: r for r in records[AGENTS]}
    with_story = 0
    for combo in records[COMBOS]:
        task = whole[combo["combo_id"]]
        raw = scenarios[combo["env_id"]]
        assert task.scenario.context == raw["scenario"]
        assert list(task.scenario.goals) == raw["agent_goals"]
        assert task.relationship("agent_0", "agent_1") == int(raw["relationship"])
        for character, agent_id in zip(task.characters, combo["agent_ids"], strict=True):
            person = people[agent_id]
            assert character.name == f"{person['first_name']} {person['last_name']}".strip()
            assert character.age == person["age"]
            assert character.occupation == person["occupation"]
            assert character.public_info == person["public_info"]
            assert character.personality == person["personality_and_values"]
            assert character.secret == person["secret"]
        stories = {
            r["background_story"]
            for r in records[RELATIONSHIPS]
            if {r["agent1_id"], r["agent2_id"]} == set(combo["agent_ids"])
            and int(r["relationship"]) == int(raw["relationship"])
        }
        told = {r.background_story for r in task.relationships}
        assert told <= stories
        assert bool(told) == bool(stories)
        with_story += bool(told)
    assert with_story > 0


def test_objects_of_the_original_database_give_the_same_suites(sotopia, records, tmp_path):
    for name, entries in records.items():
        records[name] = [
            {"pk": entry[IDS[name]]} | {k: v for k, v in entry.items() if k != IDS[name]}
            for entry in reversed(entries)
        ]
    exported = import_folder(write(tmp_path / "pk", records))
    assert exported == import_folder(sotopia)
    assert [s.sha256 for s in exported.suites] == [s.sha256 for s in import_folder(sotopia).suites]


def test_repairing_changes_nothing_where_nothing_is_broken(sotopia):
    assert import_folder(sotopia, repair=True, skip_invalid=True) == import_folder(sotopia)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name, records, tmp_path, own_home):
    folder = write(tmp_path / "folder", records)
    (folder / name).unlink()
    message = refused(folder, own_home)
    assert f"holds no {name}" in message
    assert "--name" in message


def test_a_folder_that_is_not_there(tmp_path, own_home):
    message = refused(tmp_path / "nowhere", own_home, "--name", "mine")
    assert f"holds no {SCENARIOS}" in message


def test_other_combinations_are_not_the_official_suite(records, tmp_path, own_home):
    del records[COMBOS][7]
    folder = write(tmp_path / "folder", records)
    message = refused(folder, own_home)
    assert "90 scenarios and 449 tasks" in message
    assert "--name" in message
    result = run("import", folder, "--name", "mine")
    assert result.exit_code == 0
    assert "mine: 90 scenarios, 449 tasks" in result.stdout
    assert len(load_suite("mine")) == 449


@pytest.mark.parametrize("name", FILES)
def test_broken_json_is_placed(name, records, tmp_path, own_home):
    folder = write(tmp_path / "folder", records)
    lines = (folder / name).read_text("utf-8").split("\n")
    lines[11] = lines[11][:-3]
    (folder / name).write_text("\n".join(lines), "utf-8")
    message = refused(folder, own_home)
    assert f"{name}, line 12 is not JSON" in message


def test_a_missing_character_is_named_with_every_task_that_needs_it(records, tmp_path, own_home):
    gone = records[AGENTS].pop(5)["agent_id"]
    needing = [c["combo_id"] for c in records[COMBOS] if gone in c["agent_ids"]]
    folder = write(tmp_path / "folder", records)
    message = refused(folder, own_home)
    assert message.startswith(f"{len(needing)} records")
    assert f"task of {needing[0]}: refers to {gone}, which is not among" in message
    assert message.count(gone) == min(10, len(needing))

    imported = import_folder(folder, name="mine", skip_invalid=True)
    assert {p.record for p in imported.skipped} == {f"task of {c}" for c in needing}
    assert len(imported.suites[0]) == 450 - len(needing)


def test_a_left_out_scenario_takes_its_combinations_along(records, tmp_path, own_home):
    raw = records[SCENARIOS][3]
    raw["agent_goals"][1] += "<extra_info>"
    needing = [c["combo_id"] for c in records[COMBOS] if c["env_id"] == raw["env_id"]]
    folder = write(tmp_path / "folder", records)
    assert f"{SCENARIOS}, line 4: scenario {raw['env_id']}, goal of agent_1: <extra_info>" in (
        refused(folder, own_home)
    )
    assert "is not the official suite" in refused(folder, own_home, "--skip-invalid")
    result = run("import", folder, "--name", "mine", "--skip-invalid")
    left_out = [line for line in result.stdout.splitlines() if line.startswith("left out")]
    assert len(left_out) == 1 + len(needing)
    assert f"0 repaired, {len(left_out)} left out" in result.stdout
    assert run("import", folder, "--repair").exit_code == 0
    assert len(load_suite("sotopia-all")) == 450


# --- other folders ------------------------------------------------------------------------------


def test_a_small_folder_of_ones_own(tmp_path, own_home):
    folder = write(tmp_path / "folder", small())
    result = run("import", folder, "--name", "mine")
    assert result.exit_code == 0
    assert "mine: 1 scenarios, 1 tasks" in result.stdout
    (task,) = load_suite("mine")
    assert list(task.names.values()) == ["Ann Ray", "Bea Ray"]
    assert [r.background_story for r in task.relationships] == ["They met."]


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (SCENARIOS, {"relationship": 6}, "must be one of 0 (stranger), 1 (know_by_name)"),
        (SCENARIOS, {"relationship": "friend"}, "5 (family); got 'friend'"),
        (SCENARIOS, {"relationship": 3.7}, "got 3.7"),
        (SCENARIOS, {"relationship": True}, "got True"),
        (SCENARIOS, {"relationship": None}, "got None"),
        (RELATIONSHIPS, {"relationship": "-1"}, "got '-1'"),
        (SCENARIOS, {"agent_goals": ["alone"]}, "goals: "),
        (SCENARIOS, {"agent_goals": "win"}, "agent_goals must be a list of texts, got 'win'"),
        (SCENARIOS, {"agent_goals": None}, "agent_goals must be a list of texts, got None"),
        (SCENARIOS, {"agent_goals": ["win", None]}, "goals.1: "),
        (SCENARIOS, {"agent_goals": ["win", "<b>lose</b>"]}, "goal of agent_1: malformed"),
        (SCENARIOS, {"scenario": ""}, "context: "),
        (SCENARIOS, {"scenario": None}, "context: "),
        (SCENARIOS, {"scenario": "a</p>"}, "scenario e0, context: </p> closes nothing"),
        (SCENARIOS, {"age_constraint": "[18, 70]"}, ""),
        (SCENARIOS, {"env_id": ""}, "it has no id (neither env_id nor pk)"),
        (COMBOS, {"combo_id": None}, "it has no id (neither combo_id nor pk)"),
        (AGENTS, {"first_name": ""}, "first_name: "),
        (AGENTS, {"first_name": "A:"}, "a name is printable"),
        (AGENTS, {"first_name": None}, ""),
        (AGENTS, {"age": "old"}, "age: "),
        (AGENTS, {"age": 200}, "age: "),
    ],
)
def test_a_malformed_record_is_placed(name, change, problem, tmp_path, own_home):
    records = small()
    records[name][0] |= change
    folder = write(tmp_path / "folder", records)
    for options in ((), ("--repair",)):
        message = refused(folder, own_home, "--name", "mine", *options)
        assert f"\n  {name}, line 1: " in message
        assert problem in message
        assert "Nothing was imported" in message


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (SCENARIOS, "scenario"),
        (SCENARIOS, "agent_goals"),
        (SCENARIOS, "relationship"),
        (AGENTS, "secret"),
        (COMBOS, "env_id"),
        (RELATIONSHIPS, "agent1_id"),
    ],
)
def test_a_missing_field_is_named(name, field, tmp_path, own_home):
    records = small()
    del records[name][0][field]
    message = refused(write(tmp_path / "folder", records), own_home, "--name", "mine")
    assert f"{name}, line 1: the field '{field}' is missing" in message


@pytest.mark.parametrize("name", FILES)
def test_a_second_record_with_the_same_id_is_refused(name, tmp_path, own_home):
    records = small()
    records[name].append(records[name][0])
    message = refused(write(tmp_path / "folder", records), own_home, "--name", "mine")
    number = len(records[name])
    assert f"{name}, line {number}: a second record with the id" in message


def test_lines_that_are_no_objects_or_no_text(tmp_path, own_home):
    folder = write(tmp_path / "folder", small())
    (folder / AGENTS).write_text('\n["Ann"]\n', "utf-8")
    assert "line 2 holds a list" in refused(folder, own_home, "--name", "mine")
    (folder / AGENTS).write_bytes("{é}".encode("latin-1"))
    assert f"{AGENTS} is not UTF-8" in refused(folder, own_home, "--name", "mine")


def test_combinations_need_characters_and_as_many_as_there_are_goals(tmp_path, own_home):
    records = small(("one", "two", "three"))
    folder = write(tmp_path / "folder", records)
    message = refused(folder, own_home, "--name", "mine")
    assert "task c0 has 2 characters for 3 goals" in message
    (folder / AGENTS).unlink()
    assert f"holds no {AGENTS}" in refused(folder, own_home, "--name", "mine")


def test_nothing_left_is_no_suite(tmp_path, own_home):
    folder = write(tmp_path / "folder", small(("a", "<p>b")))
    message = refused(folder, own_home, "--name", "mine", "--skip-invalid")
    assert "nothing that could be imported" in message


@pytest.mark.parametrize("name", ["starter", "sotopia-all", "sotopia-hard", "", "../up", "a.json"])
def test_names_that_could_not_be_told_apart_are_refused(name, tmp_path, own_home):
    message = refused(write(tmp_path / "folder", small()), own_home, "--name", name)
    assert f"under the name {name!r}" in message


def test_without_combinations_scenarios_are_paired(tmp_path):
    records = small(age_constraint="[(31, 31), (18, 70)]", relationship="3")
    del records[COMBOS]
    folder = write(tmp_path / "folder", records)
    (task,) = import_folder(folder, name="mine").suites[0]
    assert task.task_id == "e0"
    assert task.characters[0].name == "Bea Ray"
    assert task.characters[1].name in {"Ann Ray", "Cleo Ray"}
    assert import_folder(folder, name="mine") == import_folder(folder, name="mine")
    drawn = {
        import_folder(folder, name="mine", seed=n).suites[0].tasks[0].characters[1].name
        for n in range(20)
    }
    assert len(drawn) == 2
    (folder / AGENTS).unlink()
    cast = {c.name for split in ("train", "heldout") for c in load_cast(split)}
    records[SCENARIOS][0] |= {"age_constraint": "nan"}
    (task,) = import_folder(write(folder, {SCENARIOS: records[SCENARIOS]}), name="mine").suites[0]
    assert set(task.names.values()) <= cast


def test_sizes_are_splits_and_goals_that_were_cut_up_are_no_sizes(tmp_path):
    records = small()
    del records[COMBOS]
    base = records[SCENARIOS][0]
    cut = ["'Win, if you can'", '"Lose', ' but not "badly"', ' or not at all"']
    records[SCENARIOS] = [
        base | {"env_id": "two", "agent_goals": ['"Win" it.', "Lose it, she says: 'Lose.'"]},
        base | {"env_id": "quoted", "agent_goals": ["'Win, if you can'", '"Lose"']},
        base | {"env_id": "three", "agent_goals": ["Win", "Lose", "Draw"]},
        base | {"env_id": "cut", "agent_goals": cut},
        base | {"env_id": "cut-tag", "agent_goals": ["'Win", "'Lose", "so (<extra_info>b)'"]},
    ]
    folder = write(tmp_path / "folder", records)
    for repair in (False, True):
        imported = import_folder(folder, name="mine", repair=repair, skip_invalid=True)
        (suite,) = imported.suites
        assert suite.splits == {"2-agents": ("quoted", "two"), "3-agents": ("three",)}
        assert [p.record[-6:] for p in imported.skipped] == ["line 4", "line 5"]
        assert "agent_1 to agent_3 hold pieces" in imported.skipped[0].what
        assert "agent_0 to agent_2 hold pieces" in imported.skipped[1].what
        assert imported.repaired == ()


# --- scenarios that a language model wrote ------------------------------------------------------

_TAG = re.compile(r"<(/?)([a-z_]+)>")
_PLACE = re.compile(r"environment_profiles\.jsonl, line (\d+)")


def texts(raw):
    return [raw["scenario"], *raw["agent_goals"]]


def unclosed(text):
    """How many tags more are opened than closed."""
    return sum(-1 if close else 1 for close, _ in _TAG.findall(text))


def well_formed(text):
    left, before = _TAG.sub("", text), None
    while text != before:
        before, text = text, re.sub(r"<([a-z_]+)>([^<>]*)</\1>", r"\2", text)
    return text == left and "<" not in left


@pytest.fixture(scope="module")
def generated(data):
    folder = data / "generated-scenarios"
    if not (folder / SCENARIOS).is_file():
        pytest.skip(f"no generated scenarios in {folder}")
    lines = (folder / SCENARIOS).read_text("utf-8").splitlines()
    return folder, dict(enumerate(map(json.loads, lines), start=1))


def test_generated_scenarios_are_refused_with_their_places(generated, own_home):
    folder, raw = generated
    message = refused(folder, own_home, "--name", "generated")
    broken = {n for n, r in raw.items() if not all(map(well_formed, texts(r)))}
    cut = {n for n, r in raw.items() if len(r["agent_goals"]) > 2}
    assert broken
    assert int(message.split()[0]) >= len(broken | cut)
    places = [int(n) for n in _PLACE.findall(message)]
    assert places == sorted(broken | cut)[:10]
    assert f"... and {int(message.split()[0]) - 10} more" in message
    assert "--repair" in message
    assert "--skip-invalid" in message
    # Some stay malformed when repaired.
    repaired = refused(folder, own_home, "--name", "generated", "--repair")
    assert int(repaired.split()[0]) < int(message.split()[0])


def test_generated_scenarios_are_repaired_or_left_out_one_by_one(generated, own_home):
    folder, raw = generated
    result = run("import", folder, "--name", "generated", "--repair", "--skip-invalid")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    repaired = [line for line in lines if line.startswith("repaired  ")]
    left_out = [line for line in lines if line.startswith("left out  ")]
    assert lines[-1] == f"{len(repaired)} repaired, {len(left_out)} left out"

    # All scenarios of more than two goals in this file are cut-up scenarios of two.
    cut = {n for n, r in raw.items() if len(r["agent_goals"]) > 2}
    open_ended = {n for n, r in raw.items() if any(unclosed(t) > 0 for t in texts(r))}
    at = [int(match[1]) for line in lines if (match := _PLACE.search(line))]
    assert max(Counter(at).values()) == 1
    assert set(at) == open_ended | cut
    assert {int(_PLACE.search(line)[1]) for line in repaired} == open_ended - cut
    assert all(raw[int(_PLACE.search(line)[1])]["pk"] in line for line in repaired)

    suite = load_suite("generated")
    nobody_fits = {line.split()[4].rstrip(":") for line in left_out if " task of " in line}
    assert all("no character left for" in line for line in left_out if " task of " in line)
    imported = {r["pk"] for n, r in raw.items() if n not in cut} - nobody_fits
    assert {t.task_id for t in suite} == imported
    assert len(suite) + len(left_out) == len(raw)

    by_id = {r["pk"]: r for r in raw.values()}
    for task in suite:
        mended = [task.scenario.context, *task.scenario.goals]
        assert all(map(well_formed, mended))
        # Repairing adds closing tags, and nothing else.
        source = texts(by_id[task.task_id])
        assert [_TAG.sub("", t) for t in mended] == [_TAG.sub("", t) for t in source]
        assert all(unclosed(s) > 0 for m, s in zip(mended, source, strict=True) if m != s)
        ages = zip(task.characters, task.scenario.constraints, strict=True)
        assert all(c.min_age <= who.age <= c.max_age for who, c in ages)


# --- fetching -----------------------------------------------------------------------------------


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def source(sotopia):
    """The official files by their addresses."""
    return {official.SOURCE_URL + name: (sotopia / name).read_bytes() for name in FILES}


def serve(monkeypatch, answer):
    """Have ``urlopen`` answer with a file-like object, or an exception."""
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        assert timeout > 0
        return answer(url)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return asked


def test_fetched_files_are_verified(source, tmp_path):
    official.fetch(source.__getitem__, tmp_path / "files")
    found = {p.name: sha256(p.read_bytes()) for p in (tmp_path / "files").iterdir()}
    assert found == FILES


def test_fetch_imports_both_suites(source, monkeypatch, own_home, sotopia):
    asked = serve(monkeypatch, lambda url: io.BytesIO(source[url]))
    result = run("fetch", "sotopia")
    assert result.exit_code == 0
    assert asked == list(source)
    assert all(url.startswith("https://") for url in asked)
    assert load_suite("sotopia-all") == import_folder(sotopia).suites[0]
    assert len(load_suite("sotopia-hard")) == 70


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_wrong_bytes_are_refused(content, monkeypatch, own_home, tmp_path):
    with pytest.raises(TaskError, match="nothing was imported") as raised:
        official.fetch(lambda url: content, tmp_path / "files")
    assert sha256(content) in str(raised.value)
    assert official.SOURCE_URL in str(raised.value)
    assert not (tmp_path / "files").exists()

    serve(monkeypatch, lambda url: io.BytesIO(content))
    result = run("fetch")
    assert result.exit_code == 1
    assert isinstance(result.exception, TaskError)
    assert list(own_home.iterdir()) == []


@pytest.mark.parametrize("number", range(4))
def test_one_changed_byte_is_noticed(number, source, monkeypatch, own_home):
    url = list(source)[number]
    source[url] = source[url].replace(b"a", b"b", 1)
    serve(monkeypatch, lambda url: io.BytesIO(source[url]))
    result = run("fetch")
    assert isinstance(result.exception, TaskError)
    assert url in str(result.exception)
    assert list(own_home.iterdir()) == []


def test_an_interrupted_download_leaves_whole_files_only(source, tmp_path):
    class Interrupted(Exception):
        pass

    def download(url):
        if url == list(source)[2]:
            raise Interrupted
        return source[url]

    with pytest.raises(Interrupted):
        official.fetch(download, tmp_path / "files")
    found = {p.name: sha256(p.read_bytes()) for p in (tmp_path / "files").iterdir()}
    assert found == dict(list(FILES.items())[:2])


def test_a_full_disk_leaves_no_partial_file(source, tmp_path, monkeypatch):
    def fsync(handle):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match="no space left"):
        official.fetch(source.__getitem__, tmp_path)
    assert list(tmp_path.iterdir()) == []


class Broken(io.BytesIO):
    """An answer that breaks off."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def read(self, *_):
        raise self._error


@pytest.mark.parametrize(
    "error", [TimeoutError("timed out"), IncompleteRead(b"abc", 9), ConnectionResetError("reset")]
)
def test_a_connection_that_breaks_is_a_message(error, monkeypatch, own_home):
    serve(monkeypatch, lambda url: Broken(error))
    result = run("fetch")
    assert isinstance(result.exception, SotopiaGymError)
    assert "sotopia-gym tasks import FOLDER" in str(result.exception)
    assert list(own_home.iterdir()) == []


def test_no_network_is_a_message(monkeypatch, own_home):
    def unreachable(url):
        raise URLError("no route to host")

    serve(monkeypatch, unreachable)
    result = run("fetch")
    assert isinstance(result.exception, SotopiaGymError)
    assert "no route to host" in str(result.exception)
    assert "sotopia-gym tasks import FOLDER" in str(result.exception)


def test_only_sotopia_can_be_fetched(own_home):
    result = run("fetch", "sotopa")
    assert isinstance(result.exception, UnknownIdError)
    assert "'sotopia'" in str(result.exception)


@pytest.mark.parametrize("name", ["sotopia-all", "sotopia-hard"])
def test_a_missing_suite_says_how_to_get_it(name, own_home):
    with pytest.raises(MissingSuiteError) as raised:
        load_suite(name)
    message = str(raised.value)
    assert repr(name) in message
    assert "sotopia-gym tasks fetch sotopia" in message
    assert "sotopia-gym tasks import FOLDER" in message
    assert all(filename in message for filename in FILES)
    assert str(own_home) in message


def test_an_unknown_suite_is_answered_with_the_nearest(own_home):
    with pytest.raises(UnknownIdError, match="Did you mean 'sotopia-hard'") as raised:
        load_suite("sotopia-hrad")
    assert not isinstance(raised.value, MissingSuiteError)
