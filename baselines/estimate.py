"""What a recipe will take, before anything is played: calls, tokens, dollars and time.

These are estimates, good to a factor of two or so. :func:`grounds` says what they rest on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

from baselines.recipe import Collection, Evaluation, Recipe, Stage, Tasks
from sotopia_gym.errors import SotopiaGymError
from sotopia_gym.judges.llm import GPT4_JUDGE, TYPICAL_TOKENS
from sotopia_gym.llm.prices import PRICES
from sotopia_gym.llm.spec import is_chat_model
from sotopia_gym.tasks.suites import load_suite

_OPENING: Final = 600
"""Tokens of instructions, scene and characters; of the prompt ``brief`` a third."""
_TURN: Final = 60
"""Tokens of a turn as JSON, by a language model that may write so many; of a script half."""
_WRITTEN_A_SECOND: Final = 50
"""Tokens that a model behind an address writes for one request."""
_KEPT: Final = 0.5
"""Share of the episodes that filters keep whose settings do not say it."""
_SUITES: Final = {"sotopia-all": (90, 5), "sotopia-hard": (14, 5)}
"""Scenarios of known suites, and tasks of each."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a step will take; the sum of two is what both take.

    Attributes:
        episodes: Episodes played.
        calls: Requests to language models, in this process or behind an address.
        read: Tokens in the prompts of those calls.
        written: Tokens in their answers.
        trained: Tokens that are read in training.
        dollars: US dollars for models whose price is known.
        seconds: Seconds, on the machine that the recipe is for.
        unpriced: Models behind an address whose price is not known.
        missing: Suites that are not on this machine, with the size they are taken to have.
    """

    episodes: float = 0
    calls: float = 0
    read: float = 0
    written: float = 0
    trained: float = 0
    dollars: float = 0
    seconds: float = 0
    unpriced: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()

    def __add__(self, other: Estimate) -> Estimate:
        def both(name: str) -> object:
            one, two = getattr(self, name), getattr(other, name)
            return one | two if isinstance(one, frozenset) else one + two

        summed = {each.name: both(each.name) for each in fields(self)}
        return Estimate(**summed)  # type: ignore[arg-type]  # each is of its field's type

    def __str__(self) -> str:
        cost = f"${self.dollars:,.2f}" + (" and more" if self.unpriced else "")
        parts = {
            f"{self.episodes:,.0f} episodes": self.episodes,
            f"{self.calls:,.0f} calls": self.calls,
            f"{_short(self.read)} tokens read": self.read,
            f"{_short(self.written)} written": self.written,
            f"{_short(self.trained)} trained on": self.trained,
            cost: self.dollars or self.unpriced,
            _time(self.seconds): self.seconds,
        }
        return ", ".join(told for told, value in parts.items() if value)


def playing(
    recipe: Recipe, tasks: Tasks, played: Collection | Evaluation, agents: Sequence[str | None]
) -> Estimate:
    """What playing and judging takes.

    Args:
        recipe: The recipe.
        tasks: What is played.
        played: How.
        agents: Whom it is about, each in episodes of its own; None is the recipe's model.
    """
    count, missing = _count(tasks, played)
    against = len(played.partners) if getattr(played, "every_partner", False) else 1
    episodes = count * (2 if played.partners else 1) * played.repetitions * against
    total = Estimate(missing=missing)
    for agent in agents:
        total += Estimate(episodes=episodes)
        # Two players, or one in both roles; of several partners each is drawn equally often.
        seats = [(agent, 1.0)] if played.partners else [(agent, 2.0)]
        seats += [(partner, 1 / len(played.partners)) for partner in played.partners]
        for player, share in seats:
            total += _player(recipe, player, episodes * share)
        for judge in _judges(recipe.judge):
            read, written = TYPICAL_TOKENS
            total += _calls(recipe, judge, episodes, episodes * read, episodes * written)
    return total


def training(recipe: Recipe, stage: Stage) -> Estimate:
    """What training takes on what the filters keep."""
    collection = recipe.collections[stage.collection]
    count, missing = _count(recipe.train, collection)
    seats = 2 * count * collection.repetitions * _kept(stage, collection)
    opening, turn, turns = _sizes(recipe, None)
    if stage.method == "dpo":
        tokens = seats * 2 * (opening + turns * turn)  # a pair has two answers to one prompt
    elif stage.layout == "turns":
        tokens = seats * (_read(opening, turn, turns) + turns * turn)
    else:
        tokens = seats * (opening + 2 * turns * turn)
    tokens *= stage.training.epochs
    if stage.training.max_steps is not None:
        rows = seats * (turns if stage.layout == "turns" else 1) * stage.training.epochs
        tokens *= min(1.0, stage.training.max_steps * stage.training.batch_size / max(1.0, rows))
    seconds = tokens / 1000 * recipe.seconds_per_1k_tokens[1]
    return Estimate(trained=tokens, seconds=seconds, missing=missing)


def grounds(recipe: Recipe, total: Estimate) -> Iterator[str]:
    """What an estimate rests on, line by line."""
    opening, turn, _ = _sizes(recipe, None)
    read, written = TYPICAL_TOKENS
    yield (
        f"These are estimates: as if every episode took all of its {recipe.max_turns} turns, of "
        f"{turn:.0f} tokens after {opening:.0f} of instructions, and every call sent the whole "
        f"conversation; filters keep {_KEPT:.0%} where they do not say."
    )
    yield (
        f"The model here takes {recipe.seconds_per_1k_tokens[0]:g} s for 1,000 tokens of "
        f"conversation and {recipe.seconds_per_1k_tokens[1]:g} s for 1,000 in training "
        "(seconds_per_1k_tokens)."
    )
    if total.dollars or total.unpriced:
        yield (
            f"Models behind an address write {_WRITTEN_A_SECOND} tokens a second, "
            f"{recipe.requests} requests at once; a judge reads {read:,} tokens an episode and "
            f"writes {written:,}. Prices are those of sotopia_gym/llm/prices.py, from when each "
            "model came out."
        )
    if total.unpriced:
        yield f"Not in the sum, for want of a price: {', '.join(sorted(total.unpriced))}."
    yield from sorted(total.missing)


# --- inside


def _count(tasks: Tasks, played: Collection | Evaluation) -> tuple[int, frozenset[str]]:
    """How many tasks are played, and what is not known of them."""
    most = getattr(played, "tasks", None)
    if tasks.suite is None:
        return (most or tasks.count) * len(tasks.families), frozenset()
    try:
        number = len(tasks.part_of(load_suite(tasks.suite)).tasks)
    except SotopiaGymError:
        scenarios, pairs = _SUITES.get(tasks.suite, (0, 0))
        number = most or scenarios * min(pairs, tasks.pairs or pairs)
        told = (
            f"The suite {tasks.suite} is not on this machine yet, and is taken to have {number} "
            "tasks to be played; the README says how to get it."
        )
        return number, frozenset([told])
    return min(number, most or number), frozenset()


def _sizes(recipe: Recipe, spec: str | None) -> tuple[float, float, float]:
    """Tokens of an opening, and of a turn, and turns of one of two players; None: the model."""
    prompt = recipe.model.prompt if spec is None else spec.partition("?prompt=")[2]
    spoken = recipe.model.max_tokens if recipe.train.suite else _TURN / 2
    opening = _OPENING / 3 if prompt == "brief" else _OPENING
    return opening, min(_TURN, spoken), recipe.max_turns / 2


def _read(opening: float, turn: float, turns: float) -> float:
    """Tokens that one player reads in an episode, if it reads everything in each turn."""
    return turns * opening + turn * turns * (turns - 0.5)


def _player(recipe: Recipe, spec: str | None, episodes: float) -> Estimate:
    model = None if spec is None else spec.partition("?prompt=")[0]
    if model is not None and not is_chat_model(model) and not model.startswith("hf/"):
        return Estimate()  # a script, or a person
    opening, turn, turns = _sizes(recipe, spec)
    calls, written = episodes * turns, episodes * turns * turn
    read = episodes * _read(opening, turn, turns)
    if model is not None:
        return _calls(recipe, model, calls, read, written)
    tokens = episodes * (opening + recipe.max_turns * turn)
    seconds = tokens / 1000 * recipe.seconds_per_1k_tokens[0]
    return Estimate(calls=calls, read=read, written=written, seconds=seconds)


def _calls(recipe: Recipe, model: str, calls: float, read: float, written: float) -> Estimate:
    here = model.startswith(("local/", "hf/"))
    price = None if here else PRICES.get(model)
    return Estimate(
        calls=calls,
        read=read,
        written=written,
        dollars=0 if price is None else price.cost(math.ceil(read), math.ceil(written)),
        seconds=written / _WRITTEN_A_SECOND / (1 if here else recipe.requests),
        unpriced=frozenset() if here or price is not None else frozenset([model]),
    )


def _judges(spec: str) -> list[str]:
    """The language models that judge."""
    kind, _, rest = spec.partition(":")
    if kind in ("panel", "panel-median"):
        return [judge for part in rest.split("+") for judge in _judges(part)]
    if spec == "gpt-4" or (spec == "auto" and os.environ.get("OPENAI_API_KEY")):
        return [GPT4_JUDGE]
    return [spec] if is_chat_model(spec) or kind == "calibrated" else []


def _kept(stage: Stage, collection: Collection) -> float:
    """The share of seats that the filters keep, or that are half of a pair."""
    share = 1.0
    for settings in stage.filters:
        if settings["name"] in ("top_share", "self_reinforcement"):
            share *= settings.get("share", 0.2)
        elif settings["name"] == "best_of_n":
            share /= collection.repetitions
        else:
            share *= _KEPT
    return share / collection.repetitions * _KEPT if stage.method == "dpo" else share


def _short(number: float) -> str:
    """A count of tokens for people."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"
