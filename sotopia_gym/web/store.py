"""A study on disk: who rates, what was given to whom, and every rating."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from sotopia_gym.agents.base import derive_seed
from sotopia_gym.episodes.schema import DimensionScore, Episode
from sotopia_gym.errors import ConfigError, UnknownIdError, did_you_mean
from sotopia_gym.web.database import Database, digest, new_token
from sotopia_gym.web.form import Rating, Scores
from sotopia_gym.web.quota import attention_check, needed
from sotopia_gym.web.study import Study

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS raters (
  rater INTEGER PRIMARY KEY,
  pseudonym TEXT NOT NULL UNIQUE,
  return_code TEXT NOT NULL UNIQUE,
  consented_at REAL NOT NULL,
  qualified INTEGER,
  dropped INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS sessions (
  token TEXT PRIMARY KEY,
  rater INTEGER NOT NULL REFERENCES raters ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS episodes (
  episode TEXT PRIMARY KEY,
  practice INTEGER NOT NULL,
  body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS assignments (
  assignment INTEGER PRIMARY KEY,
  token TEXT NOT NULL UNIQUE,
  rater INTEGER NOT NULL REFERENCES raters ON DELETE CASCADE,
  episode TEXT NOT NULL REFERENCES episodes,
  given_at REAL NOT NULL,
  leased_until REAL NOT NULL,
  asked INTEGER,
  UNIQUE (rater, episode)
);
CREATE TABLE IF NOT EXISTS ratings (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  assignment INTEGER NOT NULL UNIQUE REFERENCES assignments ON DELETE CASCADE,
  submitted_at REAL NOT NULL,
  answered INTEGER,
  accepted INTEGER
);
CREATE TABLE IF NOT EXISTS scores (
  assignment INTEGER NOT NULL REFERENCES ratings (assignment) ON DELETE CASCADE,
  agent TEXT NOT NULL,
  dimension TEXT NOT NULL,
  score INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (assignment, agent, dimension)
);
"""

Ending = Literal["done", "waiting", "unqualified", "dropped"]
"""Why a rater has nothing to rate: all is rated, others are at it, or the rater was turned away."""


@dataclass(frozen=True, slots=True)
class Rater:
    """Somebody who takes part.

    Attributes:
        rater: Number in the file.
        pseudonym: The name everybody else knows.
    """

    rater: int
    pseudonym: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """An episode that a rater is to rate.

    Attributes:
        token: What the rater's form names it by.
        episode: The episode.
        practice: Whether it is for qualification.
        asked: The number to choose in the attention check; None if there is none.
        done: How many the rater has rated: of the study's, or of those for qualification.
        total: How many that will be at the end, if nobody else rates.
    """

    token: str
    episode: Episode
    practice: bool
    asked: int | None
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """A rating that was submitted for an episode of the study.

    Attributes:
        episode_id: The episode.
        pseudonym: Who rated it.
        scores: Agent to dimension to score.
        submitted_at: When, in seconds since 1970.
        seconds: How long after it was first shown.
        attention: Whether the attention check was passed; None if there was none.
        counts: Whether it is one of those that the episode needed. Beyond them are ratings of
            raters who were dropped, and those of an episode that was given to somebody else when
            its time was over and then rated by both.
    """

    episode_id: str
    pseudonym: str
    scores: Scores
    submitted_at: float
    seconds: float
    attention: bool | None
    counts: bool


@dataclass(frozen=True, slots=True)
class RaterStatus:
    """How a rater is getting on.

    Attributes:
        pseudonym: Who.
        qualified: Whether the qualification was passed; None while it goes on.
        dropped: Whether too many attention checks were failed.
        rated: Episodes rated.
        checks: Attention checks taken.
        failed: How many of those were failed.
    """

    pseudonym: str
    qualified: bool | None
    dropped: bool
    rated: int
    checks: int
    failed: int


@dataclass(frozen=True, slots=True)
class Status:
    """How a study is getting on.

    Attributes:
        episodes: Episodes in it.
        finished: How many have all the ratings they need.
        relaunched: How many need one more because raters disagreed, or have it.
        ratings: Ratings that count.
        missing: Ratings that are still needed, as far as is known.
        leased: Episodes that are with a rater now.
        raters: Everybody who agreed to take part.
    """

    episodes: int
    finished: int
    relaunched: int
    ratings: int
    missing: int
    leased: int
    raters: tuple[RaterStatus, ...] = ()


