"""What the recipes of reinforcement learning have in common: steps, shuffled controls, reports.

A recipe starts from a model (``--model``, e.g. a behaviour-cloned one), trains it on its own
episodes, and measures both on the same held-out episodes. With ``--control`` the same is done with
the rewards of each batch shuffled among its episodes: whatever rises then is not due to rewards.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field

from baselines import report
from baselines.playing import (
    Facts,
    Folders,
    limit_context,
    make_tasks,
    measure,
    measure_floors,
    model_of,
    policy_of,
    suite_of,
)
from baselines.recipe import Study, load
from baselines.steps import Pipeline, Step, digest_of, outputs, step_command
from sotopia_gym import Rules
from sotopia_gym.agents.base import derive_seed
from sotopia_gym.agents.policy import PolicyAgent
from sotopia_gym.agents.prompts import PROMPTS
from sotopia_gym.errors import SotopiaGymError
from sotopia_gym.files import write_whole
from sotopia_gym.integrations.trl import BASE, MODEL, whole_model
from sotopia_gym.llm.convert import is_adapter
from sotopia_gym.training.hooks import Experience, RolloutSource
from sotopia_gym.training.rewards import Terminal
from sotopia_gym.training.trajectories import Trajectory

METRICS: Final = "metrics.json"


class Recipe(Study):
    """A run of reinforcement learning.

    Attributes:
        heldout_first: Seed of the first task to be measured on: settings that were chosen on some
            tasks are measured on others.
        partners: Whom the policy meets while it learns, one drawn for each group; none: itself.
        batch: Tasks in a batch.
        group: Episodes of each task and role that differ only in what the policy draws.
        iterations: Batches.
        temperature: Of sampling while it learns. Of being measured: see ``model``.
        save_every: Batches between checkpoints.
        max_kl: Nats an id from the start at which a run is stopped.
        training: Settings of the method.
    """

    heldout_first: int = Field(default=0, ge=0)
    partners: tuple[str, ...] = ()
    batch: int = Field(default=4, ge=1)
    group: int = Field(default=4, ge=2)
    iterations: int = Field(ge=1)
    temperature: float = Field(default=1.0, gt=0)
    save_every: int = Field(default=5, ge=1)
    max_kl: float | None = Field(default=None, gt=0)
    training: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What a method trains with.

    Attributes:
        recipe: The recipe.
        settings: The method's settings.
        model: Folder of the model to start from.
        source: Where batches come from; its policy samples a model that is loaded anew.
        folder: For ``model/``, checkpoints and history.
        seed: The seed.
        control: Whether rewards are to be shuffled.
    """

    recipe: Recipe
    settings: Any
    model: str
    source: RolloutSource
    folder: Path
    seed: int
    control: bool


Method = Callable[[Run], Sequence[Mapping[str, float]]]
"""Trains, writes ``model/`` into the run's folder, and returns the history."""


def shuffle(scores: Sequence[float], seed: int, iteration: int) -> list[float]:
    """The scores of a batch in another order."""
    order = list(scores)
    random.Random(derive_seed(seed, f"shuffle-{iteration}")).shuffle(order)
    return order


def shuffled(experience: Experience, seed: int) -> Experience:
    """The same episodes with each other's rewards, all of them at the end."""
    totals = shuffle(
        [each.total or 0.0 for each in experience.trajectories], seed, experience.iteration
    )
    chosen = zip(experience.trajectories, totals, strict=True)
    return replace(experience, trajectories=tuple(_with(each, total) for each, total in chosen))


def _with(trajectory: Trajectory, total: float) -> Trajectory:
    return replace(trajectory, rewards=(*(0.0,) * (len(trajectory.turns) - 1), total))


