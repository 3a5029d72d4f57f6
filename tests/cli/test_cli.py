"""The command line, as its user runs it."""

import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from sotopia_gym import Rollout, load_suite
from sotopia_gym.cli import app, main
from sotopia_gym.episodes.journal import Journal


def run(*arguments, **kwargs):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False, **kwargs)


def test_environments_suites_and_tasks_are_listed():
    assert "sotopia-hard-v0" in run("envs").stdout
    assert "starter v1: 120 tasks" in run("tasks", "list").stdout
    assert len(run("tasks", "list", "starter").stdout.splitlines()) == 120


def test_a_task_is_shown_as_each_character_sees_it():
    task = "price-v1-train-0"
    views = [run("tasks", "show", task, "--as", f"agent_{n}").stdout for n in (0, 1)]
    assert all(view.count("Your goal (private)") == 1 for view in views)
    assert views[0] != views[1]
    assert '"buyer_target"' in run("tasks", "show", task).stdout


def test_demo_plays_both_roles_and_keeps_every_episode(tmp_path):
    path = tmp_path / "demo.jsonl"
    arguments = ("--episodes", "4", "--agent", "scripted/generous", "--out", str(path))
    shown = run("demo", *arguments, env={"COLUMNS": "200"}).stdout
    episodes = list(Journal(path))
    assert len(episodes) == 4
    assert [e.agents["agent_0"] for e in episodes[:2]] == ["scripted/generous", "scripted/fair"]
    assert str(path) in shown
    assert "Turn 1:" in shown
    assert "scripted/generous" in shown.rsplit("Goal scores", 1)[1]


def test_a_person_plays_and_reads_the_verdict(tmp_path):
    path = tmp_path / "play.jsonl"
    lines = "Hello!\n/help\n/leave\n"
    shown = run("play", "--seed", "1", "--out", str(path), input=lines).stdout
    (episode,) = Journal(path)
    assert episode.agents["agent_0"] == "human"
    assert "Your goal score (outcome)" in shown


def test_end_of_input_loses_nothing_that_was_finished(tmp_path):
    path = tmp_path / "play.jsonl"
    lines = "/leave\nHello!\n"  # the second episode is cut off
    done = run("play", "--seed", "1", "--episodes", "3", "--out", str(path), input=lines)
    assert done.exit_code == 130
    assert "Interrupted after 1 of 3" in done.stdout
    assert len(list(Journal(path))) == 1


def test_interrupting_a_demo_loses_nothing_that_was_finished(tmp_path):
    path = tmp_path / "demo.jsonl"
    # What a shell runs in the background ignores interrupts, and so would its children.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heed}; from sotopia_gym.cli import main; main()"]
    arguments = ["demo", "--episodes", "100000", "--agent", "scripted/fair", "--out", str(path)]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(Journal(path))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"{len(list(Journal(path)))} episodes are in" in shown


def test_an_error_is_a_message_not_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sotopia-gym", "tasks", "show", "price-v1-train-999"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("error: suite 'starter' has no task")


@pytest.mark.parametrize("command", ["rollout", "benchmark"])
def test_an_engine_and_its_options_have_to_fit(command, tmp_path, monkeypatch, capsys):
    path = tmp_path / "j.jsonl"
    files = ("--journal" if command == "rollout" else "--episodes-out", str(path))
    words = (command, "--suite", "starter", "--agent", "scripted/fair", *files)

    def refused(*options):
        done = run(*words, *options, env={"COLUMNS": "200"})
        assert done.exit_code == 2
        return done.stderr

    assert "--engine must be local or ray, got 'dask'" in refused("--engine", "dask")
    told = refused("--ray-address", "auto", "--workers", "4", "--chunk", "9")
    assert "--ray-address, --workers, --chunk: only for --engine ray" in told
    assert "--workers" in refused("--engine", "ray", "--workers", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(
        sys, "argv", ["sotopia-gym", *words, "--judge", "outcome", "--engine", "ray"]
    )
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert "pip install 'sotopia-gym[ray]'" in capsys.readouterr().err
    assert not path.exists()


def test_an_episode_that_is_in_a_file_twice_is_shown_once_as_it_came_to_be(tmp_path):
    path, out = tmp_path / "j.jsonl", tmp_path / "r.html"
    tasks = load_suite("starter").tasks[:2]
    for judge in ("none", "outcome"):
        list(Rollout(tasks, "scripted/fair", judge=judge, journal=path))
    assert len(list(Journal(path))) == 4
    listed = run("episodes", "list", str(path)).stdout.splitlines()
    assert len(listed) == 2
    assert all("outcome: " in line for line in listed)
    assert "Judge: outcome" in run("episodes", "show", str(path), listed[0].split()[1]).stdout
    assert "2 episodes" in run("report", str(path), "--out", str(out)).stdout
