"""Episodes as records of the original SOTOPIA: of its released data set, and of its database.

An imported record comes back as it was, field for field. Fields that are not what is written here
for its episode are kept by the import, in ``extra["sotopia"]`` by format
(:func:`unlike_ours`), and take precedence.

How an episode that was played here fills the records (``release``; ``episode_log``):

    ``episode_id``; ``pk``: the episode's id.
    ``environment_id``, ``codename``, ``scenario``; ``environment``: id, short name and scene of the
        scenario, its visibility tags included.
    ``agent_ids``; ``agents``: the characters' ids. Their profiles are not in the records.
    ``experiment_tag``; ``tag``: ``"sotopia-gym"`` and the version that made it.
    ``experiment_model_name_pairs``; ``models``: the judge, then each agent's player, as specs;
        empty where unknown.
    ``raw_messages``; ``messages``: for each turn, triples of sender, receiver and text: what the
        environment tells each agent (first the scene, as that agent may know it; then what it
        perceived of the turn before), then what each agent did, "did nothing" for those that had
        no turn. What was private has those who perceived it as receiver, joined by commas. The
        last turn holds the environment's messages only.
    ``raw_rewards``; ``rewards``: for each agent the mean of its scores and the scores, that mean
        with them as ``overall_score``; 0.0 and no scores where it is unscored. The release also has
        ``rewards``, the scores alone, and ``scores``, the goal score by name.
    ``reasoning``: why the conversation ended, and the judge's reasons for the seven dimensions.
    ``raw_rewards_prompt``; ``rewards_prompt``: empty: what a judge was asked is not kept.
    ``agents_background``, ``social_goals``: each character's biography with its secret, and goal
        with tags, by name.
    ``social_interactions``: what was said and done, one turn a paragraph.

Not in these records are the ground truth of the task and the outcome, notes of events, token ids,
usage, seeds and rules, silence of agents whose turn it was not, and all judgements but one: that
which was recorded with an imported episode, else the latest that has scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

from sotopia_gym.envs.dialogue import Action, Event
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.schema import DimensionScore, Episode, Judgement
from sotopia_gym.episodes.summary import scored
from sotopia_gym.tasks.background import acquaintance_with
from sotopia_gym.tasks.schema import RelationshipType, Task
from sotopia_gym.tasks.visibility import render

RecordFormat = Literal["release", "episode_log"]
RECORD_FORMATS: Final[tuple[RecordFormat, ...]] = get_args(RecordFormat)

RECORDED: Final = " (recorded)"
"""What the name of a judge ends with whose scores somebody else recorded."""

KEPT: Final = "sotopia"
"""Where in an episode's ``extra`` the import keeps what is not written here."""

_SENDER: Final = "Environment"
_MESSAGES: Final = {"release": "raw_messages", "episode_log": "messages"}
# What the import notes beside the fields of a record that have no place of their own.
_NOTES: Final = ("comments", "overall_scores", "context")


def record(episode: Episode, kind: RecordFormat) -> dict[str, Any]:
    """An episode as a record of the original system; see the module.

    Args:
        episode: A complete episode with its conversation.
        kind: ``"release"`` for the released data set, ``"episode_log"`` for the database.
    """
    kept = episode.extra.get(KEPT, {}).get(kind, {})
    made = _made(episode, kind, kept.get("introductions"))
    for name in kept.get("absent", ()):
        made.pop(name, None)
    return {**made, **kept.get("fields", {})}


def unlike_ours(
    episode: Episode, kind: RecordFormat, original: Mapping[str, Any]
) -> dict[str, Any]:
    """What has to be kept of a record for it to come back as it was; empty if nothing.

    Args:
        episode: What was made of the record.
        kind: Its format.
        original: The record.

    Returns:
        ``introductions``: what the environment told each agent first, where the rest of the
        messages is as it is made here; ``fields``: others that differ; ``absent``: the names of
        those that the record lacks.
    """
    kept: dict[str, Any] = {}
    made = _made(episode, kind)
    messages = _MESSAGES[kind]
    if _differ(made[messages], original.get(messages)):
        introductions = [text for sender, _, text in original[messages][0] if sender == _SENDER]
        told = _made(episode, kind, introductions)
        if not _differ(told[messages], original[messages]):
            made, kept["introductions"] = told, introductions
    fields = {
        name: value
        for name, value in original.items()
        if name not in made or _differ(made[name], value)
    }
    absent = [name for name in made if name not in original]
    found = (("fields", fields), ("absent", absent))
    return kept | {name: what for name, what in found if what}


