"""The families that can be played in numbers: those in which an offer is made and accepted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from sotopia_gym.envs.numeric_codec import Codec, Said
from sotopia_gym.tasks.families import division, joint_choice, price
from sotopia_gym.tasks.families.negotiation import Reading, Statement
from sotopia_gym.tasks.families.wording import listed
from sotopia_gym.tasks.schema import Task

# What is said in numbers repeats, and reading it is most of what a step costs.
_read_division = lru_cache(maxsize=4096)(division.read_statement)


class PriceCodec(Codec[float]):
    """A buyer or a seller. Terms are the price in dollars.

    Levels go from half the target price short of the target to a quarter beyond it, in whole
    dollars, and never above the asking price. The worth of a price is its distance from the
    target, in the agent's favour, as a share of the larger of the two. The context is the role
    (buyer -1, seller 1) and the distance of the target from the asking price as a share of that.
    """

    _LEAST: Final = -0.5
    _MOST: Final = 0.25

    def __init__(self, task: Task, agent: str, max_turns: int) -> None:
        super().__init__(task, agent, max_turns)
        spec = price.price_spec(task)
        self._sign = 1 if agent == spec.seller else -1
        self._target = spec.seller_target if agent == spec.seller else spec.buyer_target
        self._most = max(spec.listing or float("inf"), self._target)
        gap = 0.0 if spec.listing is None else (spec.listing - self._target) / self._most
        self.context = float(self._sign), gap

    def worth(self, terms: float) -> float:
        return self._sign * (terms - self._target) / max(terms, self._target)

    def terms(self, level: float, heard: Sequence[float]) -> float:
        gain = self._LEAST + level * (self._MOST - self._LEAST)
        return min(max(1.0, float(round(self._target * (1 + self._sign * gain)))), self._most)

    def statements(self, said: Sequence[Said]) -> Iterable[Statement[float]]:
        return (Statement(who, turn, price.read_statement(text)) for who, turn, text in said)

    def told(self, terms: float) -> tuple[str, str]:
        amount = price.money(terms)
        return f"How about {amount}?", f"Deal, {amount} it is."


class DivisionCodec(Codec[tuple[int, ...]]):
    """One of two who divide items. Terms are its own share: a count of each item.

    A level is the share of all points to ask for at least; of the shares that are worth it, it
    proposes the one that leaves the other most of what that has asked for (Faratin, Sierra and
    Jennings 2002). Worth is the share of all points, from -1 (nothing) to 1 (everything). The
    context is the share of the points that is in the dearest kind of item, and in the cheapest.
    """

    def __init__(self, task: Task, agent: str, max_turns: int) -> None:
        super().__init__(task, agent, max_turns)
        spec = division.division_spec(task)
        self._items, self._counts = spec.items, spec.counts
        values = spec.values[agent]
        everything = spec.points(agent, self._counts)
        self._worth = {
            share: spec.points(agent, share) / everything for share in division.splits(self._counts)
        }
        kinds = [n * v / everything for n, v in zip(self._counts, values, strict=True)]
        self.context = max(kinds), min(kinds)

    def worth(self, terms: tuple[int, ...]) -> float:
        return 2 * self._worth[terms] - 1

    def terms(self, level: float, heard: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        asked = [division.rest(self._counts, mine) for mine in heard]
        wanted = [sum(counts) for counts in zip(*asked, strict=True)] or [0] * len(self._counts)

        def preference(share: tuple[int, ...]) -> tuple[float, int, float]:
            left = division.rest(self._counts, share)
            return (
                sum(w * n for w, n in zip(wanted, left, strict=True)),
                sum(left),
                self._worth[share],
            )

        good = (share for share, worth in self._worth.items() if worth >= level - 1e-9)
        return max(good, key=preference)

    def statements(self, said: Sequence[Said]) -> Iterable[Statement[tuple[int, ...]]]:
        return (Statement(who, turn, self._read(who, text)) for who, turn, text in said)

    def told(self, terms: tuple[int, ...]) -> tuple[str, str]:
        mine, yours = self._listed(terms), self._listed(division.rest(self._counts, terms))
        split = f"I take {mine} and you take {yours}"
        return f"How about this: {split}?", f"Deal. So {split}."

    def _read(self, speaker: str, text: str) -> Reading[tuple[int, ...]]:
        read = _read_division(text, self._items)
        offer = None if read.offer is None else read.offer[0 if speaker == self._name else 1]
        return Reading(offer, read.accepts, read.rejects, read.retracts, read.asks)

    def _listed(self, share: tuple[int, ...]) -> str:
        parts = [i.counted(n) for i, n in zip(self._items, share, strict=True) if n]
        return listed(parts) if parts else "nothing"


class JointChoiceCodec(Codec[str]):
    """One of two who settle on an option. Terms are the option.

    A level is a tenth of the points that the option is to have at least; of those that have them
    it proposes one that the other has named, or else the one with the fewest. Worth is the
    option's points, from -1 (0) to 1 (10). The context is the worth of parting without a choice,
    and the share of the options that are worth more.
    """

    def __init__(self, task: Task, agent: str, max_turns: int) -> None:
        super().__init__(task, agent, max_turns)
        spec = joint_choice.joint_choice_spec(task)
        self._values = dict(zip(spec.options, spec.values[agent], strict=True))
        fallback = spec.fallback[agent]
        better = sum(value > fallback for value in self._values.values())
        self.context = fallback / 5 - 1, better / len(self._values)

    def worth(self, terms: str) -> float:
        return self._values[terms] / 5 - 1

    def terms(self, level: float, heard: Sequence[str]) -> str:
        good = [option for option, value in self._values.items() if value >= 10 * level - 1e-9]
        return min(good, key=lambda option: (option not in heard, self._values[option]))

    def statements(self, said: Sequence[Said]) -> Iterable[Statement[str]]:
        return joint_choice.read_statements(said, tuple(self._values))

    def told(self, terms: str) -> tuple[str, str]:
        return f"How about {terms}?", f"Deal, {terms} it is."


CODECS: Final[Mapping[str, type[Codec[Any]]]] = MappingProxyType(
    {"price": PriceCodec, "division": DivisionCodec, "joint_choice": JointChoiceCodec}
)
"""The codec of each family that can be played in numbers."""
