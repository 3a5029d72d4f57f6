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


def test_what_the_others_said_is_told_before_the_next_answer():
    env = sotopia_gym.make("sotopia-v0", judge="none")
    observations, _ = env.reset(seed=0)
    player, told = human("Hello.", "Fine.")
    observations, *_ = env.step({"agent_0": player.act(observations["agent_0"])})
    observations, *_ = env.step({"agent_1": Action("speak", "How about $560?")})
    player.act(observations["agent_0"])
    assert told[-1].endswith('said: "How about $560?"')
    assert len(told) == 4


def test_commands():
    player, _ = human("/gesture shrugs", "/do opens the box", "/none", "/leave")
    kinds = [player.act(observation()).action_type for _ in range(4)]
    assert kinds == ["non-verbal communication", "action", "none", "leave"]


def test_mistakes_are_explained_and_asked_again():
    player, told = human("", "/shout hey", "x" * 5000, "/me", "fine")
    assert player.act(observation()) == Action("speak", "fine")
    assert any("no command '/shout'" in text for text in told)
    assert any("5000 characters" in text for text in told)


def test_one_of_several_can_be_told_in_private():
    player, told = human("/to Bo Ek", "/to Bo Ek: psst")
    assert player.act(observation()) == Action("speak", "psst", ("Bo Ek",))
    assert any("write /to NAME" in text for text in told)