def _differ(one: Any, other: Any) -> bool:
    # Python takes true for 1, JSON does not.
    return repr(one) != repr(other) and (one != other or _flags(one) != _flags(other))


def _flags(value: Any) -> list[bool]:
    """All truth values inside of a JSON value."""
    if isinstance(value, bool):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return []
    return [flag for each in value for flag in _flags(each)]


def _made(
    episode: Episode, kind: RecordFormat, introductions: Sequence[str] | None = None
) -> dict[str, Any]:
    """The record without what was kept of another's."""
    task, rest = episode.task, _rest(episode, kind)
    judgement = _judgement(episode)
    players = [episode.agents.get(agent, "") for agent in task.agents]
    judge = "" if judgement is None else judgement.judge.removesuffix(RECORDED)
    tag = rest.get("experiment_tag", rest.get("tag"))
    told = {
        "id": episode.episode_id,
        "environment": task.scenario.scenario_id,
        "agents": [character.character_id for character in task.characters],
        "tag": tag or f"sotopia-gym {episode.library_version}".strip(),
        "models": [judge, *players],
        "messages": _messages(episode, introductions),
        "interactions": _interactions(episode),
        "reasoning": _reasoning(episode, judgement),
        "rewards": [_reward(judgement, agent) for agent in task.agents],
    }
    made = _log(told) if kind == "episode_log" else _release(told, task, judgement)
    return made | {name: value for name, value in rest.items() if name not in made}


def _log(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pk": told["id"],
        "environment": told["environment"],
        "agents": told["agents"],
        "tag": told["tag"],
        "models": told["models"],
        "messages": told["messages"],
        "reasoning": told["reasoning"],
        "rewards": told["rewards"],
        "rewards_prompt": "",
    }


def _release(told: Mapping[str, Any], task: Task, judgement: Judgement | None) -> dict[str, Any]:
    scores = {
        name: goal
        for agent, name in task.names.items()
        if judgement is not None and (goal := judgement.goal(agent)) is not None
    }
    return {
        "episode_id": told["id"],
        "environment_id": told["environment"],
        "agent_ids": told["agents"],
        "experiment_tag": told["tag"],
        "experiment_model_name_pairs": told["models"],
        "raw_messages": told["messages"],
        "raw_rewards": told["rewards"],
        "raw_rewards_prompt": "",
        "scenario": task.scenario.context,
        "codename": task.scenario.codename,
        "agents_background": {
            name: _biography(task, agent, RelationshipType.FAMILY, secret=True)
            for agent, name in task.names.items()
        },
        "social_goals": dict(zip(task.names.values(), task.scenario.goals, strict=True)),
        "social_interactions": told["interactions"],
        "reasoning": told["reasoning"],
        "rewards": [scores for _, scores in told["rewards"]],
        "scores": scores,
    }


def _rest(episode: Episode, kind: RecordFormat) -> dict[str, Any]:
    """Fields of an imported record that have no place in an episode."""
    of_format = episode.extra.get(kind)
    if episode.source is None or not of_format:
        return {}
    return {
        name: value
        for name, value in of_format[0].items()
        if name not in _NOTES and not name.startswith("goal of ")
    }


def _judgement(episode: Episode) -> Judgement | None:
    recorded = [j for j in episode.judgements if j.judge.endswith(RECORDED)]
    if episode.source is not None and recorded:
        return recorded[0]
    return scored(episode)


# --- The conversation


def _messages(episode: Episode, introductions: Sequence[str] | None) -> list[list[list[str]]]:
    task = episode.task
    names = task.names
    by_turn = _by_turn(episode)
    if introductions is None or len(introductions) != len(names):
        introductions = [_introduction(episode, agent) for agent in task.agents]
    told = [[_SENDER, name, text] for name, text in zip(names.values(), introductions, strict=True)]
    turns = []
    for turn, events in enumerate(by_turn):
        acts = {event.agent: event.action for event in events}
        turns.append([*told, *(_act(agent, acts.get(agent), names) for agent in task.agents)])
        told = [
            [_SENDER, names[agent], f"Turn #{turn}: {_perceived(events, agent, names)}\n"]
            for agent in task.agents
        ]
    return [*turns, told]


