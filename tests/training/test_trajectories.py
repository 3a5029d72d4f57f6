"""Trajectories: every sampled id once, with its own log-probability, turn and reward."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sotopia_gym
from sotopia_gym.agents.prompts import BRIEF
from sotopia_gym.errors import ConfigError
from sotopia_gym.rollout.jobs import Rules
from sotopia_gym.tasks.families import families
from sotopia_gym.training.rewards import Terminal
from sotopia_gym.training.trajectories import (
    Trajectory,
    collate,
    score,
    segments,
    trajectories,
)
from tests.tiny_model import save_tiny_model
from tests.training.test_rows import conversations

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("transformers", reason="the extra 'train' is not installed")


def made(turns, rewards=None):
    """A trajectory of turns whose ids have the log-probabilities -id."""
    turns = tuple(
        turn.model_copy(update={"logprobs": tuple(-float(id_) for id_ in turn.sampled)})
        for turn in turns
    )
    return Trajectory("key", "agent_0", "group", turns, rewards or (0.0,) * len(turns))


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    from sotopia_gym.agents.decoding import Sampling
    from sotopia_gym.agents.policy import PolicyAgent

    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    policy = PolicyAgent.load(
        str(folder), prompt=BRIEF, name="policy", sampling=Sampling(1.0, max_tokens=12)
    )
    yield policy
    policy.close()


@pytest.fixture(scope="module")
def episodes(policy):
    tasks = [families()["price"].generate(seed, "train") for seed in range(25)]
    played = sotopia_gym.Rollout(
        tasks,
        policy,
        ["scripted/fair"],
        judge="outcome",
        repetitions=2,
        grouped=True,
        rules=Rules(max_turns=6),
    )
    return sorted(played, key=lambda episode: episode.key)


@given(conversations(), st.sampled_from(["packed", "turns"]))
def test_every_id_keeps_its_log_probability_and_its_turn(turns, layout):
    rows = list(segments(made(turns), layout))
    told = [
        (step, id_, logprob)
        for row in rows
        for id_, own, logprob, step in zip(row.ids, row.mask, row.logprobs, row.steps, strict=True)
        if own
    ]
    assert told == [
        (step, id_, -float(id_)) for step, turn in enumerate(turns) for id_ in turn.sampled
    ]
    others = [
        (logprob, step)
        for row in rows
        for own, logprob, step in zip(row.mask, row.logprobs, row.steps, strict=True)
        if not own
    ]
    assert set(others) <= {(0.0, -1)}


def test_an_unknown_layout_is_refused():
    with pytest.raises(ConfigError, match="no layout 'rows'"):
        list(segments(made([]), "rows"))


@given(st.lists(conversations(), min_size=1, max_size=3))
def test_a_batch_holds_the_rows_and_nothing_else(chats):
    chosen = [made(turns) for turns in chats]
    rows = [(owner, row) for owner, each in enumerate(chosen) for row in segments(each)]
    tokens = collate(chosen, pad=7)
    assert len(tokens) == len(rows)
    for place, (owner, row) in enumerate(rows):
        length = len(row.ids)
        assert tokens.ids[place].tolist() == [*row.ids, *[7] * (tokens.ids.shape[1] - length)]
        assert tokens.attention_mask[place].sum() == length
        assert tuple(tokens.mask[place].nonzero()[:, 0].tolist()) == tuple(
            column for column, own in enumerate(row.mask) if own
        )
        assert tokens.steps[place, :length].tolist() == list(row.steps)
        assert tokens.owner[place] == owner
    last = tokens.rows([len(tokens) - 1])
    assert last.ids.tolist() == [list(rows[-1][1].ids)]


def test_no_trajectories_are_no_batch():
    with pytest.raises(ConfigError, match="no trajectories"):
        collate([])


def test_a_trainer_finds_the_samplers_log_probabilities_in_both_layouts(policy, episodes):
    """On every id of 100 episodes."""
    assert len(episodes) == 100
    found = [each for episode in episodes for each in trajectories(episode, Terminal("goal"))]
    checked = 0
    for layout in ("packed", "turns"):
        tokens = collate(found, layout=layout).to(policy.sampler.model.device)
        assert bool((tokens.logprobs <= 0).all())
        with torch.no_grad():
            scores = score(policy.sampler.model, tokens, temperature=1.0, hidden=True)
        assert scores.hidden.shape == (*tokens.ids.shape, 32)
        assert torch.allclose(scores.logprobs, tokens.logprobs, atol=2e-4)
        assert bool((scores.entropy[tokens.mask] > 0).all())
        assert not scores.logprobs[~tokens.mask].any()
        checked += int(tokens.mask.sum())
    assert checked == 2 * sum(each.sampled for each in found)


def test_the_temperature_is_part_of_the_distribution(policy, episodes):
    (found,) = trajectories(episodes[0], Terminal("goal"))
    tokens = collate([found]).to(policy.sampler.model.device)
    with torch.no_grad():
        cold = score(policy.sampler.model, tokens, temperature=0.5)
        warm = score(policy.sampler.model, tokens, temperature=2.0)
    assert warm.entropy[tokens.mask].mean() > cold.entropy[tokens.mask].mean()
    assert not torch.allclose(cold.logprobs, warm.logprobs, atol=1e-2)


def test_members_of_a_group_met_the_same_luck_and_drew_for_themselves(episodes):
    groups = {}
    for episode in episodes:
        (found,) = trajectories(episode, Terminal("goal"))
        groups.setdefault(found.group, []).append((episode, found))
    assert len(groups) == 50
    for (one, own), (other, others) in groups.values():
        assert (one.seed, one.task, one.focal) == (other.seed, other.task, other.focal)
        assert one.repetition != other.repetition
        assert own.turns[0].prompt == others.turns[0].prompt
    assert any(own.turns != others.turns for (_, own), (_, others) in groups.values())


def test_what_failed_or_is_unscored_has_no_rewards_rather_than_zeros(episodes):
    reward = Terminal("goal")
    episode = episodes[0]
    (scored,) = trajectories(episode, reward)
    assert scored.total == episode.judgement.goal(scored.agent)
    for lost in (
        episode.model_copy(update={"ending": "failed", "error": "it broke"}),
        episode.model_copy(update={"judgements": ()}),
    ):
        (found,) = trajectories(lost, reward)
        assert found.rewards is None
        assert found.total is None


@pytest.mark.parametrize("wrong", [(1.0,), (math.nan,) * 9])
def test_rewards_that_do_not_fit_are_refused(episodes, wrong):
    with pytest.raises(ConfigError, match="one finite reward for each"):
        list(trajectories(episodes[0], lambda *_: wrong))


def test_words_that_nobody_sampled_are_refused(episodes):
    agent, turns = next(iter(episodes[0].tokens.items()))
    written = tuple(turn.model_copy(update={"logprobs": ()}) for turn in turns)
    episode = episodes[0].model_copy(update={"tokens": {agent: written}})
    with pytest.raises(ConfigError, match="not sampled by a policy"):
        list(trajectories(episode, Terminal("goal")))


def test_trajectories_are_plain_values(episodes):
    (found,) = trajectories(episodes[0], Terminal("goal"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.rewards = None