@dataclass(slots=True)
class _Load:
    """What an episode has: ratings that may count, oldest first, and who is at it."""

    raters: list[int] = field(default_factory=list)
    goals: list[Mapping[str, float]] = field(default_factory=list)
    leases: set[int] = field(default_factory=set)


class StudyStore:
    """The file of a study. Threads and processes may use it at the same time.

    Args:
        path: The file.
        study: The study's rules; None for those it was last served with.
        episodes: Episodes to be rated; those that are there stay.
        practice: Examples and qualification episodes.
        now: The clock, in seconds since 1970.

    Attributes:
        study: The study's rules.

    Raises:
        ConfigError: If the file is not a study.
    """

    def __init__(
        self,
        path: Path,
        study: Study | None = None,
        episodes: Iterable[Episode] = (),
        practice: Iterable[Episode] = (),
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.database = Database(path, "study", _SCHEMA)
        self._now = now
        with self.database.transaction() as connection:
            for number, group in enumerate((episodes, practice)):
                connection.executemany(
                    "INSERT OR IGNORE INTO episodes VALUES (?, ?, ?)",
                    ((each.episode_id, number, _body(each)) for each in group),
                )
            if study is not None:
                rules = ("rules", study.model_dump_json())
                connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", rules)
            row = connection.execute("SELECT value FROM meta WHERE key = 'rules'").fetchone()
        if row is None:
            raise ConfigError(f"{path} holds no study yet: serve it first.")
        self.study = Study.model_validate_json(row["value"])
        self._qualification = {each.episode: each for each in self.study.qualification}

    # --- Who is there

    def enroll(self) -> tuple[Rater, str, str]:
        """Take in somebody who has agreed to take part.

        Returns:
            The rater, the secret of the session, and the code to come back with from elsewhere.
            Neither can be told again.
        """
        session, code = new_token(), new_token()
        with self.database.transaction() as connection:
            pseudonym = f"r{secrets.token_hex(5)}"
            added = connection.execute(
                "INSERT INTO raters (pseudonym, return_code, consented_at, qualified) "
                "VALUES (?, ?, ?, ?)",
                (pseudonym, digest(code), self._now(), None if self._qualification else 1),
            )
            rater = int(added.lastrowid or 0)
            connection.execute("INSERT INTO sessions VALUES (?, ?)", (digest(session), rater))
        return Rater(rater, pseudonym), session, code

    def come_back(self, code: str) -> str | None:
        """The secret of a new session of the rater with this code; None if nobody has it."""
        session = new_token()
        with self.database.transaction() as connection:
            added = connection.execute(
                "INSERT INTO sessions SELECT ?, rater FROM raters WHERE return_code = ?",
                (digest(session), digest(code)),
            )
        return session if added.rowcount else None

    def rater(self, session: str) -> Rater | None:
        """Whose session this is; None if it is nobody's."""
        with self.database.reading() as connection:
            row = connection.execute(
                "SELECT rater, pseudonym FROM sessions JOIN raters USING (rater) WHERE token = ?",
                (digest(session),),
            ).fetchone()
        return None if row is None else Rater(row["rater"], row["pseudonym"])

    def forget(self, pseudonym: str) -> int:
        """Delete a rater with all ratings.

        Returns:
            How many ratings that were, practice included.

        Raises:
            UnknownIdError: If there is no such rater.
        """
        with self.database.transaction() as connection:
            rows = connection.execute("SELECT rater, pseudonym FROM raters").fetchall()
            by_name = {row["pseudonym"]: row["rater"] for row in rows}
            if pseudonym not in by_name:
                raise UnknownIdError(f"no rater {pseudonym!r}. {did_you_mean(pseudonym, by_name)}")
            rater = (by_name[pseudonym],)
            query = (
                "SELECT COUNT(*) AS n FROM ratings JOIN assignments USING (assignment) "
                "WHERE rater = ?"
            )
            count = int(connection.execute(query, rater).fetchone()["n"])
            connection.execute("DELETE FROM raters WHERE rater = ?", rater)
        return count

    # --- Giving out and taking in

    def next(self, rater: int) -> Assignment | Ending:
        """What ``rater`` is to rate now: the same until it is submitted or its time is over.

        An episode is given to no more raters than it needs ratings. It is kept for them for the
        time of a lease, from when it was last asked for.
        """
        with self.database.transaction() as connection:
            who = connection.execute("SELECT * FROM raters WHERE rater = ?", (rater,)).fetchone()
            if who is None or who["dropped"]:
                return "dropped"
            if not who["qualified"]:
                if who["qualified"] is not None:
                    return "unqualified"
                to_practise = self._next_practice(connection, rater)
                if to_practise is not None:
                    return to_practise
            return self._next_rated(connection, rater, who["pseudonym"])

    def submit(self, rater: int, token: str, rating: Rating) -> bool:
        """Keep a rating; it is on disk when this returns.

        Args:
            rater: Whose it is.
            token: The assignment.
            rating: The rating. One for an assignment that has one already changes nothing.

        Returns:
            Whether it was kept.

        Raises:
            UnknownIdError: If the rater has no such assignment.
        """
        with self.database.transaction() as connection:
            row = self._assignment(connection, rater, token)
            if row["number"] is not None:
                return False
            scores, now = rating.scores, self._now()
            qualification = self._qualification.get(row["episode"])
            accepted = None if qualification is None else qualification.passed(scores)
            connection.execute(
                "INSERT INTO ratings (assignment, submitted_at, answered, accepted) "
                "VALUES (?, ?, ?, ?)",
                (row["assignment"], now, rating.check, accepted),
            )
            connection.executemany(
                "INSERT INTO scores VALUES (?, ?, ?, ?, ?)",
                (
                    (row["assignment"], agent, name, int(each.score), each.reasoning)
                    for agent, given in scores.items()
                    for name, each in given.items()
                ),
            )
            if row["practice"]:
                self._qualify(connection, rater)
            elif row["asked"] is not None and rating.check != row["asked"]:
                self._drop_careless(connection, rater)
        return True

    def assignment(self, rater: int, token: str) -> Assignment | None:
        """An assignment of ``rater``, with its lease renewed; None if it was submitted.

        Raises:
            UnknownIdError: If the rater has no such assignment.
        """
        with self.database.transaction() as connection:
            row = self._assignment(connection, rater, token)
            return None if row["number"] is not None else self._given(connection, row)

    # --- What has come in

    def submitted(self) -> list[Submitted]:
        """Every rating of the study's episodes, by episode and then in the order they came."""
        with self.database.reading() as connection:
            counting = self._counting(connection)
            scores: dict[int, Scores] = defaultdict(lambda: defaultdict(dict))
            for row in connection.execute("SELECT * FROM scores ORDER BY rowid"):
                given = DimensionScore(score=row["score"], reasoning=row["reason"])
                scores[row["assignment"]][row["agent"]][row["dimension"]] = given
            rows = connection.execute(
                "SELECT * FROM ratings JOIN assignments USING (assignment) JOIN raters USING "
                "(rater) JOIN episodes USING (episode) WHERE NOT practice "
                "ORDER BY episodes.rowid, number"
            ).fetchall()
        return [
            Submitted(
                episode_id=row["episode"],
                pseudonym=row["pseudonym"],
                scores={agent: dict(given) for agent, given in scores[row["assignment"]].items()},
                submitted_at=row["submitted_at"],
                seconds=row["submitted_at"] - row["given_at"],
                attention=None if row["asked"] is None else row["asked"] == row["answered"],
                counts=(row["episode"], row["rater"]) in counting,
            )
            for row in rows
        ]

    def episodes(self) -> list[Episode]:
        """The study's episodes, in the order in which they were given."""
        with self.database.reading() as connection:
            query = "SELECT body FROM episodes WHERE NOT practice ORDER BY rowid"
            bodies = [row["body"] for row in connection.execute(query)]
        return [Episode.model_validate_json(body) for body in bodies]

    def status(self) -> Status:
        """How the study is getting on."""
        with self.database.reading() as connection:
            loads = self._loads(connection)
            raters = connection.execute(
                "SELECT pseudonym, qualified, dropped, "
                "COUNT(number) FILTER (WHERE NOT practice) AS rated, "
                "COUNT(number) FILTER (WHERE asked IS NOT NULL) AS checks, "
                "COUNT(number) FILTER (WHERE asked IS NOT answered) AS failed "
                "FROM raters LEFT JOIN assignments USING (rater) LEFT JOIN episodes "
                "USING (episode) LEFT JOIN ratings USING (assignment) "
                "GROUP BY rater ORDER BY rater"
            ).fetchall()
        wanted = {name: self._needed(load) for name, load in loads.items()}
        have = {name: min(len(load.goals), wanted[name]) for name, load in loads.items()}
        return Status(
            episodes=len(loads),
            finished=sum(have[name] == wanted[name] for name in loads),
            relaunched=sum(count > self.study.ratings for count in wanted.values()),
            ratings=sum(have.values()),
            missing=sum(wanted.values()) - sum(have.values()),
            leased=sum(bool(load.leases) for load in loads.values()),
            raters=tuple(
                RaterStatus(
                    pseudonym=row["pseudonym"],
                    qualified=None if row["qualified"] is None else bool(row["qualified"]),
                    dropped=bool(row["dropped"]),
                    rated=row["rated"],
                    checks=row["checks"],
                    failed=row["failed"],
                )
                for row in raters
            ),
        )

    # --- Inside of a transaction

    def _assignment(self, connection: sqlite3.Connection, rater: int, token: str) -> sqlite3.Row:
        row: sqlite3.Row | None = connection.execute(
            "SELECT assignments.*, practice, body, number FROM assignments JOIN episodes "
            "USING (episode) LEFT JOIN ratings USING (assignment) WHERE rater = ? AND token = ?",
            (rater, token),
        ).fetchone()
        if row is None:
            raise UnknownIdError("no episode was given to you under this name.")
        return row

    def _next_practice(self, connection: sqlite3.Connection, rater: int) -> Assignment | None:
        rated = self._rated(connection, rater, practice=True)
        for name in self._qualification:
            if name not in rated:
                row = self._give(connection, rater, name, asked=None)
                return self._given(connection, row)
        return None

    def _next_rated(
        self, connection: sqlite3.Connection, rater: int, pseudonym: str
    ) -> Assignment | Ending:
        rated = self._rated(connection, rater, practice=False)
        if self.study.per_rater is not None and len(rated) >= self.study.per_rater:
            return "done"
        loads = self._loads(connection)
        query = (
            "SELECT episode FROM assignments JOIN episodes USING (episode) "
            "WHERE rater = ? AND NOT practice ORDER BY assignment DESC"
        )
        given = [row["episode"] for row in connection.execute(query, (rater,))]
        possible = self._open_to(loads, rater, rated)
        chosen = next((name for name in given if name in possible), None)
        if chosen is None:
            fresh = [name for name in possible if name not in given]
            if not fresh:
                others_at_it = any(
                    len(load.goals) < self._needed(load)
                    for name, load in loads.items()
                    if name not in rated
                )
                return "waiting" if others_at_it else "done"
            seed = self.study.seed
            # Those that others have rated first: so episodes are finished one after the other.
            chosen = min(
                fresh,
                key=lambda name: (
                    -len(loads[name].goals),
                    derive_seed(seed, f"{pseudonym}/{name}"),
                ),
            )
        asked = attention_check(self.study.seed, pseudonym, len(given), self.study.attention_every)
        row = self._give(connection, rater, chosen, asked=asked)
        return self._given(connection, row)

    def _rated(self, connection: sqlite3.Connection, rater: int, *, practice: bool) -> set[str]:
        """What a rater has rated."""
        rows = connection.execute(
            "SELECT episode FROM ratings JOIN assignments USING (assignment) JOIN episodes "
            "USING (episode) WHERE rater = ? AND practice = ?",
            (rater, practice),
        )
        return {row["episode"] for row in rows}

    def _open_to(self, loads: Mapping[str, _Load], rater: int, rated: Set[str]) -> list[str]:
        """The episodes that could be given to a rater now."""
        return [
            name
            for name, load in loads.items()
            if name not in rated and self._room(load, rater) > 0
        ]

    def _give(
        self, connection: sqlite3.Connection, rater: int, episode: str, *, asked: int | None
    ) -> sqlite3.Row:
        """The rater's assignment of an episode, made if it is not there."""
        now = self._now()
        connection.execute(
            "INSERT OR IGNORE INTO assignments "
            "(token, rater, episode, given_at, leased_until, asked) VALUES (?, ?, ?, ?, ?, ?)",
            (new_token(), rater, episode, now, now, asked),
        )
        query = "SELECT token FROM assignments WHERE rater = ? AND episode = ?"
        token = connection.execute(query, (rater, episode)).fetchone()["token"]
        return self._assignment(connection, rater, token)

    def _given(self, connection: sqlite3.Connection, row: sqlite3.Row) -> Assignment:
        """An assignment for its rater, who has time for it from now."""
        connection.execute(
            "UPDATE assignments SET leased_until = ? WHERE assignment = ?",
            (self._now() + 60 * self.study.lease_minutes, row["assignment"]),
        )
        rater, practice = row["rater"], bool(row["practice"])
        rated = self._rated(connection, rater, practice=practice)
        if practice:
            total = len(self._qualification)
        else:
            total = len(rated) + len(self._open_to(self._loads(connection), rater, rated))
            total = min(total, self.study.per_rater or total)
        return Assignment(
            token=row["token"],
            episode=Episode.model_validate_json(row["body"]),
            practice=practice,
            asked=row["asked"],
            done=len(rated),
            total=total,
        )

    def _loads(self, connection: sqlite3.Connection) -> dict[str, _Load]:
        """What each episode of the study has, without what is of raters who were dropped."""
        query = "SELECT episode FROM episodes WHERE NOT practice ORDER BY rowid"
        loads = {row["episode"]: _Load() for row in connection.execute(query)}
        goals: dict[int, dict[str, float]] = defaultdict(dict)
        for row in connection.execute(
            "SELECT assignment, agent, score FROM scores WHERE dimension = 'goal'"
        ):
            goals[row["assignment"]][row["agent"]] = row["score"]
        rows = connection.execute(
            "SELECT assignment, episode, rater, number, leased_until FROM assignments "
            "JOIN raters USING (rater) LEFT JOIN ratings USING (assignment) "
            "WHERE NOT dropped ORDER BY number"
        )
        now = self._now()
        for row in rows:
            load = loads.get(row["episode"])
            if load is None:
                continue
            if row["number"] is not None:
                load.raters.append(row["rater"])
                load.goals.append(goals[row["assignment"]])
            elif row["leased_until"] > now:
                load.leases.add(row["rater"])
        return loads

    def _needed(self, load: _Load) -> int:
        return needed(load.goals, self.study.ratings, self.study.relaunch_gap)

    def _room(self, load: _Load, rater: int) -> int:
        """How many more raters an episode can be given to, if ``rater`` is one of them."""
        return self._needed(load) - len(load.goals) - len(load.leases - {rater})

    def _counting(self, connection: sqlite3.Connection) -> set[tuple[str, int]]:
        """Episodes with the raters whose ratings count."""
        return {
            (name, rater)
            for name, load in self._loads(connection).items()
            for rater in load.raters[: self._needed(load)]
        }

    def _qualify(self, connection: sqlite3.Connection, rater: int) -> None:
        """Decide whether a rater is qualified, once all of it is rated."""
        query = (
            "SELECT episode, accepted FROM ratings JOIN assignments USING (assignment) "
            "WHERE rater = ?"
        )
        accepted = {row["episode"]: row["accepted"] for row in connection.execute(query, (rater,))}
        if self._qualification.keys() <= accepted.keys():
            connection.execute(
                "UPDATE raters SET qualified = ? WHERE rater = ?",
                (all(accepted[name] for name in self._qualification), rater),
            )

    def _drop_careless(self, connection: sqlite3.Connection, rater: int) -> None:
        """Take no more ratings from who has failed too many attention checks."""
        query = (
            "SELECT COUNT(*) AS n FROM ratings JOIN assignments USING (assignment) "
            "WHERE rater = ? AND asked IS NOT NULL AND asked IS NOT answered"
        )
        failed = connection.execute(query, (rater,)).fetchone()["n"]
        if failed > self.study.failed_checks:
            connection.execute("UPDATE raters SET dropped = 1 WHERE rater = ?", (rater,))


def _body(episode: Episode) -> str:
    """An episode without its token ids, which are many and which no rater sees."""
    return episode.model_dump_json(exclude_defaults=True, exclude={"tokens"})
