"""A family's scripts against each other, on the state machine alone."""

import random

import numpy as np

from sotopia_gym.envs.dialogue import Dialogue
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.tasks.background import background, read_background


def self_play(family, task, temperament, seed) -> Dialogue:
    """The conversation of two players of one temperament, to its end."""
    players = {
        agent: family.script(
            read_background(background(task, agent, max_turns=20)),
            temperament,
            random.Random(seed),
        )
        for agent in task.agents
    }
    dialogue = Dialogue(task.agents, rng=np.random.default_rng(seed))
    while not dialogue.ending:
        heard = [
            Utterance(e.turn, task.names[e.agent], e.action.action_type, e.action.argument)
            for e in dialogue.events
        ]
        (agent,) = dialogue.acting
        dialogue.step({agent: players[agent].act(heard, dialogue.turn)})
    return dialogue
