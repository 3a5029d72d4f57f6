"""What a study of people's ratings consists of: its texts, its rules, its practice episodes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import DimensionScore, Episode
from sotopia_gym.errors import ConfigError, did_you_mean

RATED_AGENTS: Final = 2
"""How many characters a rated conversation has, as in SOTOPIA's study and its ratings format."""

CONSENT: Final = """\
You are invited to take part in a study of conversations. You will read short conversations between
two characters in made-up scenes, and say for each character how it did, on seven scales and in a
few words of your own. The conversations were written by people or by computer programs. Some may
be rude or upsetting.

Taking part is voluntary. You may stop at any time by closing the page, and you need not give a
reason. What you have submitted by then is kept.

We keep your ratings, your reasons, when you submitted them and how long you took, under a random
name that this page makes up for you. We ask for no name, no address and nothing else about you;
please write nothing about yourself into your reasons. To have your ratings deleted, tell us your
random name. The ratings may be published for research.
"""

THANKS: Final = "Thank you for taking part."


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Qualification(_Model):
    """An episode that a rater must rate much as the organisers do.

    Attributes:
        episode: Its id in the practice file.
        accepted: Agent to dimension to the lowest and the highest score that is accepted. What is
            not named is rated too, but not looked at.
    """

    episode: str
    accepted: dict[str, dict[str, tuple[int, int]]] = Field(min_length=1)

    @field_validator("accepted")
    @classmethod
    def _check(cls, value: Any) -> Any:
        for agent, ranges in value.items():
            for name, (low, high) in ranges.items():
                if name not in DIMENSIONS:
                    raise ValueError(
                        f"no dimension {name!r} for {agent}. {did_you_mean(name, DIMENSIONS)}"
                    )
                if low > high:
                    raise ValueError(f"{agent}, {name}: {low} is above {high}")
        return value

    def passed(self, scores: Mapping[str, Mapping[str, DimensionScore]]) -> bool:
        """Whether a rating of this episode is accepted."""
        return all(
            low <= scores[agent][name].score <= high
            for agent, ranges in self.accepted.items()
            for name, (low, high) in ranges.items()
        )


_EXAMPLES: Final = ("example-bicycle", "example-drums")
_QUALIFICATION: Final = (
    Qualification(
        episode="qualification-shift",
        accepted={
            "agent_0": {"goal": (7, 10), "secret": (-2, 0), "social_rules": (-3, 0)},
            "agent_1": {"goal": (0, 4), "secret": (-10, -5), "social_rules": (-3, 0)},
        },
    ),
)


class Study(_Model):
    """A study; every field may be set in its TOML file.

    Attributes:
        title: What raters see it called.
        organiser: Who runs it and how to reach them, for the consent page.
        consent: What raters agree to; paragraphs are set apart by empty lines.
        instructions: What raters are told beside the library's own instructions.
        thanks: What raters read at the end, such as a code that shows they took part.
        ratings: Ratings that an episode gets.
        relaunch_gap: An episode gets one rating more where two raters' goal scores of a character
            lie further apart than this.
        per_rater: Most episodes of one rater; None for no limit.
        attention_every: Of so many episodes of a rater in a row, one carries an attention check;
            0 for none.
        failed_checks: A rater who fails more attention checks than this gets no more episodes, and
            the ratings do not count.
        lease_minutes: How long an episode that was given to a rater is kept for that rater.
        practice: A journal with the examples and the qualification episodes; None for those that
            come with the library.
        examples: Ids of episodes in it that are shown with their latest judgement.
        qualification: What a rater must rate well before the study begins; empty for nothing.
        seed: Seed of the order of the episodes and of the attention checks.
    """

    title: str = "Rating conversations"
    organiser: str = ""
    consent: str = CONSENT
    instructions: str = ""
    thanks: str = THANKS
    ratings: int = Field(default=2, ge=1)
    relaunch_gap: float = Field(default=5, ge=0)
    per_rater: int | None = Field(default=None, ge=1)
    attention_every: int = Field(default=5, ge=0)
    failed_checks: int = Field(default=1, ge=0)
    lease_minutes: float = Field(default=120, gt=0)
    practice: Path | None = None
    examples: tuple[str, ...] = _EXAMPLES
    qualification: tuple[Qualification, ...] = _QUALIFICATION
    seed: int = 0


def load_study(path: Path) -> Study:
    """Read a study's TOML file; a relative ``practice`` is looked for beside it.

    Raises:
        ConfigError: If it is not TOML, or a field is unknown or has a value that makes no sense.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    try:
        study = Study.model_validate(fields)
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"]))
        raise ConfigError(
            f"{path}, {where}: {found['msg']}. Known fields: {', '.join(Study.model_fields)}."
        ) from None
    if study.practice is None:
        return study
    return study.model_copy(update={"practice": path.parent / study.practice})


def practice_episodes(study: Study) -> dict[str, Episode]:
    """The examples and qualification episodes of a study, by id.

    Raises:
        ConfigError: If one is missing, cannot be rated, or is an example without scores; or if an
            accepted range is of an agent that is not there.
    """
    if study.practice is None:
        shipped = files("sotopia_gym.web") / "practice.jsonl"
        known = [Episode.model_validate_json(line) for line in shipped.read_text().splitlines()]
    else:
        if not study.practice.is_file():
            raise ConfigError(f"there is no practice file {study.practice}.")
        known = list(Journal(study.practice))
    by_id = {episode.episode_id: episode for episode in known}
    wanted = (*study.examples, *(each.episode for each in study.qualification))
    for name in wanted:
        if name not in by_id:
            raise ConfigError(f"no practice episode {name!r}. {did_you_mean(name, by_id)}")
        check_ratable(by_id[name])
    for name in study.examples:
        judgement = by_id[name].judgement
        if judgement is None or not judgement.scored:
            raise ConfigError(f"the example {name!r} has no scores to show.")
    for each in study.qualification:
        agents = by_id[each.episode].task.agents
        for agent in each.accepted:
            if agent not in agents:
                raise ConfigError(
                    f"qualification {each.episode!r}: no agent {agent!r}. "
                    f"{did_you_mean(agent, agents)}"
                )
    return {name: by_id[name] for name in wanted}


def ratable(episodes: Iterable[Episode]) -> list[Episode]:
    """The episodes that people can rate: those that were played to their end, each once.

    Raises:
        ConfigError: If there are none, or one of them has no conversation or not two characters.
    """
    found = {episode.episode_id: episode for episode in episodes if episode.complete}
    for episode in found.values():
        check_ratable(episode)
    if not found:
        raise ConfigError("there are no episodes to rate: none was played to its end.")
    return list(found.values())


def check_ratable(episode: Episode) -> None:
    """Raise ConfigError unless ``episode`` is a conversation of two."""
    if not episode.has_transcript:
        raise ConfigError(f"episode {episode.episode_id} has no conversation to rate.")
    if len(episode.task.agents) != RATED_AGENTS:
        raise ConfigError(
            f"episode {episode.episode_id} has {len(episode.task.agents)} characters; ratings are "
            f"of conversations of {RATED_AGENTS}."
        )
