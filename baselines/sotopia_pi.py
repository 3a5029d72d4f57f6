"""SOTOPIA-pi (Wang et al. 2024): behaviour cloning, self-reinforcement, and both.

    python -m baselines.sotopia_pi                    # the small size, one seed
    python -m baselines.sotopia_pi --until bc/train   # the behaviour-cloned model alone
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
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from baselines import report
from baselines.estimate import Estimate, grounds, playing, training
from baselines.finetune import Job, write_rows
from baselines.recipe import Collection, Recipe, Stage, Tasks, load, stages_of
from baselines.report import JOURNAL
from baselines.steps import Pipeline, Step, step_command
from sotopia_gym import Agent, Rollout, Rules, Suite, benchmark, load_suite
from sotopia_gym.agents.prompts import PROMPTS
from sotopia_gym.episodes.schema import Episode, Usage
from sotopia_gym.episodes.store import latest
from sotopia_gym.errors import ConfigError, SotopiaGymError, did_you_mean
from sotopia_gym.files import write_whole
from sotopia_gym.llm.client import ClientOptions
from sotopia_gym.tasks.suites import build_family, save_suite
from sotopia_gym.training.filters import best_and_worst, from_config
from sotopia_gym.training.rows import Row, by_turn, packed
from sotopia_gym.training.selection import Selection, select
from sotopia_gym.training.sft import examples, first_difference, save_examples, silent, turns

_SUITE: Final = "suite.json"
_TRIES: Final = 3
"""How often a player or judge that fails is tried before its failure is kept as a result."""

Folders = Mapping[str, Path]
Facts = Mapping[str, Any]


# --- The steps


def make_tasks(tasks: Tasks, offset: int, split: str, folder: Path, _: Folders) -> Facts:
    """Write the suite of tasks to learn on, or to be measured on."""
    if tasks.suite is not None:
        suite = tasks.part_of(load_suite(tasks.suite))
    else:
        seeds = range(offset, offset + tasks.count)
        made = [build_family(name, split, seeds) for name in tasks.families]
        suite = Suite(name=f"recipe-{split}", version=1, tasks=[t for s in made for t in s.tasks])
    save_suite(suite, folder / _SUITE)
    return {"tasks": len(suite.tasks)}


def get_model(base: str, folder: Path, _: Folders) -> Facts:
    """Have the base model at hand as a folder of transformers, or by its name on the hub."""
    if base.startswith("local/"):
        from sotopia_gym.llm.convert import to_hf

        if not (folder / "model").is_dir():
            to_hf(base.removeprefix("local/"), folder / "model")
    else:
        write_whole(folder / "model.json", [json.dumps({"model": base}).encode()])
    return {}


def collect(
    recipe: Recipe, collection: Collection, seed: int, name: str, folder: Path, inputs: Folders
) -> Facts:
    """Play the episodes of a collection, by its own agent or by the model in ``inputs``."""
    suite = _some(_suite(inputs), collection, by_family=bool(recipe.train.families))
    agent = collection.agent or _policy(recipe, inputs, name)
    return _played(
        suite,
        agent,
        folder / JOURNAL,
        partners=collection.partners,
        judge=recipe.judge,
        repetitions=collection.repetitions,
        seed=seed,
        rules=Rules(max_turns=recipe.max_turns),
        concurrency=recipe.concurrency,
        options=_options(recipe),
        max_cost=recipe.judge_max_cost,
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
    template = _template(_model(inputs))
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
        model=_model(inputs),
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
    return _measured(recipe, _suite(inputs), _policy(recipe, inputs, arm), folder)


def measure_floors(recipe: Recipe, folder: Path, inputs: Folders) -> Facts:
    """Measure other agents on the same episodes as the models, each in a folder by its name."""
    for name in recipe.evaluation.floors:
        label = re.sub(r"[^\w.-]+", "_", name.removeprefix("scripted/"))
        _measured(recipe, _suite(inputs), name, folder / label)
    return {}


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


# --- Playing


def _played(suite: Suite, agent: str | Agent, journal: Path, **options: Any) -> Facts:
    """Play all episodes into a journal; those that failed or are unscored are tried again."""
    try:
        for _ in range(_TRIES):
            run = Rollout(suite, agent, journal=journal, **options)
            for _episode in run:
                pass
            progress = run.progress
            if progress.stopped_by is not None:
                raise RuntimeError(_stopped(progress.stopped_by))
            if not progress.failed and not progress.unscored:
                break
    finally:
        if isinstance(agent, Agent):
            agent.close()
    return {"episodes": _counts(latest(journal)), **_usage(latest(journal))}


def _measured(recipe: Recipe, suite: Suite, agent: str | Agent, folder: Path) -> Facts:
    """Play the benchmark; episodes that failed or are unscored are tried again."""
    evaluation = recipe.evaluation
    try:
        for _ in range(_TRIES):
            result = benchmark.benchmark(
                suite,
                agent,
                evaluation.partners,
                judge=recipe.judge,
                repetitions=evaluation.repetitions,
                every_partner=evaluation.every_partner,
                seed=evaluation.seed,
                rules=Rules(max_turns=recipe.max_turns),
                journal=folder / JOURNAL,
                options=_options(recipe),
                concurrency=recipe.concurrency,
                max_cost=recipe.judge_max_cost,
            )
            counts = result.counts
            if counts.stopped_by is not None:
                raise RuntimeError(_stopped(counts.stopped_by))
            if not counts.failed and not counts.unscored:
                break
    finally:
        if isinstance(agent, Agent):
            agent.close()
    result.save(folder / "result.json")
    return {"episodes": counts.model_dump(mode="json"), **_usage(latest(folder / JOURNAL))}


def _stopped(why: str) -> str:
    return f"stopped: {why}. Run the same command again to go on."


def _policy(recipe: Recipe, inputs: Folders, name: str) -> Agent:
    from sotopia_gym.agents.decoding import Sampling
    from sotopia_gym.agents.policy import PolicyAgent

    model = recipe.model
    policy = PolicyAgent.load(
        _model(inputs),
        prompt=PROMPTS[model.prompt],
        guided=model.guided,
        name=f"{recipe.name}/{name}",
        dtype=model.dtype,
        exact=model.exact,
        max_batch=model.max_batch,
        cache_bytes=4 << 30,
        sampling=Sampling(model.temperature, model.top_p, model.max_tokens),
    )
    if model.context is not None:
        policy.sampler.context = min(policy.sampler.context, model.context)
    return policy


def _options(recipe: Recipe) -> ClientOptions:
    return ClientOptions(max_concurrency=recipe.requests)


def _suite(inputs: Folders) -> Suite:
    (path,) = (p / _SUITE for p in inputs.values() if (p / _SUITE).is_file())
    return load_suite(path)


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


def _model(inputs: Folders) -> str:
    """The folder of the model among the inputs, or its name on the hub."""
    for path in inputs.values():
        if (path / "model").is_dir():
            return str(path / "model")
        if (path / "model.json").is_file():
            found = json.loads((path / "model.json").read_text(encoding="utf-8"))
            return str(found["model"])
    raise ConfigError(f"there is no model in {', '.join(map(str, inputs.values()))}.")


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


def _counts(episodes: Iterator[Episode]) -> dict[str, int]:
    found = {"complete": 0, "unscored": 0, "failed": 0}
    for episode in episodes:
        judgement = episode.judgement
        found["complete" if episode.complete else "failed"] += 1
        if episode.complete and (judgement is None or not judgement.scored):
            found["unscored"] += 1
    return found


def _usage(episodes: Iterator[Episode]) -> dict[str, Any]:
    total = Usage()
    for episode in episodes:
        for used in (*episode.usage.values(), *(j.usage for j in episode.judgements)):
            total += used
    return {"usage": total.model_dump(mode="json")}


# --- The command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says."""
    options = _parser().parse_args(arguments)
    # TRL tells its makers about every training, and waits for them where there is no network.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        recipe = load(options.config, options.set)
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
