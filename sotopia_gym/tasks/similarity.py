"""Which texts say nearly the same: for finding duplicates, and training data that is in a test."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sotopia_gym.errors import ConfigError, missing_extra
from sotopia_gym.tasks.schema import Scenario, Suite
from sotopia_gym.tasks.visibility import ENVIRONMENT, render

Embedder = Callable[[Sequence[str]], np.ndarray]
"""Texts to vectors: an array of shape (texts, dimensions)."""

SAME_NGRAMS: Final = 0.3
"""Overlap of word 3-grams from which two scenarios count as the same. Two people who describe one
scene in words of their own share less than a tenth; a copy with other nouns about half."""

SAME_MEANING: Final = 0.9
"""Cosine similarity of embeddings from which two scenarios count as the same."""


@dataclass(frozen=True, slots=True)
class Match:
    """The nearest known text.

    Attributes:
        key: Its key; empty if nothing is known.
        similarity: How near it is, from 0 (nothing in common) to 1 (the same).
    """

    key: str = ""
    similarity: float = 0.0


class NgramIndex:
    """Known texts, by their word n-grams.

    The similarity of two texts is the share of the shorter one's n-grams that the other has too
    (the overlap coefficient), so that a copy with a sentence added is found.

    Args:
        size: Words in an n-gram.
    """

    def __init__(self, size: int = 3) -> None:
        self._size = size
        self._counts: dict[str, int] = {}
        self._texts_with: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)

    def add(self, key: str, text: str) -> None:
        """Make a text known."""
        if key in self._counts:
            raise ConfigError(f"the index knows {key!r} already.")
        grams = ngrams(text, self._size)
        self._counts[key] = len(grams)
        for gram in grams:
            self._texts_with[gram].append(key)

    def nearest(self, text: str) -> Match:
        """The known text that has most in common with ``text``."""
        grams = ngrams(text, self._size)
        shared = Counter(key for gram in grams for key in self._texts_with.get(gram, ()))
        if not shared:
            return Match()
        share = {k: n / max(1, min(len(grams), self._counts[k])) for k, n in shared.items()}
        best = max(share, key=lambda key: share[key])
        return Match(best, share[best])


class MeaningIndex:
    """Known texts, by their embeddings.

    Args:
        embed: Turns texts into vectors.
    """

    def __init__(self, embed: Embedder) -> None:
        self._embed = embed
        self._keys: list[str] = []
        self._vectors: list[np.ndarray] = []

    def add(self, texts: Mapping[str, str]) -> None:
        """Make texts known, by their keys."""
        if texts:
            self._vectors.extend(_unit(self._embed(list(texts.values()))))
            self._keys.extend(texts)

    def nearest(self, text: str) -> Match:
        """The known text whose embedding has the largest cosine similarity."""
        if not self._keys:
            return Match()
        likeness = np.stack(self._vectors) @ _unit(self._embed([text]))[0]
        best = int(likeness.argmax())
        return Match(self._keys[best], float(likeness[best]))


def sentence_embedder(model: str) -> Embedder:
    """An embedder of the package sentence-transformers.

    Args:
        model: Path or name of one of its models.

    Raises:
        MissingDependencyError: If the package is not installed.
    """
    try:
        # Optional: where it is not installed, mypy does not find it.
        from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise missing_extra("sentence-transformers", "embed", "similarity of meaning") from error
    loaded = SentenceTransformer(model)
    return lambda texts: np.asarray(loaded.encode(list(texts)))


def ngrams(text: str, size: int) -> set[tuple[str, ...]]:
    """The different word n-grams of ``text``, without case and punctuation."""
    words = re.findall(r"[^\W_]+", text.casefold())
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def scenario_text(scenario: Scenario) -> str:
    """All that a scenario tells, without tags."""
    goals = (render(goal, f"agent_{index}") for index, goal in enumerate(scenario.goals))
    return "\n".join((render(scenario.context, ENVIRONMENT), *goals))


@dataclass(frozen=True, slots=True)
class Contaminated:
    """A scenario that another suite holds too, or nearly.

    Attributes:
        scenario_id: The scenario.
        match: The nearest scenario of the other suite.
    """

    scenario_id: str
    match: Match


def contamination(
    suite: Suite, against: Iterable[Suite], *, threshold: float = SAME_NGRAMS
) -> list[Contaminated]:
    """The scenarios of a suite that are in others too, worst first.

    Args:
        suite: What one wants to train on.
        against: What one wants to test on.
        threshold: Similarity of word 3-grams from which a scenario is listed.
    """
    index = NgramIndex()
    for key, scenario in scenarios_of(against).items():
        index.add(key, scenario_text(scenario))
    found = [
        Contaminated(key, match)
        for key, scenario in scenarios_of([suite]).items()
        if (match := index.nearest(scenario_text(scenario))).similarity >= threshold
    ]
    return sorted(found, key=lambda one: (-one.match.similarity, one.scenario_id))


def scenarios_of(suites: Iterable[Suite]) -> dict[str, Scenario]:
    """The scenarios of some suites by id; by suite and id where an earlier one has that id."""
    found: dict[str, Scenario] = {}
    for suite in suites:
        for task in suite:
            scenario = task.scenario
            if found.setdefault(scenario.scenario_id, scenario) != scenario:
                found[f"{suite.name}/{scenario.scenario_id}"] = scenario
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))
