"""Scores to compare: those of a judge beside people's, or beside what truly happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.importers import import_episodes
from sotopia_gym.episodes.schema import HUMAN_PREFIX, Episode, Judgement
from sotopia_gym.episodes.summary import scored
from sotopia_gym.errors import ConfigError
from sotopia_gym.judges import OutcomeJudge
from sotopia_gym.judges.human import HumanJudge
from sotopia_gym.tasks.sampling import family

RATINGS: Final = "human_ratings.jsonl"
"""People's ratings; without it a folder holds no human evaluation."""

ABOUT_THEM: Final = ("all_otree_episodes.jsonl", "gpt4_scores_140eps.json")
"""Who played what was rated, and GPT-4's scores of some of it."""

PILOT: Final = "pilot_internal_expert_ratings.jsonl"
"""Ratings of other episodes by a few annotators who rated the same ones."""

PARTNER: Final = "gpt-3.5-turbo"
"""Whom all models met in the episodes that people rated."""

MODELS: Final = {
    "gpt4": "GPT-4",
    "gpt3.5": "GPT-3.5",
    "mistral-instruct": "Mistral-7B",
    "SR": "SR",
    "BC": "BC",
    "BC+SR": "BC+SR",
}
"""What the rating study calls a model, and what the paper does."""

RATED: Final = "human_ratings"
"""Where an imported episode keeps what its ratings say beside scores."""

_REFERENCES: Final = (OutcomeJudge.name, HumanJudge.name)


@dataclass(frozen=True, slots=True)
class Scored:
    """A judge's score of one agent in one episode, with what it is held against.

    Attributes:
        dimension: What was scored.
        judge: The judge's score.
        reference: The score that it should have been.
        scenario: The scenario; scores of one depend on each other.
        family: The task's family.
        role: The agent's role.
        model: Who the agent was.
        job: What is the same where another agent did the same: task, role, partners, repetition.
    """

    dimension: str
    judge: float
    reference: float
    scenario: str
    family: str
    role: str
    model: str
    job: tuple[str, ...]


@dataclass
class Collected:
    """What was found in episodes.

    Attributes:
        counts: How many episodes there are, and how many were not played to their end.
        unscored: Judge to how many complete episodes it gave no scores to, failed or not asked.
        outcomes: Judge to its scores beside exact ones.
        people: Judge to its scores beside people's mean ratings.
    """

    counts: Counter[str] = field(default_factory=Counter)
    unscored: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, list[Scored]] = field(default_factory=dict)
    people: dict[str, list[Scored]] = field(default_factory=dict)


def collect(
    episodes: Iterable[Episode],
    seats: Callable[[Episode], Sequence[str]] = lambda episode: episode.seats,
) -> Collected:
    """Put each judge's scores beside the exact ones and beside people's, in one pass.

    Exact and human judgements are the reference, not judged themselves. Where a judge judged an
    episode again, its latest scores count.

    Args:
        episodes: The episodes, each once.
        seats: Which agents of an episode count; by default those that the episode is about.
    """
    found = Collected()
    with_score: Counter[str] = Counter()
    for episode in episodes:
        found.counts["episodes"] += 1
        if not episode.complete:
            found.counts["incomplete"] += 1
            continue
        truth = _exact(episode)
        people = _means(HumanJudge([episode]).judge(episode))
        for name in _judges(episode):
            judgement = scored(episode, name)
            with_score[name] += judgement is not None
            if judgement is None:
                continue
            for reference, kept in ((truth, found.outcomes), (people, found.people)):
                pairs = _beside(episode, judgement, reference, seats(episode))
                kept.setdefault(name, []).extend(pairs)
    complete = found.counts["episodes"] - found.counts["incomplete"]
    found.unscored = {name: complete - count for name, count in with_score.items()}
    return found


def by_dimension(pairs: Iterable[Scored]) -> dict[str, list[Scored]]:
    """The pairs of each dimension, in SOTOPIA's order."""
    found: dict[str, list[Scored]] = {name: [] for name in DIMENSIONS}
    for pair in pairs:
        found[pair.dimension].append(pair)
    return {name: of for name, of in found.items() if of}


def _judges(episode: Episode) -> list[str]:
    names = dict.fromkeys(judgement.judge for judgement in episode.judgements)
    return [n for n in names if n not in _REFERENCES and not n.startswith(HUMAN_PREFIX)]


def _exact(episode: Episode) -> Mapping[str, Mapping[str, float]]:
    goals = next((j.true_goals for j in reversed(episode.judgements) if j.true_goals), {})
    return {agent: {"goal": goal} for agent, goal in goals.items()}


def _means(judgement: Judgement) -> Mapping[str, Mapping[str, float]]:
    return {
        agent: {name: score.score for name, score in scores.items()}
        for agent, scores in judgement.scores.items()
    }