def _by_turn(episode: Episode) -> list[list[Event]]:
    """The events of each turn."""
    turns: list[list[Event]] = [
        [] for _ in range(max((event.turn for event in episode.events), default=0))
    ]
    for event in episode.events:
        turns[event.turn - 1].append(event)
    return turns


def _act(agent: str, action: Action | None, names: Mapping[str, str]) -> list[str]:
    to = () if action is None else action.to
    receiver = ", ".join(names[other] for other in to) or _SENDER
    return [names[agent], receiver, "did nothing" if action is None else written(action)]


def _perceived(events: list[Event], agent: str, names: Mapping[str, str]) -> str:
    return ";".join(
        f"{names[event.agent]} {written(event.action)}"
        for event in events
        if event.action.action_type != "none" and event.visible_to(agent)
    )


def written(action: Action) -> str:
    """An action in the words of the original system."""
    if action.action_type == "none":
        return "did nothing"
    if action.action_type == "leave":
        return "left the conversation"
    if action.action_type == "speak":
        return f'said: "{action.argument}"'
    return f"[{action.action_type}] {action.argument}"


def _interactions(episode: Episode) -> str:
    return "\n\n".join(
        ";".join(
            f"{episode.task.names[event.agent]}"
            f"{' ' if event.action.action_type == 'speak' else ': '}{written(event.action)}"
            for event in events
            if event.action.action_type != "none"
        )
        for events in _by_turn(episode)
    )


def _introduction(episode: Episode, viewer: str) -> str:
    """What the environment tells an agent before the first turn."""
    task = episode.task
    names = list(task.names.values())
    lines = [
        "",
        "Here is the context of this interaction:",
        f"Scenario: {render(task.scenario.context, viewer)}",
        f"Participants: {', '.join(names[:-1])} and {names[-1]}",
    ]
    for agent, name in task.names.items():
        # In the original system both were told of each other's biography.
        closeness = RelationshipType.FAMILY
        if episode.source is None and agent != viewer:
            closeness = task.relationship(viewer, agent)
        told = _biography(task, agent, closeness, secret=agent == viewer)
        lines.append(f"{name}'s background: {told}{'' if agent == viewer else ' '}")
    for agent, name in task.names.items():
        lines.append(f"{name}'s goal: {task.goal(agent) if agent == viewer else 'Unknown'}")
    return "\n".join([*lines, "Conversation Starts:\n"])


def _biography(task: Task, agent: str, closeness: RelationshipType, *, secret: bool) -> str:
    who = task.character(agent)
    told = acquaintance_with(who, closeness)
    hidden = f"{who.first_name}'s secrets: {who.secret}" if secret and who.secret else ""
    return f"{told} {hidden}".strip()


# --- The scores


def _reward(judgement: Judgement | None, agent: str) -> list[Any]:
    given = {} if judgement is None else judgement.scores.get(agent, {})
    if not given:
        return [0.0, {}]
    overall = math.fsum(score.score for score in given.values()) / len(given)
    scores = {name: score.score for name, score in given.items()}
    return [overall, {**scores, "overall_score": overall}]


def _reasoning(episode: Episode, judgement: Judgement | None) -> str:
    blocks = [_comments(episode)]
    for number, agent in enumerate(episode.task.agents, start=1):
        scores = {} if judgement is None else judgement.scores.get(agent, {})
        if scores:
            blocks.append(f"Agent {number} comments:\n{_reasons(scores)}")
    return "".join(blocks)


def _reasons(scores: Mapping[str, DimensionScore]) -> str:
    return "".join(
        f"{name}: {score.reasoning}\n" for name, score in scores.items() if name in DIMENSIONS
    )


def _comments(episode: Episode) -> str:
    """Why the conversation ended, as the environment put it."""
    if episode.source is not None:
        of_format = episode.extra.get(episode.source.format)
        if of_format and "comments" in of_format[0]:
            return str(of_format[0]["comments"])
    why = {
        "turn-limit": "The conversation is too long; ",
        "silence": "The conversation stales for too long; ",
        "left": "".join(
            f"Agent {number} is leaving; "
            for number, agent in enumerate(episode.task.agents, start=1)
            if any(e.agent == agent and e.action.action_type == "leave" for e in episode.events)
        ),
    }.get(episode.ending, "")
    return f"Environment comments: {'terminated: ' if why else ''}{why}\n"
