"""Steps: done once, gone on with after a kill, refused with other settings, run in order."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from baselines.estimate import Estimate
from baselines.steps import MANIFEST, Pipeline, Step, digest_of
from sotopia_gym.errors import ConfigError

ROOT = Path(__file__).parents[2]


def writes(text, calls=None):
    """Work that writes a file of this text, with what its inputs hold."""

    def work(folder, inputs):
        if calls is not None:
            calls.append(folder.name)
        read = [(path / "out.txt").read_text() for path in inputs.values()]
        (folder / "out.txt").write_text("".join([*read, text]))
        return {"letters": len(text)}

    return work


def chain(folder, *, settings=None, text="a", calls=None):
    return Pipeline(
        [
            Step("one", writes(text, calls), (), settings or {"size": 1}),
            Step("two", writes("b", calls), ("one",)),
        ],
        folder,
    )


def run(pipeline, *names):
    return [pipeline.run(pipeline.steps[name]) for name in names]


def test_a_step_is_done_once(tmp_path):
    calls = []
    assert run(chain(tmp_path, calls=calls), "one", "two") == [True, True]
    assert run(chain(tmp_path, calls=calls), "one", "two") == [False, False]
    assert calls == ["one", "two"]
    assert (tmp_path / "two" / "out.txt").read_text() == "ab"


def test_a_manifest_says_what_went_in_and_what_came_out(tmp_path):
    pipeline = chain(tmp_path)
    run(pipeline, "one", "two")
    (tmp_path / "one" / "log.txt").write_text("not an output")
    one, two = pipeline.manifest("one"), pipeline.manifest("two")
    assert one["settings"] == {"size": 1}
    assert one["letters"] == 1
    assert list(one["outputs"]) == ["out.txt"]
    assert two["inputs"] == {"one": digest_of(one["outputs"])}
    assert two["seconds"] >= 0
    assert two["date"].endswith("+00:00")
    assert "cores" in two["machine"]
    assert two["versions"]["numpy"]
    assert json.loads((tmp_path / "two" / MANIFEST).read_text())["step"] == "two"


def test_logs_for_tensorboard_and_hidden_files_are_no_outputs(tmp_path):
    def work(folder, _):
        for name in ("tensorboard/events", ".hidden", "model/weights"):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("x")
        return {}

    pipeline = Pipeline([Step("one", work)], tmp_path)
    run(pipeline, "one")
    assert list(pipeline.manifest("one")["outputs"]) == ["model/weights"]


def test_other_settings_are_refused_and_named(tmp_path):
    run(chain(tmp_path), "one")
    pipeline = chain(tmp_path, settings={"size": 2, "more": True})
    with pytest.raises(ConfigError, match=r"one was made with another settings 'more', settings"):
        run(pipeline, "one")


def test_a_setting_that_did_not_exist_is_as_good_as_none(tmp_path):
    run(chain(tmp_path), "one")
    assert run(chain(tmp_path, settings={"size": 1, "new": None}), "one") == [False]


def test_other_inputs_are_refused_and_named(tmp_path):
    run(chain(tmp_path), "one", "two")
    (tmp_path / "one" / MANIFEST).unlink()
    run(chain(tmp_path, text="c"), "one")
    with pytest.raises(ConfigError, match=r"two was made with another inputs 'one'.*--out"):
        run(chain(tmp_path), "two")


def test_what_is_needed_must_be_done(tmp_path):
    with pytest.raises(ConfigError, match="step two needs one, which is not done"):
        run(chain(tmp_path), "two")


def test_what_costs_nothing_is_made_anew(tmp_path):
    calls = []

    def pipeline(arms):
        step = Step("report", writes("r", calls), (), {"arms": arms}, remade=True)
        return Pipeline([step], tmp_path)

    assert run(pipeline(["a"]), "report") == [True]
    assert run(pipeline(["a", "b"]), "report") == [True]
    assert run(pipeline(["a", "b"]), "report") == [False]
    assert pipeline([]).manifest("report")["settings"] == {"arms": ["a", "b"]}


def test_a_step_that_broke_goes_on_in_its_folder_with_the_same_settings_only(tmp_path):
    def work(folder, _):
        with (folder / "tries.txt").open("a") as file:
            file.write("x")
        if (folder / "tries.txt").stat().st_size < 2:
            raise OSError("no space left")
        return {}

    def pipeline(size):
        return Pipeline([Step("one", work, (), {"size": size})], tmp_path)

    with pytest.raises(OSError, match="no space"):
        run(pipeline(1), "one")
    assert pipeline(1).manifest("one") is None
    # What it has done so far would be mixed with what it does now.
    with pytest.raises(ConfigError, match="another settings 'size'"):
        run(pipeline(2), "one")
    assert run(pipeline(1), "one") == [True]
    assert (tmp_path / "one" / "tries.txt").read_text() == "xx"


def test_two_who_need_the_same_step_do_it_once(tmp_path):
    calls, go = [], threading.Event()

    def slow(folder, inputs):
        go.wait(10)
        return writes("a", calls)(folder, inputs)

    pipeline = Pipeline([Step("one", slow)], tmp_path)
    threads = [threading.Thread(target=run, args=(pipeline, "one")) for _ in range(2)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert calls == ["one"]


def test_a_step_needs_those_before_it():
    with pytest.raises(ConfigError, match="step two needs one, which does not come before"):
        Pipeline([Step("two", writes(""), ("one",))], Path())


def test_up_to_names_all_that_is_needed_in_order(tmp_path):
    pipeline = Pipeline(
        [
            Step("a", writes("")),
            Step("b", writes("")),
            Step("c", writes(""), ("a",)),
            Step("d", writes(""), ("c",)),
        ],
        tmp_path,
    )
    assert [step.name for step in pipeline.up_to(["d"])] == ["a", "c", "d"]
    with pytest.raises(ConfigError, match=r"no step 'e'; the steps are a, b, c, d"):
        pipeline.up_to(["e"])


# --- Each step in a process of its own

PROGRAM = """
import os, sys
from pathlib import Path
from baselines.steps import Pipeline, Step

def work(folder, inputs):
    if folder.name == os.environ.get("BREAKS"):
        raise OSError("it broke")
    (folder / "out.txt").write_text(os.environ["OMP_NUM_THREADS"])
    return {}

pipeline = Pipeline(
    [
        Step("left", work),
        Step("right", work),
        Step("end", work, ("left", "right")),
    ],
    Path(sys.argv[1]),
)
if __name__ == "__main__":
    pipeline.run(pipeline.steps[sys.argv[2]])
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A pipeline and the command that does one of its steps."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys, "argv", ["program.py", str(tmp_path / "run")])
    names = {}
    exec(compile(PROGRAM, "program.py", "exec"), names)
    return names["pipeline"], lambda step: [sys.executable, program, tmp_path / "run", step.name]


def run_all(pipeline, command, jobs=2):
    told = []
    steps = list(pipeline.steps.values())
    pipeline.run_all(steps, command, jobs=jobs, threads=3, tell=told.append)
    return told


def begun(told):
    return [line.removesuffix(": begins") for line in told if line.endswith(": begins")]


def test_steps_run_in_order_and_as_many_at_once_as_may(parts):
    pipeline, command = parts
    told = run_all(pipeline, command)
    assert told[:2] == ["left: begins", "right: begins"]
    assert begun(told) == ["left", "right", "end"]
    assert told[-1].startswith("end: done in ")
    assert all(pipeline.manifest(name) for name in pipeline.steps)
    assert (pipeline.folder / "end" / "out.txt").read_text() == "3"  # threads
    assert run_all(pipeline, command) == []


def test_what_most_has_to_wait_for_begins_first(parts):
    pipeline, command = parts
    plan = {"left": 5, "right": 10, "end": 1}
    for name, seconds in plan.items():
        step = pipeline.steps[name]
        pipeline.steps[name] = dataclasses.replace(step, plan=Estimate(seconds=seconds))
    assert begun(run_all(pipeline, command, jobs=1)) == ["right", "left", "end"]


def test_a_step_that_failed_names_its_log_and_what_was_done_is_kept(parts, monkeypatch):
    pipeline, command = parts
    monkeypatch.setenv("BREAKS", "right")
    with pytest.raises(RuntimeError, match=r"step right failed with exit code 1; its log is ") as e:
        run_all(pipeline, command, jobs=1)
    log = Path(str(e.value).split("its log is ")[1].split(". Run the same")[0])
    assert "it broke" in log.read_text()
    assert pipeline.manifest("left")  # one at a time, and it came first
    monkeypatch.delenv("BREAKS")
    assert begun(run_all(pipeline, command)) == ["right", "end"]


def test_steps_do_not_outlive_a_run_that_is_terminated(parts, tmp_path):
    script = f"""
        import signal, sys
        sys.argv = ["x", {str(tmp_path / "run")!r}]
        from program import pipeline
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        sleeper = "import os,time; print(os.getpid(), flush=True); time.sleep(60)"
        pipeline.run_all(
            [pipeline.steps["left"]], lambda step: [sys.executable, "-c", sleeper],
            jobs=1, threads=1, tell=print,
        )
    """
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, env=environment
    )
    log = tmp_path / "run" / "left" / "log.txt"
    while not (log.is_file() and log.read_text().endswith("\n")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)
