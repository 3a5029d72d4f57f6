"""A person at the terminal."""

import sotopia_gym
from sotopia_gym import Action
from sotopia_gym.agents.human import HELP, HumanAgent


def human(*lines):
    told = []
    answers = iter(lines)
    player = HumanAgent(ask=lambda _: next(answers), tell=told.append)
    player.reset(seed=0)
    return player, told


def observation():
    return sotopia_gym.make("sotopia-v0").reset(seed=0)[0]["agent_0"]


def test_what_is_typed_is_said():
    player, told = human("How about $40?")
    seen = observation()
    assert player.act(seen) == Action("speak", "How about $40?")
    assert told == [seen["background"], HELP]


def test_commands():
    player, _ = human("/gesture shrugs", "/do opens the box", "/none", "/leave")
    kinds = [player.act(observation()).action_type for _ in range(4)]
    assert kinds == ["non-verbal communication", "action", "none", "leave"]


def test_mistakes_are_explained_and_asked_again():
    player, told = human("", "/shout hey", "x" * 5000, "/me", "fine")
    assert player.act(observation()) == Action("speak", "fine")
    assert any("no command '/shout'" in text for text in told)
    assert any("5000 characters" in text for text in told)