def adapters(model: Any, rank: int, seed: int) -> Any:
    """The model with adapters of a rank on all its linear layers, which alone are trained."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "adapters"))
        return get_peft_model(model, config)


# --- The steps


def start_from(model: str, folder: Path, _: Folders) -> Facts:
    """Take note of the model to start from."""
    path = str(Path(model).resolve()) if Path(model).is_dir() else model
    write_whole(folder / "model.json", [json.dumps({"model": path}).encode()])
    return {}


def train(
    name: str,
    method: Method,
    kind: type[BaseModel],
    recipe: Recipe,
    seed: int,
    control: bool,
    folder: Path,
    inputs: Folders,
) -> Facts:
    """Train the model on its own episodes."""
    from sotopia_gym.agents.decoding import Sampling

    # New adapters on one that was trained before would take its place.
    model = str(whole_model(model_of(inputs), folder))
    policy = PolicyAgent.load(
        model,
        prompt=PROMPTS[recipe.model.prompt],
        name=f"{recipe.name}/{name}",
        dtype=recipe.model.dtype,
        exact=recipe.model.exact,
        max_batch=recipe.model.max_batch,
        sampling=Sampling(recipe.temperature, max_tokens=recipe.model.max_tokens),
    )
    limit_context(policy, recipe)
    source = RolloutSource(
        policy,
        suite_of(inputs).tasks,
        recipe.partners,
        rewards=Terminal("goal"),
        judge=recipe.judge,
        batch=recipe.batch,
        group=recipe.group,
        seed=seed,
        rules=Rules(max_turns=recipe.max_turns),
        concurrency=recipe.concurrency,
    )
    settings = kind.model_validate(recipe.training.get(name, {}))
    try:
        history = method(Run(recipe, settings, model, source, folder, seed, control))
    finally:
        source.close()
        policy.close()
    if not is_adapter(folder / MODEL):
        shutil.rmtree(folder / BASE, ignore_errors=True)
    told = {"history": list(history)}
    write_whole(folder / METRICS, [json.dumps(told, indent=1).encode() + b"\n"])
    return {"iterations": len(history)}


def evaluate(recipe: Recipe, arm: str, folder: Path, inputs: Folders) -> Facts:
    """Measure a model on the held-out tasks, against the held-out partners."""
    return measure(recipe, suite_of(inputs), policy_of(recipe, inputs, arm), folder)


def pipeline(
    name: str,
    method: Method,
    kind: type[BaseModel],
    recipe: Recipe,
    model: str,
    seed: int,
    out: Path,
    *,
    control: bool = False,
) -> Pipeline:
    """The steps of one seed."""
    played = recipe.model.model_dump(mode="json")
    rules = {"judge": recipe.judge, "max_turns": recipe.max_turns, "threads": recipe.threads}
    measured = {**rules, **recipe.evaluation.model_dump(mode="json", exclude={"name"})}
    known = digest_of(outputs(Path(model))) if Path(model).is_dir() else model
    seeded, start = f"seed-{seed}", "common/start"
    steps = [
        Step(
            "common/heldout",
            partial(make_tasks, recipe.heldout, recipe.heldout_first, "heldout"),
            (),
            recipe.heldout.model_dump(mode="json") | {"first": recipe.heldout_first},
        ),
        Step(
            "common/floors",
            partial(measure_floors, recipe),
            ("common/heldout",),
            dict(measured),
        ),
        Step(f"{start}/model", partial(start_from, model), (), {"model": known}),
        Step(
            f"{seeded}/tasks",
            partial(make_tasks, recipe.train, seed * recipe.train.count, "train"),
            (),
            recipe.train.model_dump(mode="json") | {"seed": seed},
        ),
        Step(
            f"{start}/eval",
            partial(evaluate, recipe, "start"),
            ("common/heldout", f"{start}/model"),
            {**measured, "model": played},
        ),
    ]
    learned = recipe.model_dump(
        mode="json",
        exclude={"description", "heldout", "heldout_first", "evaluation", "training", "train"},
    ) | {"settings": recipe.training.get(name, {}), "seed": seed}
    evaluations = [f"{start}/eval"]
    for is_control in (False, True) if control else (False,):
        arm = f"{seeded}/{name}{report.CONTROL if is_control else ''}"
        steps += [
            Step(
                f"{arm}/train",
                partial(train, name, method, kind, recipe, seed, is_control),
                (f"{seeded}/tasks", f"{start}/model"),
                {**learned, "control": is_control},
            ),
            Step(
                f"{arm}/eval",
                partial(evaluate, recipe, arm.split("/")[1]),
                ("common/heldout", f"{arm}/train"),
                {**measured, "model": played},
            ),
        ]
        evaluations.append(f"{arm}/eval")
    steps.append(
        Step(
            f"{seeded}/report",
            partial(report.of_seed, recipe.name, seed, base="start"),
            (*evaluations, "common/floors"),
            {"arms": evaluations},
            remade=True,
        )
    )
    return Pipeline(steps, out)


# --- The command line


def main(
    name: str,
    method: Method,
    kind: type[BaseModel],
    arguments: Sequence[str] | None = None,
    *,
    config: str,
) -> int:
    """Run what the command line of a method says.

    Args:
        name: The method, also the name of its module and of its table of settings.
        method: How it trains.
        kind: What its settings are.
        arguments: The command line; None for that of the process.
        config: The recipe unless another is named.
    """
    options = _parser(name, config).parse_args(arguments)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        recipe = load(options.config, options.set, kind=Recipe)
        kind.model_validate(recipe.training.get(name, {}))
        out = options.out or Path("runs") / f"{recipe.name}-{name}"
        steps = pipeline(
            name, method, kind, recipe, options.model, options.seed, out, control=options.control
        )
        if options.only:
            os.environ["OMP_NUM_THREADS"] = str(recipe.threads)
            steps.run(steps.steps[options.only])
            return 0
        chosen = list(steps.steps.values())
        given = [f"--config={options.config}", f"--seed={options.seed}", f"--out={out}"]
        given += [f"--model={options.model}", *(["--control"] if options.control else [])]
        given += [f"--set={change}" for change in options.set]
        steps.run_all(
            chosen,
            lambda step: step_command(f"baselines.{name}", *given, f"--only={step.name}"),
            jobs=options.jobs,
            threads=recipe.threads,
            tell=lambda line: print(line, flush=True),
        )
    except (SotopiaGymError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print((out / chosen[-1].name / "report.txt").read_text(encoding="utf-8"))
    return 0


def _parser(name: str, config: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m baselines.{name}")
    parser.add_argument("--model", required=True, help="folder of the model to start from")
    parser.add_argument("--config", default=config, help="a recipe's name or file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder; by default runs/NAME-METHOD")
    parser.add_argument("--control", action="store_true", help="also train on shuffled rewards")
    parser.add_argument("--only", metavar="STEP", help="do this step here and now")
    parser.add_argument("--jobs", type=int, default=1, help="steps done at the same time")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser
