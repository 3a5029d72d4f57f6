"""``sotopia-gym tasks``: building, generating and comparing suites."""

import json

import pytest
from typer.testing import CliRunner

from sotopia_gym import load_suite
from sotopia_gym.cli import app
from sotopia_gym.errors import ConfigError
from sotopia_gym.tasks.suites import BUILT_IN, build_family, save_suite
from tests.canned import Canned


def run(*arguments, **kwargs):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False, **kwargs)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_suite_is_listed_and_its_tasks_are_shown_to_each(name):
    suite = load_suite(name)
    assert f"{name} v1: {len(suite)} tasks" in run("tasks", "list").stdout
    task = suite.tasks[-1]
    assert task.task_id in run("tasks", "list", name).stdout
    views = {
        agent: run("tasks", "show", task.task_id, "--suite", name, "--as", agent).stdout
        for agent in task.agents
    }
    assert len(set(views.values())) == len(task.agents)
    for agent, view in views.items():
        assert f"{task.names[agent]} (you)" in view
    assert json.loads(run("tasks", "show", task.task_id, "--suite", name).stdout)["task_id"]


def test_a_suite_of_one_family_is_built(tmp_path):
    out = tmp_path / "dilemmas.json"
    assert run("tasks", "build", "dilemma", "--count", 4, "--first", 2, "--out", out).exit_code == 0
    assert [t.task_id for t in load_suite(out)] == [f"dilemma-v1-train-{n}" for n in (2, 3, 4, 5)]
    assert len(run("tasks", "list", out).stdout.splitlines()) == 4


def test_contamination_is_found_and_told_by_the_exit_status(tmp_path):
    own = save_suite(build_family("price", "train", range(3)), tmp_path / "own.json")
    same = run("tasks", "contamination", own, "--against", "starter")
    assert same.exit_code == 1
    assert "3 of 3 scenarios are contaminated" in same.stdout
    other = run("tasks", "contamination", own, "--against", "open")
    assert other.exit_code == 0
    assert "0 of 3" in other.stdout


def test_ground_truth_of_a_suite_is_listed():
    told = run("tasks", "ground-truth", "families").stdout
    assert "210 of 210 scenarios state their ground truth" in told
    assert '"friend"' in told
    listed = run("tasks", "ground-truth", "open", "--json").stdout.splitlines()
    rows = [json.loads(line) for line in listed]
    assert len(rows) == 72
    assert all(row["outcome"] is None and row["missing"] for row in rows)


@pytest.fixture
def writer(monkeypatch):
    """A model that writes one good scenario, and otherwise nothing of use."""
    good = {
        "codename": "the ladder",
        "context": "At the fence between two gardens, one wants to borrow a ladder for the week.",
        "first_goal": "Borrow the ladder until Sunday without leaving a deposit for it.",
        "second_goal": "Get it back by Friday at noon, and have the gutter cleaned in return.",
        "relationship": "know_by_name",
        "first_person": {"min_age": 18, "max_age": 80, "occupations": []},
        "second_person": {"min_age": 18, "max_age": 80, "occupations": []},
    }
    model = Canned(json.dumps(good), "no", json.dumps(good), "no")
    monkeypatch.setattr("sotopia_gym.llm.spec.chat_model", lambda spec, options: model)
    return model


def test_tasks_are_generated_kept_and_reported(tmp_path, writer):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("borrowing a ladder\nbreaking a vase\n")
    out = tmp_path / "new.json"
    arguments = ("tasks", "generate", prompts, "--out", out, "--pairs", 2, "--known", "starter")
    told = run(*arguments).stdout
    assert "accepted: 1" in told
    assert "rejected 1: the answer is no JSON object" in told
    assert "rejected 1: a scenario like it is known" in told
    assert f"2 tasks -> {out}" in told
    suite = load_suite(out)
    assert len(suite) == 2
    assert (tmp_path / "new.attempts.jsonl").read_text().count("\n") == len(writer.asked) == 3
    again = run(*arguments).stdout
    assert len(writer.asked) == 3
    assert load_suite(out) == suite
    assert "accepted: 1" in again


def test_where_nothing_is_of_use_no_suite_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("sotopia_gym.llm.spec.chat_model", lambda spec, options: Canned("no"))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("breaking a vase\n")
    result = run("tasks", "generate", prompts, "--out", tmp_path / "new.json")
    assert result.exit_code == 1
    assert "nothing was accepted" in result.stdout
    assert not (tmp_path / "new.json").exists()
    with pytest.raises(ConfigError, match=r"ends in \.json"):
        run("tasks", "generate", prompts, "--out", tmp_path / "new.txt")
