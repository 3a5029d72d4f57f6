"""Does training for social goals cost an agent its knowledge?

    python -m eval.knowledge --models base=FOLDER bc_sr=FOLDER --json FILE --html FILE
    python -m eval.knowledge --models base=... bc_sr=... --tasks mmlu --shots 5

The first model is the one before training: the others are compared with it question by question. A
model is a folder that save_pretrained wrote (of a model, or of an adapter), an embedded model
(local/smollm2-135m), or one behind an address (MODEL@http://HOST:PORT/v1). Such a server must give
the log-probabilities of the prompt's own tokens (/v1/completions with "echo" and "logprobs", and
prompts of token ids, as vLLM and SGLang do; chat endpoints and llama.cpp do not), and --tokenizer
names the folder of its tokenizer.

The tasks "small" are questions of our own that need no network; "mmlu" is MMLU as the
lm-evaluation harness has it, which fetches its data; any other multiple-choice task of the harness
goes by its name there. No chat template is used, as in MMLU.

What was answered is kept beside the JSON file until the run is complete, so that one which was
interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from eval import knowledge_page
from eval.commands import made_by, named, rounded
from eval.judging import Progress
from eval.knowledge_tasks import METRICS, QUESTIONS, formats, harness_tasks
from sotopia_gym.benchmark.comparison import holm
from sotopia_gym.benchmark.published import published_knowledge
from sotopia_gym.errors import ConfigError, ModelError, SotopiaGymError, missing_extra
from sotopia_gym.files import write_whole
from sotopia_gym.llm.client import KEY_VARIABLE, at_address

RESAMPLES: Final = 2000
BATCH: Final = 16

METHOD: Final = {
    "letters": "MMLU's prompt: choices are listed, the likeliest of the letters A to D is taken",
    "cloze": "choices are not listed; the text of the greatest log-likelihood for each of its "
    "characters is taken",
    "chat template": "none",
    "intervals": f"95 %, percentile bootstrap of {RESAMPLES} resamples; questions are the units, "
    "resampled within each subject (the subjects are fixed, not a sample)",
    "change": "accuracy less that of the first model on the same questions; p by McNemar's exact "
    "test of those that one of the two alone answers rightly; p_holm: after Holm's correction over "
    "all formats and numbers of examples of a model",
}

_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1"}
"""Environment of a run that needs nothing from the network, nor bars for tasks of seconds."""

Cell = Mapping[str, Sequence[int]]
"""Which questions of each subject were answered rightly, in their order: 1 or 0."""


# --- Asking


def answers(lm: Any, tasks: str, form: str, shots: int, *, seed: int, limit: int | None) -> Cell:
    """Which questions a model answers rightly.

    The harness's ``evaluate`` is called, not ``simple_evaluate`` around it, which asks the hub for
    the model and the operating system for all that is installed.

    Args:
        lm: A model of the harness.
        tasks: As for :func:`eval.knowledge_tasks.harness_tasks`, like ``form`` and ``shots``.
        form: The format.
        shots: How many solved examples precede each question.
        seed: Seed of the examples, where a task draws them.
        limit: Most questions of each subject; None for all.

    Raises:
        ConfigError: If the tasks are none of multiple choice, or cannot be had.
        MissingDependencyError: If the extra ``knowledge`` is not installed.
    """
    loaded = harness_tasks(tasks, form, shots, seed)
    from lm_eval import evaluate

    asked = evaluate(lm=lm, task_dict=loaded, limit=limit, bootstrap_iters=0, log_samples=True)
    metric = METRICS.get(form, "acc")
    found: dict[str, list[int]] = {}
    for task, samples in asked["samples"].items():
        for sample in sorted(samples, key=lambda each: each["doc_id"]):
            if sample.get(metric) not in (0, 1):
                raise ConfigError(
                    f"the task {task!r} is not one of multiple choice: expected right and wrong "
                    f"answers ({metric!r} 0 or 1), got {sample.get(metric)!r}."
                )
            found.setdefault(sample["doc"].get("subject", task), []).append(int(sample[metric]))
    return found


@contextmanager
def harness_model(spec: str, tokenizer: Path | None = None) -> Iterator[Any]:
    """A model as the harness takes it.

    Args:
        spec: A folder, an embedded model, or ``MODEL@http://HOST:PORT/v1``.
        tokenizer: Folder of the tokenizer of a model behind an address.

    Raises:
        ConfigError: If an address comes without a tokenizer.
        ModelError: If there is no such model, or a server does not offer what it must.
        MissingDependencyError: If the extra ``knowledge`` is not installed.
    """
    try:
        import torch
        from lm_eval.models.huggingface import HFLM

        from sotopia_gym.llm import convert
    except ImportError as error:
        package = (error.name or "lm-eval").partition(".")[0]
        raise missing_extra(package, "knowledge", "a test of knowledge") from error
    if served := at_address(spec):
        yield _behind_address(*served, tokenizer)
        return
    with tempfile.TemporaryDirectory() as made:
        embedded = spec.removeprefix("local/")
        folder = Path(spec) if embedded == spec else convert.to_hf(embedded, Path(made) / "model")
        model = convert.trained(folder).to("cuda" if torch.cuda.is_available() else "cpu")
        yield HFLM(pretrained=model, tokenizer=convert.tokenizer(folder), batch_size=BATCH)


def _behind_address(model: str, address: str, tokenizer: Path | None) -> Any:
    """A model behind an address, once its server has shown that it gives log-probabilities."""
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    if tokenizer is None:
        raise ConfigError(
            f"{model}@{address} needs --tokenizer FOLDER: likelihoods are asked for token by "
            "token, so that the tokens must be known here too."
        )
    url = f"{address}/completions"
    key = os.environ.get(KEY_VARIABLE)
    lm = LocalCompletionsAPI(
        model=model,
        base_url=url,
        tokenizer=str(tokenizer),
        tokenizer_backend="huggingface",
        header={"Authorization": f"Bearer {key}"} if key else {},
        max_length=8192,
    )
    ids = lm.tok_encode("The sky is blue.")
    needed = (
        f'expected an answer of POST {url} to prompts of token ids with "echo": true and '
        '"logprobs": 1 that holds the log-probability of each token of the prompt and of one more, '
        "as vLLM and SGLang give it"
    )
    try:
        told = lm.model_call([ids], generate=False)["choices"][0]["logprobs"]["token_logprobs"]
    except Exception as error:
        raise ModelError(
            f"{model}@{address} gives no log-probabilities: {needed}; it failed with "
            f"{type(error).__name__}: {error}. For a model on this machine, name its folder."
        ) from error
    if len(told) != len(ids) + 1 or None in told[1:]:
        raise ModelError(
            f"{model}@{address} gives other log-probabilities: {needed}; got {told!r}."
        )
    return lm


# --- Counting


def accuracy(cell: Cell, seed: int = 0) -> dict[str, float]:
    """The share of right answers, as ``value``, with its interval, ``low`` to ``high``."""
    return _stratified([np.asarray(marks, dtype=float) for marks in cell.values()], seed)


def change(cell: Cell, first: Cell, seed: int = 0) -> dict[str, Any]:
    """How a model differs from the first on the same questions.

    Args:
        cell: Its answers.
        first: The first model's answers to the same.
        seed: Seed of the bootstrap.

    Returns:
        The difference of accuracy with its interval; how many questions the model alone (``won``)
        and the first alone (``lost``) answers rightly; and the p of McNemar's exact test.
    """
    from scipy.stats import binomtest

    parts = [np.subtract(marks, first[subject], dtype=float) for subject, marks in cell.items()]
    together = np.concatenate(parts)
    won, lost = int((together > 0).sum()), int((together < 0).sum())
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return {**_stratified(parts, seed), "won": won, "lost": lost, "p": p}


def _stratified(strata: Sequence[np.ndarray[Any, Any]], seed: int) -> dict[str, float]:
    """A mean of all values, and its percentile bootstrap interval over resamples in each stratum.

    Efron and Tibshirani 1993, chapter 8.
    """
    rng = np.random.default_rng(seed)
    count = sum(len(values) for values in strata)
    sums = np.zeros(RESAMPLES)
    for values in strata:
        sums += values[rng.integers(len(values), size=(RESAMPLES, len(values)))].sum(axis=1)
    low, high = np.quantile(sums / count, [0.025, 0.975])
    mean = sum(values.sum() for values in strata) / count
    return {"value": float(mean), "low": float(low), "high": float(high)}


def gathered(cells: Mapping[tuple[str, str, int], Cell], seed: int) -> list[dict[str, Any]]:
    """What the answers say of each model, format and number of examples."""
    first = next(iter(cells))[0]
    found: list[dict[str, Any]] = [
        {
            "model": model,
            "format": form,
            "shots": shots,
            "questions": sum(map(len, cell.values())),
            "accuracy": accuracy(cell, seed),
            "change": None if model == first else change(cell, cells[first, form, shots], seed),
            "subjects": {subject: sum(marks) / len(marks) for subject, marks in cell.items()},
            "right": cell,
        }
        for (model, form, shots), cell in cells.items()
    ]
    for name in {model: None for model, _, _ in cells if model != first}:
        tested = [each["change"] for each in found if each["model"] == name]
        for of, p in zip(tested, holm([of["p"] for of in tested]), strict=True):
            of["p_holm"] = p
    return found


def text(found: Mapping[str, Any]) -> str:
    """The result as a table."""
    lines = [f"{'':28}{'right':22}change from the first model"]
    for cell in found["cells"]:
        name = f"{cell['model']}, {cell['format']}, {cell['shots']}-shot"
        right, moved = knowledge_page.percent(cell["accuracy"]), cell["change"]
        told = "" if moved is None else knowledge_page.moved(moved)
        lines.append(f"{name:28}{right:22}{told}".rstrip())
    lines.append(knowledge_page.NOTE)
    lines += [
        f"  {row['model']:26}{row['accuracy']:.1%} {row['test']}, {row['shots']}-shot"
        for row in found["published"]
    ]
    return "\n".join(lines)


# --- Command


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, print what came out, and write what is asked for."""
    options = _arguments(arguments)
    try:
        models = named("--models", "MODEL", options.models)
        if options.tasks == "small":
            # Read when the libraries are first imported, which is below.
            os.environ |= _OFFLINE
        found = _run(models, options)
        print(text(found))
        write_whole(options.json, [json.dumps(found, indent=1).encode() + b"\n"])
        if options.html is not None:
            write_whole(options.html, [knowledge_page.page(found).encode()])
        _progress_file(options).unlink()
    except (SotopiaGymError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(models: Mapping[str, str], options: argparse.Namespace) -> dict[str, Any]:
    shown = {name: _shown(spec) for name, spec in models.items()}
    about = {
        "models": shown,
        "files, sha256": {name: _digest(spec) for name, spec in models.items()},
        "tasks": options.tasks,
        "seed": options.seed,
        "limit": options.limit,
        "questions, sha256": hashlib.sha256(QUESTIONS.read_bytes()).hexdigest()
        if options.tasks == "small"
        else None,
    }
    wanted = [(form, shots) for form in formats(options.tasks) for shots in options.shots]
    progress = Progress(_progress_file(options), about)
    # The harness warns of each task that its data is not from the hub.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    for name, spec in models.items():
        left = [(f, s) for f, s in wanted if _id(name, f, s) not in progress.done]
        if not left:
            continue
        with harness_model(spec, options.tokenizer) as lm:
            for form, shots in left:
                right = answers(
                    lm, options.tasks, form, shots, seed=options.seed, limit=options.limit
                )
                progress.add({"id": _id(name, form, shots), "right": right})
                marks = [mark for each in right.values() for mark in each]
                print(f"{name}, {form}, {shots}-shot: {sum(marks)} of {len(marks)}", flush=True)
    cells = {
        (name, form, shots): progress.done[_id(name, form, shots)]["right"]
        for name in models
        for form, shots in wanted
    }
    return {
        **made_by(_command(shown, options)),
        "versions": {
            name: version(name) for name in ("sotopia-gym", "lm-eval", "torch", "transformers")
        },
        **about,
        "method": METHOD,
        "cells": rounded(gathered(cells, options.seed)),
        "published": [row.model_dump() for row in published_knowledge()],
    }


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.knowledge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=MODEL")
    parser.add_argument("--tasks", default="small", metavar="NAME", help="small, mmlu, or a name")
    parser.add_argument("--shots", nargs="+", type=int, default=[0, 5], metavar="N")
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="of models at addresses")
    parser.add_argument("--limit", type=int, metavar="N", help="questions of each subject")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap and drawn examples")
    parser.add_argument(
        "--json",
        "--out",
        type=Path,
        default=Path("eval/results/knowledge.json"),
        metavar="FILE",
        help="file for all numbers",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="file for a page")
    return parser.parse_args(arguments)


def _id(*parts: Hashable) -> str:
    return " ".join(map(str, parts))


def _progress_file(options: argparse.Namespace) -> Path:
    return Path(options.json).with_suffix(".partial.jsonl")


def _shown(spec: str) -> str:
    """A model's spec, of which a path says nothing of this machine."""
    if at_address(spec) is not None:  # which refuses credentials: this goes into a file
        return spec
    return Path(spec).name if Path(spec).is_absolute() else spec


def _digest(spec: str) -> str | None:
    """A hash of the files of a model's folder: folders of the same name hold other models."""
    if not Path(spec).is_dir():
        return None
    told = hashlib.sha256()
    for path in sorted(path for path in Path(spec).iterdir() if path.is_file()):
        with path.open("rb") as file:
            told.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return told.hexdigest()


def _command(models: Mapping[str, str], options: argparse.Namespace) -> str:
    words = ["python", "-m", "eval.knowledge"]
    words += ["--models", *(f"{name}={spec}" for name, spec in models.items())]
    words += ["--tasks", options.tasks, "--shots", *map(str, options.shots)]
    words += ["--limit", str(options.limit)] * (options.limit is not None)
    words += ["--seed", str(options.seed)]
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main())
