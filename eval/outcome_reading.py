"""How well outcomes are read from what people typed, against what they then agreed on.

    python -m eval.outcome_reading --format craigslist FILE [--reader rules] [--json]
    python -m eval.outcome_reading --all FOLDER

FILE holds human-human negotiations, one JSON record a line: CraigslistBargain (He et al. 2018),
CaSiNo (Chawla et al. 2021), Deal or No Deal (Lewis et al. 2017) or PersuasionForGood (Wang et al.
2019). A reader sees what was typed and what both sides know; all that was clicked is hidden, and
so are private targets and values. ``--all`` measures every file in FOLDER and writes the results.

coverage = verdicts / n, where a verdict is anything but "unread"; precision = right verdicts /
verdicts, where right is the same price to the cent, both shares, or no agreement where there was
none. In PersuasionForGood the donation recorded afterwards often differs from what was said, so
that precision is against labels of what was said; unlabelled dialogues count in coverage alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from eval.commands import made_by
from sotopia_gym.errors import SotopiaGymError
from sotopia_gym.files import write_whole
from sotopia_gym.outcomes import OutcomeReader, Said, from_spec
from sotopia_gym.stats import mean_interval
from sotopia_gym.tasks.families import Outcome
from sotopia_gym.tasks.families.division import DivisionSpec, Item
from sotopia_gym.tasks.families.donation import DonationSpec
from sotopia_gym.tasks.families.price import PriceSpec
from sotopia_gym.tasks.schema import OutcomeSpec

LABELS = Path(__file__).parent / "persuasion_said.json"
RESULTS = Path("eval/results/outcome_reading.json")
CLICKED = frozenset(("Submit-Deal", "Accept-Deal", "Reject-Deal", "Walk-Away"))
SELECTION = "<selection>"
# What is private is not in the records' specs at all; the models of the families need a number.
PRIVATE = 1.0

Truth = Literal["agreed", "none", "unclear"]
READ = ("right terms", "wrong terms", "no agreement", "unread")


class RecordError(Exception):
    """A file holds something else than records of the format; the message names the line."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation of people.

    Attributes:
        id: Its id in the data set.
        spec: What is public of it; private numbers are placeholders.
        said: What was typed.
        truth: Whether they agreed; None if that is not known.
        terms: What they agreed on.
        cluster: Equal for records of one and the same conversation.
        donated: What was donated afterwards, in dollars, where that is recorded.
    """

    id: str
    spec: OutcomeSpec
    said: tuple[Said, ...]
    truth: Truth | None
    terms: Mapping[str, Any]
    cluster: Hashable
    donated: float | None = None


# --- records --------------------------------------------------------------------------------


class _CraigslistEvent(BaseModel):
    role: Literal["buyer", "seller"]
    action: str
    data: Any = None

    @model_validator(mode="after")
    def _words(self) -> _CraigslistEvent:
        if self.action == "message" and not isinstance(self.data, str):
            raise ValueError("the data of a message must be its text")
        return self


class _CraigslistOutcome(BaseModel):
    deal: bool
    price: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _complete(self) -> _CraigslistOutcome:
        if self.deal and self.price is None:
            raise ValueError("a deal must have a price")
        return self


class _Craigslist(BaseModel):
    id: str
    list_price: float | None = Field(default=None, allow_inf_nan=False)
    events: list[_CraigslistEvent]
    outcome: _CraigslistOutcome

    def dialogue(self) -> Dialogue:
        asking = self.list_price if self.list_price and self.list_price > 0 else None
        spec = PriceSpec(
            buyer="buyer",
            seller="seller",
            buyer_target=PRIVATE,
            seller_target=PRIVATE,
            listing=asking,
        )
        said = (Said(e.role, e.data) for e in self.events if e.action == "message")
        return Dialogue(
            self.id,
            OutcomeSpec.model_validate(spec.model_dump()),
            tuple(said),
            "agreed" if self.outcome.deal else "none",
            {"price": self.outcome.price} if self.outcome.deal else {},
            self.id,
        )


class _CasinoTurn(BaseModel):
    agent: str
    text: str


class _CasinoOutcome(BaseModel):
    agreed: bool
    split: dict[str, dict[str, int]] | None = None


class _Casino(BaseModel):
    id: str = Field(coerce_numbers_to_str=True)
    turns: list[_CasinoTurn]
    prefs: dict[str, dict[str, str]] = Field(min_length=2, max_length=2)
    outcome: _CasinoOutcome

    def dialogue(self) -> Dialogue:
        names = sorted(next(iter(self.prefs.values())).values())
        parties = sorted(self.prefs)
        split = self.outcome.split if self.outcome.agreed else None
        if self.outcome.agreed and split is None:
            raise ValueError("an agreement must have a split")
        return Dialogue(
            self.id,
            _division(parties, [(name.lower(), name.lower(), 3) for name in names]),
            tuple(Said(t.agent, t.text) for t in self.turns if t.text.strip() not in CLICKED),
            "agreed" if split else "none",
            {"shares": {p: [split[p][name] for name in names] for p in parties}} if split else {},
            self.id,
        )


class _DealOutcome(BaseModel):
    agreed: bool
    you: list[int] | None = None
    them: list[int] | None = None

    @model_validator(mode="after")
    def _complete(self) -> _DealOutcome:
        if self.agreed and (self.you is None or self.them is None):
            raise ValueError("an agreement must have the shares of both")
        return self


class _DealOrNoDeal(BaseModel):
    id: str = Field(coerce_numbers_to_str=True)
    items: list[str]
    counts: list[int]
    turns: list[str]
    outcome: _DealOutcome

    def dialogue(self) -> Dialogue:
        said = []
        for turn in self.turns:
            who, colon, words = turn.partition(":")
            if not colon or who not in ("YOU", "THEM"):
                raise ValueError(f"a turn must begin with 'YOU:' or 'THEM:', got {turn[:40]!r}")
            if words.strip() != SELECTION:
                said.append(Said(who, words.strip()))
        swapped = tuple(("THEM" if s.agent == "YOU" else "YOU", s.text) for s in said)
        shares = {"YOU": self.outcome.you, "THEM": self.outcome.them}
        kinds = zip(self.items, self.counts, strict=True)
        return Dialogue(
            self.id,
            _division(("YOU", "THEM"), [(name, f"{name}s", count) for name, count in kinds]),
            tuple(said),
            "agreed" if self.outcome.agreed else "none",
            {"shares": shares} if self.outcome.agreed else {},
            # Each conversation is recorded twice, once from each side.
            (*self.counts, *min(swapped, tuple((s.agent, s.text) for s in said))),
        )


class _PersuasionTurn(BaseModel):
    role: Literal["persuader", "persuadee"]
    text: str


class _PersuasionOutcome(BaseModel):
    persuadee_donation: float | None = Field(default=None, allow_inf_nan=False)


class _Persuasion(BaseModel):
    id: str
    turns: list[_PersuasionTurn]
    outcome: _PersuasionOutcome

    def dialogue(self) -> Dialogue:
        spec = DonationSpec(asker="persuader", giver="persuadee", target=PRIVATE)
        return Dialogue(
            self.id,
            OutcomeSpec.model_validate(spec.model_dump()),
            tuple(Said(turn.role, turn.text) for turn in self.turns),
            None,
            {},
            self.id,
            donated=self.outcome.persuadee_donation,
        )


def _division(parties: Sequence[str], kinds: Sequence[tuple[str, str, int]]) -> OutcomeSpec:
    items = tuple(Item(singular=one, plural=many, count=n) for one, many, n in kinds)
    spec = DivisionSpec(items=items, values={p: (PRIVATE,) * len(items) for p in parties})
    return OutcomeSpec.model_validate(spec.model_dump())


FORMATS: Mapping[str, type[_Craigslist | _Casino | _DealOrNoDeal | _Persuasion]] = {
    "craigslist": _Craigslist,
    "casino": _Casino,
    "deal_or_no_deal": _DealOrNoDeal,
    "persuasion": _Persuasion,
}


def load(path: Path, form: str) -> list[Dialogue]:
    """The dialogues in a file.

    Raises:
        RecordError: If a line is not a record of the format, or there is none.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(FORMATS[form].model_validate_json(line).dialogue())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the record"
            raise RecordError(
                f"{path}, line {number}: not a record of {form}: {place}: {first['msg']}"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(
                f"{path}, line {number}: not a record of {form}: {type(error).__name__}: {error}"
            ) from None
    if not found:
        raise RecordError(f"{path} holds no records.")
    return found


def format_of(path: Path) -> str:
    """The format of a file, by what its first record holds.

    Raises:
        RecordError: If it is none of the four.
    """
    with path.open(encoding="utf-8") as lines:
        first = next((line for line in lines if line.strip()), "")
    for form, model in FORMATS.items():
        try:
            model.model_validate_json(first).dialogue()
        except (ValueError, KeyError, TypeError):
            continue
        return form
    raise RecordError(f"{path}: its first record is of none of the formats {', '.join(FORMATS)}.")


def load_labels(path: Path) -> dict[str, float | str]:
    """Id to what was said: a sum in dollars, ``"none"`` or ``"unclear"``.

    The file is a JSON object of these, or one that holds it as ``"labels"``.

    Raises:
        RecordError: If it is something else.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        labels = held.get("labels", held)
        items = dict(labels).items()
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordError(f"{path} holds no labels by id: {error}") from None
    for key, label in items:
        number = isinstance(label, int | float) and not isinstance(label, bool)
        if label not in ("none", "unclear") and not (number and math.isfinite(label) and label > 0):
            raise RecordError(
                f"{path}: the label of {key} must be dollars above 0, 'none' or 'unclear'; "
                f"got {label!r}."
            )
    return dict(items)


def labelled(dialogue: Dialogue, labels: Mapping[str, float | str]) -> Dialogue:
    """The dialogue with the label as its truth, if it has one."""
    label = labels.get(dialogue.id)
    if label is None:
        return dialogue
    if isinstance(label, str):
        return replace(dialogue, truth="none" if label == "none" else "unclear")
    return replace(dialogue, truth="agreed", terms={"amount": label})


# --- measuring ------------------------------------------------------------------------------


def same_terms(read: Mapping[str, Any], agreed: Mapping[str, Any]) -> bool:
    """Whether two agreements are the same: sums to the cent, shares of both."""
    if read.keys() != agreed.keys():
        return False
    if "shares" in agreed:
        mine, theirs = read["shares"], agreed["shares"]
        return {p: list(s) for p, s in mine.items()} == {p: list(s) for p, s in theirs.items()}
    return all(round(100 * read[key]) == round(100 * agreed[key]) for key in agreed)


def cell(dialogue: Dialogue, outcome: Outcome) -> str:
    """The column of the confusion that an outcome belongs to."""
    if outcome.status == "unread":
        return "unread"
    if outcome.status == "no-agreement":
        return "no agreement"
    right = dialogue.truth == "agreed" and same_terms(outcome.terms, dialogue.terms)
    return "right terms" if right else "wrong terms"


def is_right(dialogue: Dialogue, outcome: Outcome) -> bool:
    """Whether a verdict is right."""
    expected = "no agreement" if dialogue.truth == "none" else "right terms"
    return cell(dialogue, outcome) == expected


async def read_all(reader: OutcomeReader, dialogues: Sequence[Dialogue]) -> list[Outcome]:
    """What the reader makes of each; without a message, nothing."""
    return list(await asyncio.gather(*(reader.aread(d.spec, d.said) for d in dialogues)))


def measure(
    dialogues: Sequence[Dialogue], outcomes: Sequence[Outcome], errors: int = 0
) -> dict[str, Any]:
    """The metrics of one file.

    Args:
        dialogues: The conversations.
        outcomes: What was read from each.
        errors: At most so many wrong verdicts are listed.
    """
    pairs = list(zip(dialogues, outcomes, strict=True))
    verdicts = [(d, o) for d, o in pairs if o.status != "unread"]
    judged = [(d, o) for d, o in verdicts if d.truth is not None]
    right = [is_right(d, o) for d, o in judged]
    truths = [truth for truth in get_args(Truth) if any(d.truth == truth for d in dialogues)]
    confusion = {truth: dict.fromkeys(READ, 0) for truth in truths}
    for dialogue, outcome in pairs:
        if dialogue.truth is not None:
            confusion[dialogue.truth][cell(dialogue, outcome)] += 1
    interval = mean_interval(right, [d.cluster for d, _ in judged]) if right else None
    bounds = [interval.low, interval.high] if interval else []
    found: dict[str, Any] = {
        "n": len(pairs),
        "verdicts": len(verdicts),
        "coverage": _rounded(len(verdicts) / len(pairs)),
        "right": sum(right),
        "precision": _rounded(interval.mean) if interval else None,
        "precision, 95 %": [_rounded(b) for b in bounds if not math.isnan(b)] or None,
        "confusion": confusion,
    }
    if any(d.truth is None for d in dialogues) or any(d.donated is not None for d in dialogues):
        found |= _beside_donations(pairs, judged)
    if errors:
        wrong = [pair for pair, ok in zip(judged, right, strict=True) if not ok]
        found["errors"] = [
            {"id": d.id, "truth": dict(d.terms) or d.truth, "read": o.terms or o.status}
            for d, o in wrong[:errors]
        ]
    return found


def _beside_donations(
    pairs: Sequence[tuple[Dialogue, Outcome]], judged: Sequence[tuple[Dialogue, Outcome]]
) -> dict[str, Any]:
    """How many are labelled, and how often what was said is what was given."""
    same = [
        round(100 * o.terms.get("amount", 0.0)) == round(100 * d.donated)
        for d, o in pairs
        if o.status != "unread" and d.donated is not None
    ]
    known = sum(d.truth is not None for d, _ in pairs)
    return {
        "labelled": known,
        "labelled verdicts": len(judged),
        "labelled coverage": _rounded(len(judged) / known) if known else None,
        "same as donated afterwards": {
            "verdicts": len(same),
            "same": sum(same),
            "share": _rounded(sum(same) / len(same)) if same else None,
        },
    }


def _rounded(value: float) -> float:
    return round(value, 4)


def evaluate(
    path: Path,
    form: str,
    reader: OutcomeReader,
    *,
    labels: Mapping[str, float | str] | None = None,
    errors: int = 0,
) -> dict[str, Any]:
    """Read one file and measure.

    Args:
        path: The file.
        form: Its format.
        reader: Who reads.
        labels: For ``persuasion``, what was said; None uses the project's own labels.
        errors: At most so many wrong verdicts are listed.

    Raises:
        RecordError: If the file or the labels are malformed.
    """
    dialogues = load(path, form)
    if form == "persuasion":
        known = load_labels(LABELS) if labels is None else labels
        dialogues = [labelled(dialogue, known) for dialogue in dialogues]
    outcomes = asyncio.run(read_all(reader, dialogues))
    head = {"format": form, "file": path.name, "reader": reader.name}
    return head | measure(dialogues, outcomes, errors)


# --- command --------------------------------------------------------------------------------


def show(result: Mapping[str, Any]) -> None:
    """Print the result of one file."""
    print(f"{result['format']} ({result['file']}), reader {result['reader']}")
    print(f"  n {result['n']}, verdicts {result['verdicts']}, coverage {result['coverage']:.1%}")
    if "labelled" in result:
        coverage = result["labelled coverage"]
        told = f", coverage {coverage:.1%}" if coverage is not None else ""
        print(f"  labelled {result['labelled']}, verdicts {result['labelled verdicts']}{told}")
    if result["precision"] is None:
        print("  precision: no verdict whose truth is known")
    else:
        bounds = result["precision, 95 %"]
        told = f" [{bounds[0]:.1%}, {bounds[1]:.1%}]" if bounds else ""
        print(f"  precision {result['precision']:.1%}{told}")
    if result["confusion"]:
        print(f"  {'truth':8} " + " ".join(f"{name:>12}" for name in READ))
        for truth, row in result["confusion"].items():
            print(f"  {truth:8} " + " ".join(f"{row[name]:12}" for name in READ))
    afterwards = result.get("same as donated afterwards")
    if afterwards and afterwards["share"] is not None:
        print(
            f"  {afterwards['same']} of {afterwards['verdicts']} verdicts "
            f"({afterwards['share']:.1%}) are what was donated afterwards"
        )
    for error in result.get("errors", ()):
        print(f"  misread {error['id']}: truth {error['truth']}, read {error['read']}")
    print()


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.outcome_reading",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--format", choices=tuple(FORMATS))
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="every *.jsonl file in it")
    parser.add_argument("--reader", default="rules", help="rules, MODEL or rules+MODEL")
    parser.add_argument("--labels", type=Path, help="what was said in persuasion dialogues")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--errors", type=int, default=0, metavar="N", help="list N misread ids")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where --all writes")
    found = parser.parse_args(arguments)
    if (found.file is None) == (found.all is None):
        parser.error("give either one FILE with its --format, or --all FOLDER")
    if found.file is not None and found.format is None:
        parser.error(f"--format is needed with FILE: one of {', '.join(FORMATS)}")
    if found.labels is not None and found.format not in (None, "persuasion"):
        parser.error("--labels are of persuasion dialogues; other formats record what was agreed")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print or write."""
    options = _arguments(arguments)
    try:
        labels = load_labels(options.labels) if options.labels else None
        with closing(from_spec(options.reader)) as reader:

            def measured(path: Path, form: str) -> dict[str, Any]:
                return evaluate(path, form, reader, labels=labels, errors=options.errors)

            if options.file is not None:
                result = measured(options.file, options.format)
                _tell([result], result, as_json=options.json)
            else:
                _all(options, measured)
    except (RecordError, SotopiaGymError, OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _all(options: argparse.Namespace, measured: Callable[[Path, str], dict[str, Any]]) -> None:
    files = sorted(options.all.glob("*.jsonl"))
    if not files:
        raise RecordError(f"{options.all} holds no .jsonl files.")
    results = [measured(path, format_of(path)) for path in files]
    extra = f" --reader {options.reader}" if options.reader != "rules" else ""
    whole = {
        **made_by(f"python -m eval.outcome_reading --all FOLDER{extra}"),
        "results": results,
    }
    _tell(results, whole, as_json=options.json)
    write_whole(options.out, [json.dumps(whole, indent=2).encode() + b"\n"])


def _tell(results: Sequence[Mapping[str, Any]], whole: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(whole, indent=2))
        return
    for result in results:
        show(result)


if __name__ == "__main__":
    sys.exit(main())
