"""Mutual friends: two people find out which friend is on both their lists.

Source of the task: MutualFriends (He et al. 2017, arXiv 1704.07130), ten scenarios of which are in
SOTOPIA's official suite.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from sotopia_gym.envs.dialogue import ACTIVE_TYPES, Event
from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.background import Brief
from sotopia_gym.tasks.content import load_cast, load_content
from sotopia_gym.tasks.families.base import (
    Family,
    Outcome,
    Score,
    Scoring,
    Script,
    Split,
    Temperament,
    draw_characters,
    read_spec,
    require_read,
    said_to_all,
)
from sotopia_gym.tasks.families.mutual_friend_reading import (
    Names,
    Statement,
    follow,
    names_for,
    read_statement,
)
from sotopia_gym.tasks.families.mutual_friend_script import Friends, Seeker
from sotopia_gym.tasks.schema import Constraint, OutcomeSpec, RelationshipType, Scenario, Task


class MutualFriendSpec(BaseModel):
    """Ground truth of a mutual friend task.

    Attributes:
        knows: For each of the two agents the friends it knows, each with its attributes. First
            names are distinct within a list, so that a first name is enough to name a friend.
            Exactly one friend is on both lists: same name, same attributes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["mutual_friend"] = "mutual_friend"
    knows: dict[str, dict[str, dict[str, str]]]

    @model_validator(mode="after")
    def _one_in_common(self) -> MutualFriendSpec:
        if len(self.knows) != 2:
            raise ValueError(f"two agents look for a friend, got lists of {sorted(self.knows)}")
        for agent, friends in self.knows.items():
            firsts = [name.split()[0] for name in friends if name.strip()]
            if len(friends) < 2 or len(set(firsts)) != len(friends):
                raise ValueError(
                    f"{agent} needs at least two friends with different first names; "
                    f"got {list(friends)}"
                )
        if len(self._common()) != 1:
            raise ValueError(f"exactly one friend must be on both lists, got {self._common()}")
        return self

    def _common(self) -> list[str]:
        one, other = self.knows.values()
        return [name for name, attributes in one.items() if other.get(name) == attributes]

    @property
    def friend(self) -> str:
        """The one friend on both lists."""
        return self._common()[0]

    def goal(self, agent: str, named: Collection[str]) -> float:
        """Goal score of ``agent`` once the mutual friend is found.

        It is ``10 * (1 - in_vain / (n - 1))``, where ``n`` is how many friends the agent has and
        ``in_vain`` how many of them, other than the mutual one, are in ``named``: those it brought
        up by name before the other did. Found by attributes alone, the friend is worth 10; found
        by naming everybody, 0.
        """
        own = self.knows[agent]
        in_vain = len((own.keys() & set(named)) - {self.friend})
        return 10 * (1 - in_vain / (len(own) - 1))


class MutualFriendFamily(Family):
    """Finding the one friend that two people have in common."""

    name = "mutual_friend"
    version = 1

    def generate(self, seed: int, split: Split = "train") -> Task:
        rng = random.Random(f"mutual_friend-{self.version}-{split}-{seed}")
        content = load_content("mutual_friend", split)
        setting = rng.choice(content["scenes"])
        remark = rng.choice(content["remarks"])["text"]
        relationship = RelationshipType[rng.choice(setting["relationships"]).upper()]
        lists = _draw_lists(content, rng)
        templates = rng.sample(_GOALS, 2)
        task_id = f"mutual_friend-v{self.version}-{split}-{seed}"
        spec = MutualFriendSpec(knows=dict(zip(("agent_0", "agent_1"), lists, strict=True)))
        return Task(
            task_id=task_id,
            scenario=Scenario(
                scenario_id=task_id,
                codename=f"mutual friend: {setting['id'].replace('-', ' ')}",
                source="sotopia_gym mutual_friend family",
                context=f"{setting['scene']} {remark}",
                goals=tuple(
                    f"{text} {rng.choice(_ENDINGS)} <extra_info>Extra information: your friends "
                    f"are {_list_text(friends)}.</extra_info>"
                    for text, friends in zip(templates, lists, strict=True)
                ),
                relationship=relationship,
                constraints=(Constraint(), Constraint()),
                outcome=OutcomeSpec.model_validate(spec.model_dump()),
            ),
            characters=draw_characters(load_cast(split), relationship, rng),
        )

    def check(self, task: Task) -> None:
        mutual_friend_spec(task)

    def read(self, task: Task, events: Sequence[Event]) -> Outcome:
        """Whom both called their mutual friend: :func:`follow` has the rule.

        The terms are ``friend``, the one agreed on (who may be the wrong one), and ``named``: for
        each agent the others on its own list that it brought up by name before the other did, in
        words, gestures or deeds, until the agreement.
        """
        spec = mutual_friend_spec(task)
        agents = tuple(spec.knows)
        books = {agent: _names_of(spec, agent) for agent in agents}
        agreement = follow(
            (
                Statement(e.agent, e.turn, read_statement(e.action.argument, books[e.agent]))
                for e in said_to_all(events, agents)
            ),
            agents,
        ).agreement
        if agreement is None:
            return Outcome(family=self.name, status="no-agreement")
        named = _brought_up(spec, [e for e in events if e.turn <= agreement.turn], books)
        return Outcome(
            family=self.name,
            status="agreement",
            terms={
                "friend": agreement.friend,
                "named": {a: [n for n in named[a] if n != agreement.friend] for a in agents},
            },
            turn=agreement.turn,
        )

    def score(self, task: Task, outcome: Outcome) -> Scoring:
        """Score by :meth:`MutualFriendSpec.goal`; no agreement or a wrong friend is 0 for both.

        Names brought up in vain therefore cost only those who find the friend in the end: without
        an agreement there is nothing left to lose. The ceiling is 10 for both at once, reached
        when neither names anybody in vain, so ``normalised`` is ``goal / 10``.
        """
        require_read(outcome, self.name)
        spec = mutual_friend_spec(task)
        if not outcome.agreed or outcome.terms.get("friend") != spec.friend:
            return Scoring({agent: Score(0.0, 0.0) for agent in spec.knows}, 0.0, False)
        named: Mapping[str, Any] = outcome.terms.get("named", {})
        goals = {agent: spec.goal(agent, named.get(agent, ())) for agent in spec.knows}
        return Scoring(
            scores={agent: Score(goal, goal / 10) for agent, goal in goals.items()},
            surplus=sum(goals.values()),
            pareto_optimal=all(goal == 10 for goal in goals.values()),
        )

    def script(self, brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
        friends = friends_in(brief.goal)
        if len(friends) < 2:
            return None
        return Seeker(brief, friends, temperament=temperament, rng=rng)


def mutual_friend_spec(task: Task) -> MutualFriendSpec:
    """The mutual friend ground truth of ``task``.

    Raises:
        TaskError: If it has none, or a malformed one.
    """
    spec = read_spec(task, "mutual_friend", MutualFriendSpec)
    if not spec.knows.keys() <= set(task.agents):
        raise TaskError(f"task {task.task_id}: those with friends must be among {task.agents}.")
    return spec


def friends_in(goal: str) -> dict[str, dict[str, str]]:
    """The friends that a goal text lists, with their attributes; ``{}`` if it lists none.

    Two layouts are read, with or without visibility tags: this family's own, ``Vita Olsen (hobby:
    rowing; town: Thornby), ...``, and SOTOPIA's, ``Vita: Hobby: Rowing  Company: Tern Bakery`` with
    two blanks between attributes and a line break, or more than two blanks, between friends.
    """
    text = re.sub(r"</?[a-z_]+[^<>]*>", "", goal)
    header = re.search(r"know the following friends\s*:?", text)
    if header is not None:
        entries = re.split(r"\s*\n\s*|\s{3,}", text[header.end() :].strip())
        found = {
            name.strip(): _attributes(re.split(r"\s{2}", told))
            for name, _, told in (entry.partition(":") for entry in entries)
        }
    elif re.search(r"\bfriends? (?:are|in common)\b", text):
        found = {m["name"]: _attributes(m["told"].split("; ")) for m in _ENTRY.finditer(text)}
    else:
        return {}
    return {name: attributes for name, attributes in found.items() if name and attributes}


_ENTRY: Final = re.compile(
    r"(?P<name>[^\W\d_a-z][\w'’-]*(?: [^\W\d_a-z][\w'’-]*)*) \((?P<told>[^():;]+: [^();]+"
    r"(?:; [^():;]+: [^();]+)*)\)"
)


def _attributes(parts: Iterable[str]) -> dict[str, str]:
    pairs = [part.partition(": ") for part in parts]
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip() and value.strip()}


def _names_of(spec: MutualFriendSpec, agent: str) -> Names:
    (other,) = (a for a in spec.knows if a != agent)
    values = {
        v for friends in spec.knows.values() for who in friends.values() for v in who.values()
    }
    return names_for(tuple(spec.knows[agent]), tuple(spec.knows[other]), tuple(sorted(values)))


def _brought_up(
    spec: MutualFriendSpec, events: Sequence[Event], books: Mapping[str, Names]
) -> dict[str, list[str]]:
    """For each agent the friends on its list that it named before the other did.

    Deeds and gestures count too, or a list of names could be shown instead of read out; so do
    initials and first letters, or names could be compared without being said.
    """
    named: dict[str, list[str]] = {agent: [] for agent in spec.knows}
    heard: set[str] = set()
    for _, together in groupby(events, key=lambda event: event.turn):
        now: set[str] = set()
        for event in together:
            if (
                event.agent not in named
                or event.action.action_type not in ACTIVE_TYPES
                or not all(map(event.visible_to, spec.knows))
            ):
                continue
            own, book, text = named[event.agent], books[event.agent], event.action.argument
            for person in (*book.encode(text)[1], *book.hinted(text)):
                now.add(person)
                if person in spec.knows[event.agent] and person not in heard and person not in own:
                    own.append(person)
        heard |= now
    return named


# --- generation -----------------------------------------------------------------------------

_GOALS: Final = (
    "You and the other person have exactly one friend in common: the same name, the same details. "
    "Find out together who it is. Running through your friends by name would be tactless, and "
    "every name that you bring up in vain counts against you.",
    "Work out which of your friends the other person knows too; there is exactly one. Get there by "
    "talking about what people do and like, because each wrong name that you are the first to "
    "mention costs you something.",
    "One of your friends, and only one, is also a friend of the other person. You would like the "
    "two of you to settle who it is, and to have let slip as few other names as possible.",
    "You want both of you to be sure who your one friend in common is. Be discreet: compare "
    "details first, because every other friend whose name you drop before the other does takes "
    "something away from your success.",
    "Find the one friend you have in common with the other person and make sure that you both say "
    "so. Your friends would not like to be listed to a near stranger, so each wrong name that "
    "comes from you spoils things a little.",
)
_ENDINGS: Final = (
    "It counts only once both of you have said clearly that you know this friend: with the wrong "
    "one or with none you gain nothing. Initials and first letters count as names.",
    "Unless you both end up saying that you know the same, right person, all is in vain; and a "
    "first letter or initials are as good as a name.",
    "Nothing is gained before each of you has told the other that this friend is theirs, nor with "
    "the wrong friend. To give initials or a first letter is to give the name.",
)


def _list_text(friends: Friends) -> str:
    return ", ".join(
        f"{name} ({'; '.join(f'{kind}: {value}' for kind, value in attributes.items())})"
        for name, attributes in friends.items()
    )


def _draw_lists(content: Mapping[str, Any], rng: random.Random) -> list[dict[str, dict[str, str]]]:
    """Two lists of 6 to 10 friends, one of whom is on both.

    No two people have all attributes in common, so that talk about attributes is enough; many have
    all but one in common with the mutual friend. In half of the tasks two different people, one on
    each list, share a first name.
    """
    sizes = [rng.randint(6, 10) for _ in range(2)]
    total = sum(sizes) - 1
    kinds = rng.sample(content["attributes"], rng.choice((2, 3, 3, 4)))
    pools = {k["kind"]: rng.sample(k["values"], 6 if len(kinds) == 2 else 4) for k in kinds}
    mutual = {kind: rng.choice(pool) for kind, pool in pools.items()}
    people = [mutual]
    while len(people) < total:
        person = {kind: rng.choice(pool) for kind, pool in pools.items()}
        if rng.random() < 0.35:
            differing = rng.choice(list(pools))
            person = mutual | {differing: person[differing]}
        if person not in people:
            people.append(person)
    firsts = [entry["name"] for entry in rng.sample(content["first_names"], total)]
    if rng.random() < 0.5:
        firsts[sizes[0]] = firsts[1]
    surnames = [entry["name"] for entry in rng.sample(content["surnames"], total)]
    named = [
        (f"{first} {surname}", person)
        for first, surname, person in zip(firsts, surnames, people, strict=True)
    ]
    lists = [named[: sizes[0]], [named[0], *named[sizes[0] :]]]
    for friends in lists:
        rng.shuffle(friends)
    return [dict(friends) for friends in lists]
