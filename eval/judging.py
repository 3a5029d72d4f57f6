"""What studies of judges have in common: the judge, and what it has judged so far."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sotopia_gym.episodes.schema import Episode, Judgement
from sotopia_gym.errors import BudgetExceededError, JudgeError, ModelError
from sotopia_gym.files import write_whole
from sotopia_gym.judges import Judge, from_spec
from sotopia_gym.judges.llm import LLMJudge
from sotopia_gym.llm.chat import ChatModel, Completion, Message


def make_judge(
    spec: str, dimensions: Iterable[str] = ("goal",), draw: tuple[float, int] | None = None
) -> Judge:
    """The judge that ``spec`` names.

    Args:
        spec: As for :func:`sotopia_gym.judges.from_spec`.
        dimensions: What a language model is asked for; other judges give what they give.
        draw: Temperature and seed of a language model's answers; None for the judge's own.

    Raises:
        SystemExit: If it names no judge.
    """
    judge = from_spec(spec, dimensions=dimensions)
    if judge is None:
        raise SystemExit("there is nothing to measure without a judge.")
    if draw is not None and isinstance(judge, LLMJudge):
        judge.model = Drawing(judge.model, *draw)
    return judge


class Drawing(ChatModel):
    """A chat model that draws its answers, whatever it is asked to do.

    Args:
        model: The model.
        temperature: Above 0.
        seed: Seed of its answers.
    """

    def __init__(self, model: ChatModel, temperature: float, seed: int) -> None:
        self.name = model.name
        self._model, self._temperature, self._seed = model, temperature, seed

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        attempt: int = 0,
    ) -> Completion:
        return await self._model.complete(
            messages,
            schema=schema,
            temperature=self._temperature,
            seed=self._seed,
            max_tokens=max_tokens,
            attempt=attempt,
        )

    def close(self) -> None:
        self._model.close()


def judged(judge: Judge, episode: Episode) -> Judgement:
    """What the judge says of an episode; unscored with the cause where it fails.

    Raises:
        BudgetExceededError: If there is no money to judge it, which says nothing about it.
    """
    try:
        return judge.judge(episode)
    except BudgetExceededError:
        raise
    except (JudgeError, ModelError) as error:
        return Judgement(judge=judge.name, error=str(error))


class Progress:
    """Measurements on disk, one a line, so that an interrupted run can go on.

    Args:
        path: The file.
        about: What is measured; a file about anything else is refused.

    Attributes:
        path: The file.
        done: What was measured, by its id.
        failed: What failed, by its id: it is in ``done`` too, but not in the file, so that a run
            that goes on tries it again.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.done: dict[str, dict[str, Any]] = {}
        self.failed: set[str] = set()
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        # What was being written when the run stopped is measured again.
        whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
        if whole and whole[0] != about:
            raise SystemExit(f"{path} is of another run ({whole[0]}); move it away first.")
        self.done = {entry["id"]: entry for entry in whole[1:]}
        kept = [about, *self.done.values()]
        write_whole(path, [json.dumps(entry).encode() + b"\n" for entry in kept])

    def add(self, entry: dict[str, Any], *, failed: bool = False) -> None:
        """Keep one measurement, or note that it failed."""
        self.done[entry["id"]] = entry
        if failed:
            self.failed.add(entry["id"])
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Remove the file, unless something failed: then the same command tries that again."""
        if not self.failed:
            self.path.unlink()
            return
        print(
            f"{len(self.failed)} of {len(self.done)} measurements failed; the same command tries "
            f"them again (the others are kept in {self.path})."
        )
