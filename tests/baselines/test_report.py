"""Reports: means over what was scored, paired differences, and several seeds in one file."""

import json
import sys
from pathlib import Path

import pytest

from baselines import page
from baselines.report import gathered, main, measures, of_seed, text
from sotopia_gym import Rollout, Rules
from sotopia_gym.episodes.schema import Judgement
from sotopia_gym.errors import ConfigError
from sotopia_gym.tasks.suites import build_family

TASKS = [
    task for name in ("joint_choice", "price") for task in build_family(name, "heldout", range(3))
]


def play(folder, agent, tasks=TASKS, **options):
    """Episodes of an agent in a folder's journal."""
    run = Rollout(
        tasks,
        agent,
        ["scripted/fair", "scripted/generous"],
        judge=options.pop("judge", "outcome"),
        every_partner=True,
        journal=folder / "episodes.jsonl",
        rules=Rules(max_turns=8),
        **options,
    )
    return list(run)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two arms and the floors, as steps leave them."""
    out = tmp_path_factory.mktemp("run")
    agents = {"common/base/eval": "silent", "seed-0/bc/eval": "expert", "seed-0/bc+sr/eval": "fair"}
    for step, agent in agents.items():
        play(out / step, f"scripted/{agent}")
    for floor in ("random", "accepting"):
        play(out / "common/floors" / floor, f"scripted/{floor}")
    return {step: out / step for step in (*agents, "common/floors")}


@pytest.fixture(scope="module")
def found(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    assert of_seed("recipe", 0, out, folders) == {}
    found = json.loads((out / "report.json").read_text())
    assert (out / "report.txt").read_text() == text(found) + "\n"
    return found


def test_every_arm_and_floor_is_there_by_its_name(found):
    assert list(found["arms"]) == ["base", "bc", "bc+sr", "accepting", "random"]
    assert {arm["scored"] for arm in found["arms"].values()} == {6 * 2 * 2}
    assert (found["recipe"], found["seed"]) == ("recipe", 0)


def test_means_are_in_all_and_by_part(found):
    bc = found["arms"]["bc"]
    for part in ("family", "role", "partner"):
        groups = bc[f"by_{part}"]
        assert len(groups) == 2
        mean = sum(g["goal"]["mean"] * g["goal"]["count"] for g in groups.values()) / 24
        assert mean == pytest.approx(bc["goal"]["mean"])
    assert bc["goal"]["low"] <= bc["goal"]["mean"] <= bc["goal"]["high"]
    assert 0 <= bc["deals"]["mean"] <= 1
    assert bc["turns"]["mean"] <= 8


def test_arms_are_compared_with_the_base_the_floors_and_what_they_go_on_from(found):
    differences = found["differences"]
    assert set(differences) == {
        "bc - base",
        "bc - random",
        "bc - accepting",
        "bc+sr - base",
        "bc+sr - random",
        "bc+sr - accepting",
        "bc+sr - bc",
        "base - random",
        "base - accepting",
    }
    one = differences["bc - base"]
    assert one["pairs"] == 24
    arms = found["arms"]
    assert one["mean"] == pytest.approx(arms["bc"]["goal"]["mean"] - arms["base"]["goal"]["mean"])


def test_what_failed_or_is_unscored_is_counted_and_in_no_mean(tmp_path):
    episodes = play(tmp_path, "scripted/expert", TASKS[:2])
    goal = measures(episodes)["goal"]["mean"]
    broken = [
        episodes[0].model_copy(update={"key": "f", "ending": "failed", "error": "no answer"}),
        episodes[1].model_copy(
            update={"key": "u", "judgements": (Judgement(judge="gpt", scores={}, error="no"),)}
        ),
    ]
    told = measures([*episodes, *broken])
    assert (told["episodes"], told["scored"], told["failed"]) == (10, 8, 1)
    assert told["goal"]["mean"] == goal


def test_an_arm_without_a_scored_episode_is_named_and_no_error(tmp_path):
    play(tmp_path / "common/base/eval", "scripted/fair", TASKS[:1], judge="none")
    of_seed(
        "recipe", 0, tmp_path / "seed-0/report", {"common/base/eval": tmp_path / "common/base/eval"}
    )
    assert (
        "base               no scored episode of 4"
        in (tmp_path / "seed-0/report/report.txt").read_text()
    )
    assert gathered(tmp_path)["over_seeds"] == {"base": {"seeds": 0, "goal": None, "sd": None}}


def test_of_open_ended_tasks_there_are_no_deals():
    interval = {"mean": 5.0, "low": 4.0, "high": 6.0, "count": 2}
    arm = {"episodes": 2, "scored": 2, "goal": interval, "turns": interval}
    told = text({"recipe": "r", "seed": 0, "arms": {"base": arm}, "differences": {}})
    assert "deals" not in told
    assert "5.00 [4.00, 6.00]" in told


def test_a_single_task_has_no_interval(tmp_path):
    for step in ("common/base/eval", "seed-0/bc/eval"):
        play(tmp_path / step, "scripted/fair", TASKS[:1])
    inputs = {step: tmp_path / step for step in ("common/base/eval", "seed-0/bc/eval")}
    of_seed("recipe", 0, tmp_path, inputs)
    assert "+0.00 [-, -]" in (tmp_path / "report.txt").read_text()


def seed(folder, number, goal, report="report"):
    path = folder / f"seed-{number}" / report
    path.mkdir(parents=True)
    arms = {"base": {"goal": {"mean": 2.0}}, "bc": {"goal": {"mean": goal}}}
    summary = {"recipe": "r", "seed": number, "arms": arms, "differences": {}}
    (path / "report.json").write_text(json.dumps(summary))
    manifest = {"step": path.name, "seconds": 60 * number, "date": f"2026-01-0{number + 1}"}
    (path / "manifest.json").write_text(json.dumps({**manifest, "machine": "m", "versions": {}}))


def test_several_seeds_are_one_file_with_their_mean_and_spread(tmp_path):
    for number, goal in enumerate((3.0, 5.0)):
        seed(tmp_path, number, goal)
    seed(tmp_path, 2, 9.0, "report-all")
    (tmp_path / "seed-3").mkdir()  # not done yet
    found = gathered(tmp_path)
    assert found["over_seeds"]["bc"] == {"seeds": 2, "goal": 4.0, "sd": pytest.approx(2**0.5)}
    assert found["over_seeds"]["base"]["sd"] == 0
    assert found["minutes_of_steps_by_seed"] == {"0": 0.0, "1": 1.0}
    assert [each["seed"] for each in found["seeds"]] == [0, 1]
    assert [each["seed"] for each in gathered(tmp_path, "all")["seeds"]] == [2]


def test_there_is_nothing_to_gather_before_a_seed_is_done(tmp_path):
    with pytest.raises(ConfigError, match=r"no seed is done in .*seed-N/report/report\.json"):
        gathered(tmp_path)


def test_the_command_line_writes_what_it_gathered(tmp_path, monkeypatch, capsys, found, folders):
    report = tmp_path / "run" / "seed-0" / "report"
    report.mkdir(parents=True)
    (report / "report.json").write_text(json.dumps(found))
    out = tmp_path / "results" / "r.json"
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path / "run"), "--out", str(out)])
    main()
    written = json.loads(out.read_text())
    assert written["command"] == f"python -m baselines.report {tmp_path / 'run'} --out {out}"
    assert written["over_seeds"]["bc"]["seeds"] == 1
    assert "bc+sr" in capsys.readouterr().out


def test_seeds_of_another_day_stay_in_the_result(folders, tmp_path, monkeypatch):
    def gather(seed, settings, *options):
        """What a machine that has only this seed writes."""
        out = tmp_path / f"machine-{seed}"
        of_seed("recipe", seed, out / f"seed-{seed}/report", folders)
        manifest = {"settings": {**settings, "seed": seed}, "seconds": 60.0, "date": f"{seed}"}
        path = out / f"seed-{seed}/bc/train/manifest.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(manifest))
        argv = ["report", str(out), "--out", str(tmp_path / "result.json"), *options]
        monkeypatch.setattr(sys, "argv", argv)
        main()
        return json.loads((tmp_path / "result.json").read_text())

    gather(0, {"epochs": 1})
    both = gather(1, {"epochs": 1}, "--keep")
    assert [seed["seed"] for seed in both["seeds"]] == [0, 1]
    assert both["over_seeds"]["bc"]["seeds"] == 2
    assert set(both["steps"]) == {"seed-0/bc/train", "seed-1/bc/train"}
    assert both["minutes_of_steps_by_seed"] == {"0": 1.0, "1": 1.0}
    with pytest.raises(SystemExit):  # another recipe's seeds are not mixed in
        gather(2, {"epochs": 2}, "--keep")
    alone = gather(3, {"epochs": 2})
    assert [seed["seed"] for seed in alone["seeds"]] == [3]


RESULTS = sorted((Path(page.__file__).parent / "results").glob("*.json"))


@pytest.mark.parametrize("result", RESULTS, ids=lambda path: path.stem)
def test_a_committed_result_becomes_a_page(result, tmp_path, monkeypatch):
    """With all arms, though some, as a control, may be of one seed only."""
    pytest.importorskip("matplotlib", reason="the extra 'eval' is not installed")
    made = tmp_path / "page.html"
    monkeypatch.setattr("sys.argv", ["page", str(result), "--out", str(made)])
    page.main()
    text = made.read_text(encoding="utf-8")
    assert text.count("<figure>") >= 3
    for seed in json.loads(result.read_text(encoding="utf-8"))["seeds"]:
        assert f"<h2>Seed {seed['seed']}</h2>" in text
        assert all(arm in text for arm in seed["arms"])
