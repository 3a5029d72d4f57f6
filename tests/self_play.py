"""A family's scripts against each other, on the state machine alone."""

import random
from dataclasses import replace

import numpy as np

from sotopia_gym.envs.dialogue import Dialogue
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.tasks.background import background, read_background


def self_play(family, task, temperament, seed) -> Dialogue:
    """The conversation of scripted players, to its end.

    They are of one temperament, or each of its own: a dict from agent to temperament.
    """
    agents = {name: agent for agent, name in task.names.items()}
    temperaments = (
        temperament if isinstance(temperament, dict) else dict.fromkeys(task.agents, temperament)
    )
    players = {
        agent: family.script(
            read_background(background(task, agent, max_turns=20)),
            temperaments[agent],
            random.Random(seed),
        )
        for agent in task.agents
    }
    dialogue = Dialogue(task.agents, rng=np.random.default_rng(seed))
    while not dialogue.ending:
        (agent,) = dialogue.acting
        heard = [
            Utterance(
                e.turn,
                task.names[e.agent],
                e.action.action_type,
                e.action.argument,
                tuple(task.names[to] for to in e.action.to),
            )
            for e in dialogue.events
            if e.visible_to(agent)
        ]
        action = players[agent].act(heard, dialogue.turn)
        to = tuple(agents[name] for name in action.to)
        dialogue.step({agent: replace(action, to=to)})
    return dialogue
