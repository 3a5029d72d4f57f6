"""What recipes have in common: making tasks, loading models, playing and measuring."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from baselines.recipe import Study, Tasks
from baselines.report import JOURNAL
from sotopia_gym import Agent, Rollout, Rules, Suite, benchmark, load_suite
from sotopia_gym.agents.prompts import PROMPTS
from sotopia_gym.episodes.schema import Episode, Usage
from sotopia_gym.episodes.store import latest
from sotopia_gym.errors import ConfigError
from sotopia_gym.files import write_whole
from sotopia_gym.llm.client import ClientOptions
from sotopia_gym.tasks.suites import build_family, save_suite

if TYPE_CHECKING:
    from sotopia_gym.agents.policy import PolicyAgent

SUITE: Final = "suite.json"
_TRIES: Final = 3
"""How often a player or judge that fails is tried before its failure is kept as a result."""

Folders = Mapping[str, Path]
Facts = Mapping[str, Any]


def make_tasks(tasks: Tasks, offset: int, split: str, folder: Path, _: Folders) -> Facts:
    """Write the suite of tasks to learn on, or to be measured on."""
    if tasks.suite is not None:
        suite = tasks.part_of(load_suite(tasks.suite))
    else:
        seeds = range(offset, offset + tasks.count)
        made = [build_family(name, split, seeds) for name in tasks.families]
        suite = Suite(name=f"recipe-{split}", version=1, tasks=[t for s in made for t in s.tasks])
    save_suite(suite, folder / SUITE)
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


def play(study: Study, suite: Suite, agent: str | Agent, journal: Path, **options: Any) -> Facts:
    """Play all episodes into a journal; those that failed or are unscored are tried again.

    Args:
        study: The rules, and who judges.
        suite: The tasks.
        agent: Who plays them; it is closed at the end.
        journal: Where episodes are kept.
        **options: Partners, repetitions and seed, as for :class:`~sotopia_gym.rollout.Rollout`.
    """
    try:
        for _ in range(_TRIES):
            run = Rollout(suite, agent, journal=journal, **_rules(study), **options)
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


def measure(study: Study, suite: Suite, agent: str | Agent, folder: Path) -> Facts:
    """Play the benchmark as :func:`play` does."""
    evaluation = study.evaluation
    try:
        for _ in range(_TRIES):
            result = benchmark.benchmark(
                suite,
                agent,
                evaluation.partners,
                repetitions=evaluation.repetitions,
                every_partner=evaluation.every_partner,
                seed=evaluation.seed,
                journal=folder / JOURNAL,
                **_rules(study),
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


def measure_floors(study: Study, folder: Path, inputs: Folders) -> Facts:
    """Measure other agents on the same episodes as the models, each in a folder by its name."""
    for name in study.evaluation.floors:
        label = re.sub(r"[^\w.-]+", "_", name.removeprefix("scripted/"))
        measure(study, suite_of(inputs), name, folder / label)
    return {}


def policy_of(study: Study, inputs: Folders, name: str) -> Agent:
    """The model among the inputs, ready to play as the study says; ``name`` is for episodes."""
    return load_policy(study, model_of(inputs), f"{study.name}/{name}")


def load_policy(study: Study, path: str, name: str) -> PolicyAgent:
    """A model, ready to play as the study says.

    Args:
        study: How it is asked, and sampled.
        path: Its folder, or its name on the hub.
        name: What episodes call it.
    """
    from sotopia_gym.agents.decoding import Sampling
    from sotopia_gym.agents.policy import PolicyAgent

    model = study.model
    policy = PolicyAgent.load(
        path,
        prompt=PROMPTS[model.prompt],
        guided=model.guided,
        name=name,
        dtype=model.dtype,
        exact=model.exact,
        max_batch=model.max_batch,
        cache_bytes=4 << 30,
        sampling=Sampling(model.temperature, model.top_p, model.max_tokens),
    )
    limit_context(policy, study)
    return policy


def limit_context(policy: PolicyAgent, study: Study) -> None:
    """Have a policy read no more than the study says."""
    if study.model.context is not None:
        policy.sampler.context = min(policy.sampler.context, study.model.context)


def suite_of(inputs: Folders) -> Suite:
    """The tasks among the inputs."""
    (path,) = (p / SUITE for p in inputs.values() if (p / SUITE).is_file())
    return load_suite(path)


def model_of(inputs: Folders) -> str:
    """The folder of the model among the inputs, or its name on the hub."""
    for path in inputs.values():
        if (path / "model").is_dir():
            return str(path / "model")
        if (path / "model.json").is_file():
            found = json.loads((path / "model.json").read_text(encoding="utf-8"))
            return str(found["model"])
    raise ConfigError(f"there is no model in {', '.join(map(str, inputs.values()))}.")


# --- inside


def _rules(study: Study) -> dict[str, Any]:
    return {
        "judge": study.judge,
        "rules": Rules(max_turns=study.max_turns),
        "concurrency": study.concurrency,
        "options": ClientOptions(max_concurrency=study.requests),
        "max_cost": study.judge_max_cost,
    }


def _stopped(why: str) -> str:
    return f"stopped: {why}. Run the same command again to go on."


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
