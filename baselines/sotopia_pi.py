"""SOTOPIA-pi (Wang et al. 2024): behaviour cloning, self-reinforcement, and both.

    python -m baselines.sotopia_pi                    # the small size, one seed
    python -m baselines.sotopia_pi --until bc/train   # the behaviour-cloned model alone
    python -m baselines.sotopia_pi --quick            # every step once, in minutes
    python -m baselines.sotopia_pi --dry-run --config sotopia_pi_mistral_7b

Every step writes a folder below ``runs/NAME``: tasks -> episodes of the expert, or of the model
itself -> what is kept, as examples -> fine-tuning -> evaluation -> report. A step that is done is
skipped, one that was killed goes on. What is common to all seeds is in ``common``, the rest in
``seed-N``. ``--list`` names the steps, ``--only`` does one; each is a function here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from baselines import report
from baselines.estimate import Estimate, grounds, playing, training
from baselines.finetune import Job, write_rows
from baselines.playing import (
    Facts,
    Folders,
    get_model,
    make_tasks,
    measure,
    measure_floors,
    model_of,
    play,
    policy_of,
    suite_of,
)
from baselines.recipe import Collection, Recipe, Stage, load, stages_of
from baselines.report import JOURNAL
from baselines.steps import Pipeline, Step, step_command
from sotopia_gym import Suite
from sotopia_gym.agents.prompts import PROMPTS
from sotopia_gym.episodes.store import latest
from sotopia_gym.errors import ConfigError, SotopiaGymError, did_you_mean
from sotopia_gym.files import write_whole
from sotopia_gym.training.filters import best_and_worst, from_config
from sotopia_gym.training.rows import Row, by_turn, packed
from sotopia_gym.training.selection import Selection, select
from sotopia_gym.training.sft import examples, first_difference, save_examples, silent, turns

# --- The steps


def collect(
    recipe: Recipe, collection: Collection, seed: int, name: str, folder: Path, inputs: Folders
) -> Facts:
    """Play the episodes of a collection, by its own agent or by the model in ``inputs``."""
    suite = _some(suite_of(inputs), collection, by_family=bool(recipe.train.families))
    agent = collection.agent or policy_of(recipe, inputs, name)
    return play(
        recipe,
        suite,
        agent,
        folder / JOURNAL,
        partners=collection.partners,
        repetitions=collection.repetitions,
        seed=seed,
    )


def make_data(recipe: Recipe, stage: Stage, folder: Path, inputs: Folders) -> Facts:
    """Keep the best episodes, and write them as rows or pairs to train on, and as examples."""
    (journal,) = (path / JOURNAL for path in inputs.values() if (path / JOURNAL).is_file())
    filters = [from_config(settings) for settings in stage.filters]
    kept = select(latest(journal), filters, value=stage.value)
    write_whole(folder / "filter.json", [kept.report.model_dump_json(indent=1).encode()])
    write_whole(folder / "filter.txt", [str(kept.report).encode() + b"\n"])
    if stage.method == "dpo":
        return _write_pairs(recipe, stage, kept, folder)
    prompt = PROMPTS[recipe.model.prompt]
    save_examples(
        (
            example
            for found in kept.kept
            for example in examples(
                found.episode, found.role, prompt, silent_turns=stage.silent_turns
            )
        ),
        folder / "examples.jsonl",
    )
    template = _template(model_of(inputs))
    layout = packed if stage.layout == "packed" else by_turn
    rows: list[Row] = []
    for found in kept.kept:
        episode, role = found.episode, found.role
        read = turns(episode, role, template, prompt, most=stage.training.max_tokens)
        rows += layout(read, skip=() if stage.silent_turns else silent(episode, role))
    write_rows(rows, folder / "data.jsonl")
    return {
        "kept": len(kept.kept),
        "rows": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "trained_tokens": sum(row.trained for row in rows),
    }


def train(recipe: Recipe, stage: Stage, seed: int, folder: Path, inputs: Folders) -> Facts:
    """Fine-tune the parent model on the data."""
    (data,) = (path / "data.jsonl" for path in inputs.values() if (path / "data.jsonl").is_file())
    job = Job(
        model=model_of(inputs),
        data=data,
        out=folder,
        method=stage.method,
        settings=stage.training,
        seed=seed,
    )
    metrics = folder / "metrics.json"
    # It is written last: a run that was killed after it has no more to do.
    if not metrics.is_file():
        _run(job, recipe.launch)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    told = json.loads(metrics.read_text(encoding="utf-8"))
    return {key: value for key, value in told.items() if key != "history"}


def _run(job: Job, launch: Sequence[str]) -> None:
    """Train here, or in the processes that ``launch`` starts."""
    if not launch:
        job.run()
    else:
        path = job.out / ".job.json"
        write_whole(path, [job.model_dump_json().encode()])
        subprocess.run([*launch, "-m", "baselines.finetune", str(path)], check=True)


def evaluate(recipe: Recipe, arm: str, folder: Path, inputs: Folders) -> Facts:
    """Measure a model on the held-out tasks, against the held-out partners."""
    return measure(recipe, suite_of(inputs), policy_of(recipe, inputs, arm), folder)


# --- The recipe


def pipeline(recipe: Recipe, seed: int, out: Path) -> Pipeline:
    """The steps of one seed."""
    model = recipe.model.model_dump(mode="json")
    rules = {"judge": recipe.judge, "max_turns": recipe.max_turns, "threads": recipe.threads}
    heldout = recipe.heldout.model_dump(mode="json")
    name = recipe.evaluation.name
    of_evaluation = f"-{name}" if name else ""
    tested, floors = f"common/heldout{of_evaluation}", f"common/floors{of_evaluation}"
    steps = [
        Step(tested, partial(make_tasks, recipe.heldout, 0, "heldout"), (), heldout),
        Step(
            "common/model",
            partial(get_model, recipe.model.base),
            (),
            {"base": recipe.model.base},
        ),
    ]
    measured = {**rules, **recipe.evaluation.model_dump(mode="json", exclude={"name"})}
    if recipe.evaluation.floors:
        steps.append(
            Step(
                floors,
                partial(measure_floors, recipe),
                (tested,),
                dict(measured),
                playing(recipe, recipe.heldout, recipe.evaluation, recipe.evaluation.floors),
            )
        )
    seeded = f"seed-{seed}"
    train_tasks = recipe.train.model_dump(mode="json") | {"seed": seed}
    work = partial(make_tasks, recipe.train, seed * recipe.train.count, "train")
    steps.append(Step(f"{seeded}/tasks", work, (), train_tasks))

    def played(collection: Collection, name: str, parent: str | None) -> Step:
        settings = {**rules, **collection.model_dump(mode="json"), "seed": seed}
        needs = (f"{seeded}/tasks", *([parent] if parent else []))
        return Step(
            name,
            partial(collect, recipe, collection, seed, name.split("/")[1]),
            needs,
            {**settings, **({"model": model} if parent else {})},
            playing(recipe, recipe.train, collection, [collection.agent]),
        )

    for name, collection in recipe.collections.items():
        if collection.agent is not None:
            steps.append(played(collection, f"{seeded}/{name}", None))
    evaluations = []
    known: dict[str, str] = {"base": "common/model"}
    for arm in dict.fromkeys(["base", *recipe.arms]):
        parent, so_far = "base", list[str]()
        for stage_name in stages_of(arm):
            so_far.append(stage_name)
            node, stage = "+".join(so_far), recipe.stages[stage_name]
            if node not in known:
                collection = recipe.collections[stage.collection]
                source = f"{seeded}/{stage.collection}"
                if collection.agent is None:
                    # Two stages may learn from the same episodes of the same model.
                    source = f"{seeded}/{parent}.{stage.collection}"
                    if source not in {step.name for step in steps}:
                        steps.append(played(collection, source, known[parent]))
                settings = stage.model_dump(mode="json", exclude={"training"})
                fixed = {"prompt": recipe.model.prompt, "most": stage.training.max_tokens}
                data, trained = f"{seeded}/{node}/data", f"{seeded}/{node}/train"
                needs = (source, known[parent])
                make = partial(make_data, recipe, stage)
                steps.append(Step(data, make, needs, {**settings, **fixed}))
                steps.append(
                    Step(
                        trained,
                        partial(train, recipe, stage, seed),
                        (data, known[parent]),
                        stage.training.model_dump(mode="json") | {"seed": seed},
                        training(recipe, stage),
                    )
                )
                known[node] = trained
            parent = node
        if arm in recipe.arms:
            of = "common/base" if arm == "base" else f"{seeded}/{arm}"
            name = f"{of}/eval{of_evaluation}"
            steps.append(
                Step(
                    name,
                    partial(evaluate, recipe, arm),
                    (tested, known[arm]),
                    {**measured, "model": model},
                    playing(recipe, recipe.heldout, recipe.evaluation, [None]),
                )
            )
            evaluations.append(name)
    steps.append(
        Step(
            f"{seeded}/report{of_evaluation}",
            partial(report.of_seed, recipe.name, seed),
            (*evaluations, *([floors] if recipe.evaluation.floors else [])),
            {"arms": list(recipe.arms)},
            remade=True,
        )
    )
    return Pipeline(steps, out)


# --- Inside


def _some(suite: Suite, collection: Collection, *, by_family: bool) -> Suite:
    """The tasks of each family, or of the whole suite, that a collection plays."""
    skip, most = collection.skip or 0, collection.tasks
    if collection.skip is None and most is None:
        return suite
    seen: Counter[str] = Counter()
    chosen = []
    for task in suite.tasks:
        family = task.scenario.outcome.family if by_family and task.scenario.outcome else ""
        seen[family] += 1
        if seen[family] > skip and (most is None or seen[family] <= skip + most):
            chosen.append(task)
    fewest = min(seen.values(), default=0)
    if fewest < skip + (most or 1):
        raise ConfigError(
            f"the collection wants {most or 'all'} tasks of each family or suite after the first "
            f"{skip}, but there are {fewest}. Have more tasks made, or lower tasks or skip."
        )
    return Suite(name=suite.name, version=suite.version, tasks=tuple(chosen))


def _template(model: str) -> Any:
    from transformers import AutoTokenizer

    from sotopia_gym.agents.template import ChatTemplate

    return ChatTemplate(AutoTokenizer.from_pretrained(model))


def _write_pairs(recipe: Recipe, stage: Stage, kept: Selection, folder: Path) -> Facts:
    """Write, of each pair, the first turn in which the better and the worse episode part."""
    prompt = PROMPTS[recipe.model.prompt]
    found = best_and_worst(kept.kept, gap=stage.gap, per=("task", "role", "partner"))
    parted = [
        first_difference(pair.best.episode, pair.worst.episode, pair.best.role, prompt)
        for pair in found
    ]
    lines = [json.dumps(pair, ensure_ascii=False).encode() + b"\n" for pair in parted if pair]
    write_whole(folder / "data.jsonl", lines)
    return {"pairs": len(lines), "pairs_without_difference": len(parted) - len(lines)}


# --- The command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says."""
    options = _parser().parse_args(arguments)
    # TRL tells its makers about every training, and waits for them where there is no network.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        recipe: Recipe = load(options.config, options.set)
        out = options.out or Path("runs") / recipe.name
        steps = pipeline(recipe, options.seed, out)
        if options.only:
            # What is computed depends on it in the last bits; it counts until torch is imported.
            os.environ["OMP_NUM_THREADS"] = str(recipe.threads)
            steps.run(steps.steps[_full(steps, options.only)])
            return 0
        chosen = steps.up_to([_full(steps, options.until)])
        if options.list or options.dry_run:
            _print_plan(recipe, steps, chosen, with_estimates=options.dry_run)
            return 0
        given = [f"--config={options.config}", f"--seed={options.seed}", f"--out={out}"]
        given += [f"--set={change}" for change in options.set]
        steps.run_all(
            chosen,
            lambda step: step_command("baselines.sotopia_pi", *given, f"--only={step.name}"),
            jobs=options.jobs,
            threads=recipe.threads,
            tell=lambda line: print(line, flush=True),
        )
    except (SotopiaGymError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    last = out / chosen[-1].name / "report.txt"
    if last.is_file():
        print(last.read_text(encoding="utf-8"))
    return 0


def _full(steps: Pipeline, name: str | None) -> str:
    """The full name of a step that may be named without its seed; a stage means its training."""
    if name is None:
        return list(steps.steps)[-1]
    for full in steps.steps:
        short = full.partition("/")[2]
        if name in (full, short) or short == f"{name}/train":
            return full
    names = [*steps.steps, *(full.partition("/")[2] for full in steps.steps)]
    raise ConfigError(f"no step {name!r}. {did_you_mean(name, names)} --list names them all.")


def _print_plan(
    recipe: Recipe, steps: Pipeline, chosen: Sequence[Step], *, with_estimates: bool
) -> None:
    """Print the steps and, of those that are to be done, what they will take."""
    print(f"{recipe.name}: {recipe.description}")
    left = Estimate()
    for step in chosen:
        done = steps.done(step)
        told = f"{'done' if done else 'to do':6} {step.name:32}"
        if with_estimates and not done:
            left += step.plan
            told += str(step.plan)
        print(f"  {told.rstrip()}")
    if with_estimates:
        print(f"left, one step at a time: {str(left) or 'nothing'}")
        for line in grounds(recipe, left):
            print(textwrap.fill(line, 100))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m baselines.sotopia_pi",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="sotopia_pi_cpu", help="a recipe's name or file")
    parser.add_argument(
        "--quick",
        action="store_const",
        dest="config",
        const="sotopia_pi_quick",
        help="the same as --config sotopia_pi_quick: every step once, in minutes",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder; by default runs/NAME")
    parser.add_argument("--until", metavar="STEP", help="do no more than this needs, e.g. bc/train")
    parser.add_argument("--only", metavar="STEP", help="do this step here and now")
    parser.add_argument("--jobs", type=int, default=2, help="steps done at the same time")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--list", action="store_true", help="name the steps")
    parser.add_argument("--dry-run", action="store_true", help="print the plan")
    return parser


if __name__ == "__main__":
    sys.exit(main())
