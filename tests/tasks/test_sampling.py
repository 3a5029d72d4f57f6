"""Which task comes next, and against whom."""

from collections import Counter

import gymnasium
import numpy as np
import pytest

import sotopia_gym
from sotopia_gym import Action, SocialEnv, load_suite
from sotopia_gym.agents.scripted import PARTNERS, SCRIPTED
from sotopia_gym.errors import ConfigError
from sotopia_gym.tasks.sampling import (
    CurriculumSampler,
    Sampler,
    StratifiedSampler,
    UniformSampler,
    by_difficulty,
    family,
    measured_difficulty,
)
from sotopia_gym.tasks.schema import Suite

STARTER = load_suite("starter")
PRICES = [task for task in STARTER if family(task) == "price"]
DIVISIONS = [task for task in STARTER if family(task) == "division"]
UNEVEN = Suite(name="uneven", tasks=(*PRICES[:30], *DIVISIONS[:5]))


def drawn(sampler, count=2000, seed=0):
    rng = np.random.default_rng(seed)
    return [sampler.draw(rng) for _ in range(count)]


def test_uniform_gives_every_task_the_same_chance():
    counts = Counter(task.task_id for task in drawn(UniformSampler(UNEVEN), 3500))
    assert len(counts) == 35
    assert 60 < min(counts.values()) <= max(counts.values()) < 145
    assert drawn(UniformSampler(UNEVEN), 20) == drawn(UniformSampler(UNEVEN), 20)


def test_strata_have_the_same_chance_however_large_they_are():
    counts = Counter(family(task) for task in drawn(StratifiedSampler(UNEVEN, family)))
    assert counts["price"] == pytest.approx(1000, abs=100)
    assert counts["division"] == pytest.approx(1000, abs=100)


def test_difficulty_is_what_the_reference_did_not_get():
    difficulty = measured_difficulty({"a": [1.0, 0.5], "b": [0.0], "c": [-0.5, -0.5]})
    assert difficulty == {"a": 0.25, "b": 1.0, "c": 1.5}
    with pytest.raises(ConfigError, match="task d was never played"):
        measured_difficulty({"d": []})


def test_strata_of_difficulty():
    tasks = UNEVEN.tasks[:4]
    levels = dict(zip((task.task_id for task in tasks), (0.0, 0.25, 0.6, 2.0), strict=True))
    stratum = by_difficulty(levels)
    assert [stratum(task) for task in tasks] == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="ascend"):
        by_difficulty(levels, (0.5, 0.25))


def test_a_curriculum_opens_harder_tasks_when_the_open_ones_succeed():
    difficulty = {task.task_id: index / 35 for index, task in enumerate(UNEVEN)}
    sampler = CurriculumSampler(UNEVEN, difficulty, start=0.2, step=0.4, threshold=0.88, window=10)
    assert {t.task_id for t in drawn(sampler, 300)} == {t.task_id for t in UNEVEN.tasks[:7]}
    for success in [0.4] * 30:
        sampler.update(UNEVEN.tasks[0], success)
    assert len(sampler.open_tasks) == 7
    for success in [0.9] * 10:
        sampler.update(UNEVEN.tasks[0], success)
    assert len(sampler.open_tasks) == 21
    for success in [0.9] * 9:
        sampler.update(UNEVEN.tasks[0], success)
    assert len(sampler.open_tasks) == 21
    for success in [0.9] * 100:
        sampler.update(UNEVEN.tasks[0], success)
    assert len(sampler.open_tasks) == 35


@pytest.mark.parametrize("settings", [{"start": 0}, {"start": 1.1}, {"step": 0}, {"window": 0}])
def test_a_curriculum_that_makes_no_sense_is_refused(settings):
    with pytest.raises(ConfigError):
        CurriculumSampler(UNEVEN, {task.task_id: 0.0 for task in UNEVEN}, **settings)


def test_what_cannot_be_drawn_from_is_refused():
    with pytest.raises(ConfigError, match="no tasks"):
        UniformSampler(Suite(name="empty", tasks=()))
    with pytest.raises(ConfigError, match="no difficulty is known for 34 tasks"):
        CurriculumSampler(UNEVEN, {UNEVEN.tasks[0].task_id: 0.0})


class Noting(Sampler):
    """Draws one task, and notes what it hears."""

    def __init__(self):
        self.heard = []

    def draw(self, rng):
        return PRICES[3]

    def update(self, task, success):
        self.heard.append((task.task_id, success))


def test_an_environment_draws_from_its_sampler_and_tells_it_how_it_went():
    sampler = Noting()
    env = SocialEnv(STARTER, sampler=sampler)
    episode = sotopia_gym.play(env, dict.fromkeys(env.possible_agents, "scripted/expert"), seed=0)
    assert episode.task == PRICES[3]
    shares = episode.judgement.normalised
    assert sampler.heard == [(PRICES[3].task_id, pytest.approx(sum(shares.values()) / 2))]
    _, infos = env.reset(options={"task": DIVISIONS[0].task_id})
    assert infos["agent_0"]["task_id"] == DIVISIONS[0].task_id


def test_the_populations_of_partners_are_disjoint():
    train, heldout = (set(PARTNERS[split]) for split in ("train", "heldout"))
    assert not train & heldout
    assert {name.removeprefix("scripted/") for name in train | heldout} <= set(SCRIPTED)


def test_a_partner_is_drawn_from_a_population_for_each_episode():
    env = gymnasium.make(
        "sotopia/Solo-v0", role="agent_0", partner=PARTNERS["train"], disable_env_checker=True
    )

    def met(seed):
        _, info = env.reset(seed=seed)
        while env.unwrapped.step(Action("speak", "Tell me more."))[2:4] == (False, False):
            pass
        return info["partners"]["agent_1"]

    seen = [met(seed) for seed in range(30)]
    assert set(seen) == set(PARTNERS["train"])
    assert seen == [met(seed) for seed in range(30)]
    with pytest.raises(ConfigError, match="at least one partner"):
        gymnasium.make("sotopia/Solo-v0", partner=[])


def test_a_sampler_cannot_bring_tasks_of_another_split():
    env = SocialEnv(STARTER, split="train", sampler=UniformSampler(STARTER.split("heldout")))
    with pytest.raises(ConfigError, match=r"is not played here: suite 'starter/train' has no task"):
        env.reset(seed=0)
