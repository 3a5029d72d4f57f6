"""One training job: ``python -m baselines.finetune JOB.json``, or under ``accelerate launch``.

The job names a model, a file of rows or pairs, a folder for the result, settings and a seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from sotopia_gym.files import write_whole
from sotopia_gym.integrations.trl import Pair, Settings, fine_tune, prefer
from sotopia_gym.training.rows import Row


class Job(BaseModel):
    """What is to be trained.

    Attributes:
        model: Folder or name of the model.
        data: File of rows, or of pairs: JSON Lines.
        out: Folder for the result.
        method: Which of the two.
        settings: How.
        seed: Seed of the order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    data: Path
    out: Path
    method: Literal["sft", "dpo"]
    settings: Settings
    seed: int

    def run(self) -> dict[str, Any]:
        """Train; see :func:`sotopia_gym.integrations.trl.fine_tune`."""
        if self.method == "sft":
            rows = list(read_rows(self.data))
            return fine_tune(self.model, rows, self.out, self.settings, seed=self.seed)
        lines = self.data.read_text(encoding="utf-8").splitlines()
        pairs = [Pair.model_validate_json(line) for line in lines]
        return prefer(self.model, pairs, self.out, self.settings, seed=self.seed)


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as JSON Lines: ``ids``, and ``own`` as the spans [begin, end) of the policy's."""
    write_whole(path, (json.dumps(_packed(row)).encode() + b"\n" for row in rows))


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file that :func:`write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            found = json.loads(line)
            mask = [False] * len(found["ids"])
            for begin, end in found["own"]:
                mask[begin:end] = [True] * (end - begin)
            yield Row(tuple(found["ids"]), tuple(mask))


def _packed(row: Row) -> dict[str, Any]:
    own: list[list[int]] = []
    for index, is_own in enumerate(row.mask):
        if is_own and own and own[-1][1] == index:
            own[-1][1] = index + 1
        elif is_own:
            own.append([index, index + 1])
    return {"ids": row.ids, "own": own}


def main() -> None:
    """Run the job that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m baselines.finetune", description=__doc__)
    parser.add_argument("job", type=Path)
    path = parser.parse_args().job
    Job.model_validate_json(path.read_text(encoding="utf-8")).run()


if __name__ == "__main__":
    main()