def _beside(
    episode: Episode,
    judgement: Judgement,
    reference: Mapping[str, Mapping[str, float]],
    agents: Iterable[str],
) -> Iterator[Scored]:
    others = tuple(sorted(n for r, n in episode.agents.items() if r not in episode.seats))
    for agent in agents:
        for name, score in judgement.scores.get(agent, {}).items():
            if name in DIMENSIONS and name in reference.get(agent, {}):
                yield Scored(
                    dimension=name,
                    judge=score.score,
                    reference=reference[agent][name],
                    scenario=episode.task.scenario.scenario_id,
                    family=family(episode.task),
                    role=agent,
                    model=_model(episode, agent),
                    job=(episode.task.task_id, agent, *others, str(episode.repetition)),
                )


def _model(episode: Episode, agent: str) -> str:
    """Who an agent was; of the episodes that people rated, as the paper calls it."""
    if RATED not in episode.extra:
        return episode.agents.get(agent, "unknown")
    return MODELS[condition(episode)] if agent in model_seats(episode) else PARTNER


# --- SOTOPIA's human evaluation


@dataclass(frozen=True, slots=True)
class Ratings:
    """SOTOPIA's human evaluation.

    Attributes:
        episodes: Those that were rated, with GPT-4's scores where they are recorded.
        annotated: Episodes that the same few annotators rated; empty without their file.
        records: Format to how many records of it were read.
        lost: What in the files could not be read.
    """

    episodes: tuple[Episode, ...]
    annotated: tuple[Episode, ...]
    records: dict[str, int]
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RatedTwice:
    """One agent of an episode as two raters saw it.

    Attributes:
        first: Dimension to the first rating.
        second: Dimension to the second rating.
        scenario: The scenario.
        same_person: Whether one person rated the episode twice.
    """

    first: Mapping[str, float]
    second: Mapping[str, float]
    scenario: str
    same_person: bool


def load_ratings(folder: Path) -> Ratings:
    """Read the human evaluation.

    Raises:
        ConfigError: If a file is missing.
    """
    paths = [folder / name for name in (RATINGS, *ABOUT_THEM)]
    for path in paths:
        if not path.is_file():
            raise ConfigError(
                f"{folder} must hold SOTOPIA's human evaluation, but there is no {path.name}. Name "
                "the folder with --ratings."
            )
    rated = import_episodes(paths)
    pilot = folder / PILOT
    annotated = import_episodes([pilot] if pilot.is_file() else [])
    notes = (*rated.notes, *annotated.notes)
    return Ratings(
        episodes=tuple(episode for episode in rated.episodes if human(episode)),
        annotated=annotated.episodes,
        records=rated.records | annotated.records,
        lost=tuple(f"{note.record}: {note.what}" for note in notes if note.lost),
    )


def human(episode: Episode) -> list[Judgement]:
    """People's ratings of an episode, in the order in which they were recorded."""
    return [j for j in episode.judgements if j.judge.startswith(HUMAN_PREFIX) and j.scored]


def condition(episode: Episode) -> str:
    """Which model was rated, as the study calls it."""
    found: str = episode.extra[RATED][0]["condition"]
    return found


def model_seats(episode: Episode) -> tuple[str, ...]:
    """The roles of the model that was rated: both, where it met itself or nobody is recorded."""
    own = tuple(a for a in episode.task.agents if episode.agents.get(a, PARTNER) != PARTNER)
    return own or episode.task.agents


def rated_twice(episodes: Iterable[Episode]) -> Iterator[RatedTwice]:
    """The first two ratings of each agent; an episode's third, if there is one, is left out."""
    for episode in episodes:
        ratings = human(episode)[:2]
        if len(ratings) < 2:
            continue
        first, second = map(_means, ratings)
        for agent in episode.task.agents:
            if agent in first and agent in second:
                yield RatedTwice(
                    first=first[agent],
                    second=second[agent],
                    scenario=episode.task.scenario.scenario_id,
                    same_person=ratings[0].judge == ratings[1].judge,
                )


def crossed(episodes: Iterable[Episode]) -> tuple[tuple[str, ...], dict[str, list[list[float]]]]:
    """The raters who rated every agent, and their ratings.

    Returns:
        The raters, and dimension to a table of shape (agents, raters); agents to whom one of them
        gave no score in a dimension are not in its table.
    """
    units = [
        {j.judge: _means(j).get(agent, {}) for j in human(episode)}
        for episode in episodes
        for agent in episode.task.agents
    ]
    everybody = sorted({rater for unit in units for rater in unit})
    raters = [rater for rater in everybody if all(unit.get(rater) for unit in units)]
    if len(raters) < 2:
        return tuple(raters), {}
    return tuple(raters), {
        name: [
            [unit[rater][name] for rater in raters]
            for unit in units
            if all(name in unit[rater] for rater in raters)
        ]
        for name in DIMENSIONS
    }
