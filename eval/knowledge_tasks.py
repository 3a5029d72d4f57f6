"""Questions of our own for the lm-evaluation harness, in MMLU's format, and MMLU itself.

Both formats ask the same questions (Hendrycks et al. 2021):

- ``letters`` is MMLU's: the choices are listed, and the likelihoods of "A" to "D" compared;
- ``cloze`` lists no choices, and compares the likelihoods of their texts, each divided by its
  number of characters. Models that are too small to point at a letter can do it above chance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sotopia_gym.errors import ConfigError, did_you_mean, missing_extra

QUESTIONS: Final = Path(__file__).parent / "data" / "knowledge" / "questions.jsonl"

METRICS: Final = {"letters": "acc", "cloze": "acc_norm"}
"""The harness's name of the accuracy of a format; of any other task it is ``acc``."""

OF_HARNESS: Final[Mapping[str, Mapping[str, str]]] = {
    "mmlu": {"letters": "mmlu", "cloze": "mmlu_continuation"}
}
"""The harness's own tasks that exist in several formats, format to name."""

_CHOICES: Final = "".join(
    f"{letter}. {{{{choices[{place}]}}}}\n" for place, letter in enumerate("ABCD")
)
_FORMATS: Final[Mapping[str, Mapping[str, Any]]] = {
    "letters": {
        "description": "The following are multiple choice questions (with answers) about {}.\n\n",
        "doc_to_text": "{{question.strip()}}\n" + _CHOICES + "Answer:",
        "doc_to_choice": list("ABCD"),
    },
    "cloze": {
        "description": "The following are questions (with answers) about {}.\n\n",
        "doc_to_text": "Question: {{question.strip()}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
    },
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question with four choices.

    Attributes:
        subject: One of MMLU's subjects, as MMLU writes it.
        split: ``"test"``, or ``"dev"`` for the examples of few-shot prompts, which are never asked.
        question: The question.
        choices: What can be answered.
        answer: Place of the right choice, from 0.
    """

    subject: str
    split: Literal["dev", "test"]
    question: str
    choices: tuple[str, ...]
    answer: int


def load_questions(path: Path = QUESTIONS) -> list[Question]:
    """The questions of a file, one JSON object a line."""
    raw = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Question(**{**each, "choices": tuple(each["choices"])}) for each in raw]


def formats(tasks: str) -> tuple[str, ...]:
    """The formats that tasks are asked in; those of a task with one format bear its name."""
    if tasks == "small":
        return tuple(_FORMATS)
    return tuple(OF_HARNESS.get(tasks, (tasks,)))


def harness_tasks(tasks: str, form: str, shots: int, seed: int) -> Mapping[str, Any]:
    """Tasks as the harness's ``evaluate`` takes them.

    Args:
        tasks: ``"small"`` for :data:`QUESTIONS`, else a name that the harness knows.
        form: One of :func:`formats`.
        shots: How many solved examples precede each question.
        seed: Seed of the examples, where a task draws them; those of MMLU and ours are fixed.

    Raises:
        ConfigError: If there is no such task, or its data is not to be had.
        MissingDependencyError: If the extra ``knowledge`` is not installed.
    """
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        package = (error.name or "lm-eval").partition(".")[0]
        raise missing_extra(package, "knowledge", "a test of knowledge") from error
    found: Mapping[str, Any]
    if tasks == "small":
        found = TaskManager(include_defaults=False).load(small_tasks(form, load_questions()))
    else:
        manager = TaskManager()
        name = OF_HARNESS.get(tasks, {}).get(form, tasks)
        if name not in manager.all_tasks:
            raise ConfigError(f"no tasks {name!r}. {did_you_mean(name, manager.all_tasks)}")
        try:
            found = manager.load([name])
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the data of the tasks {name!r} could not be loaded: {error}. It is fetched from "
                "the Hugging Face hub, or read from its cache on this machine; the tasks 'small' "
                "need neither."
            ) from error
    for task in found["tasks"].values():
        task.set_config(key="num_fewshot", value=shots)
        task.set_fewshot_seed(seed=seed)
    return found


def small_tasks(form: str, questions: Sequence[Question]) -> list[dict[str, Any]]:
    """A task of the harness for each subject, by the layout of its own MMLU.

    Args:
        form: ``"letters"`` or ``"cloze"``.
        questions: The questions of all subjects.
    """
    layout = _FORMATS[form]
    return [
        {
            **layout,
            "task": f"{subject}_{form}",
            "description": layout["description"].format(subject.replace("_", " ")),
            "custom_dataset": _Data([each for each in questions if each.subject == subject]),
            "output_type": "multiple_choice",
            "test_split": "test",
            "fewshot_split": "dev",
            "fewshot_config": {"sampler": "first_n"},
            "doc_to_target": "answer",
            "metric_list": [
                {"metric": METRICS[form], "aggregation": "mean", "higher_is_better": True}
            ],
        }
        for subject in dict.fromkeys(each.subject for each in questions)
    ]


class _Data:
    """What the harness calls for its data: made here, so that no cache of a library is involved."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions

    def __call__(self, **_: Any) -> Any:
        from datasets import Dataset, DatasetDict

        return DatasetDict(
            {
                split: Dataset.from_list(
                    [
                        {
                            "subject": each.subject,
                            "question": each.question,
                            "choices": list(each.choices),
                            "answer": each.answer,
                        }
                        for each in self._questions
                        if each.split == split
                    ]
                )
                for split in ("dev", "test")
            }
        )
