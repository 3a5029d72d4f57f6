"""Conversations for TRL's GRPO: what it is given is what was sampled, group by group."""

import pytest

from sotopia_gym.agents.prompts import BRIEF
from sotopia_gym.errors import ConfigError, TrainingError
from sotopia_gym.integrations.grpo import SCORE, GroupRollouts
from sotopia_gym.rollout.jobs import Rules
from sotopia_gym.tasks.families import families
from sotopia_gym.training.hooks import RolloutSource
from sotopia_gym.training.rewards import Terminal
from tests.tiny_model import save_tiny_model

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("trl", reason="the extra 'train' is not installed")

TASKS = [families()["price"].generate(seed, "train") for seed in range(3)]
RULES = Rules(max_turns=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def source_of(folder, rewards=None, group=2, **options):
    from sotopia_gym.agents.decoding import Sampling
    from sotopia_gym.agents.policy import PolicyAgent

    policy = PolicyAgent.load(
        str(folder), prompt=BRIEF, name="policy", exact=True, sampling=Sampling(1.0, max_tokens=6)
    )
    return RolloutSource(
        policy,
        TASKS,
        ["scripted/fair"],
        rewards=rewards or Terminal("goal"),
        batch=2,
        group=group,
        **{"rules": RULES} | options,
    )


def by_ids(episode, agent):
    return tuple(float(sum(turn.sampled) % 11) for turn in episode.tokens[agent])


def asked(rollouts, iteration):
    """The prompts of a batch, as TRL repeats them."""
    prompts = [it for it in rollouts.prompts(iteration + 1) if it.startswith(f"{iteration}/")]
    return [prompt for prompt in prompts for _ in range(2)]


def test_a_row_is_a_conversation_with_the_policys_own_ids_marked(folder):
    source = source_of(folder)
    rollouts = GroupRollouts(source)
    found = rollouts(asked(rollouts, 0), None)
    assert rollouts.rows == 8
    assert {len(column) for column in found.values()} == {8}
    known = {
        tuple(id_ for turn in each.turns for id_ in turn.sampled): each
        for each in source.trajectories(0)
    }
    for prompt, completion, logprobs, mask, score in zip(
        *(found[key] for key in ("prompt_ids", "completion_ids", "logprobs", "env_mask", SCORE)),
        strict=True,
    ):
        own = tuple(id_ for id_, sampled in zip(completion, mask, strict=True) if sampled)
        trajectory = known[own]
        assert tuple(prompt) == trajectory.turns[0].prompt
        assert mask[0] == mask[-1] == 1
        assert len(logprobs) == len(mask)
        assert [it for it, sampled in zip(logprobs, mask, strict=True) if sampled] == [
            it for turn in trajectory.turns for it in turn.logprobs
        ]
        assert score == trajectory.total


def test_members_of_a_group_stand_side_by_side(folder):
    rollouts = GroupRollouts(source_of(folder))
    prompts = rollouts(asked(rollouts, 0), None)["prompt_ids"]
    assert all(one == other for one, other in zip(prompts[::2], prompts[1::2], strict=True))
    assert len({tuple(prompt) for prompt in prompts}) == 4


def test_what_could_not_be_scored_counts_for_nothing(folder):
    def rewards(episode, agent):
        return by_ids(episode, agent) if agent == "agent_0" else None

    rollouts = GroupRollouts(source_of(folder, rewards=rewards))
    found = rollouts(asked(rollouts, 0), None)
    assert found[SCORE].count(None) == rollouts.unscored == 4
    for score, prompt, mask in zip(
        *(found[key] for key in (SCORE, "prompt_ids", "env_mask")), strict=True
    ):
        assert (score is None) == (mask == [0])
        assert prompt
    assert GroupRollouts.scores(prompts=[], **{SCORE: [1.0, None]}) == [1.0, None]


def test_a_batch_that_nobody_could_score_stops_the_run(folder):
    rollouts = GroupRollouts(source_of(folder, rewards=lambda *_: None))
    with pytest.raises(TrainingError, match="none of 8 episodes could be scored"):
        rollouts(asked(rollouts, 0), None)


def test_an_episode_that_failed_leaves_a_row_that_counts_for_nothing(folder):
    source = source_of(folder)
    whole = source.play

    def broken(iteration):
        first, *others = whole(iteration)
        return [first.model_copy(update={"tokens": {}, "ending": "failed", "error": "x"}), *others]

    source.play = broken
    rollouts = GroupRollouts(source)
    found = rollouts(asked(rollouts, 0), None)
    (lost,) = [place for place, score in enumerate(found[SCORE]) if score is None]
    assert len(found[SCORE]) == 8
    assert found["env_mask"][lost] == [0]
    other = lost ^ 1
    assert found["prompt_ids"][lost] == found["prompt_ids"][other]


@pytest.mark.parametrize(
    "prompts",
    [["0/0"] * 8, ["0/0", "0/1"], [], ["0/0", "0/0", "0/1", "0/1", "1/2", "1/2", "1/3", "1/3"]],
    ids=["one group", "not repeated", "none", "two batches"],
)
def test_anything_but_one_whole_batch_is_refused(folder, prompts):
    with pytest.raises(ConfigError, match="num_generations=2"):
        GroupRollouts(source_of(folder))(prompts, None)


def test_a_conversation_beyond_the_context_is_refused(folder):
    source = source_of(folder, rules=Rules(max_turns=20))
    source.policy.sampler.context = 1100
    rollouts = GroupRollouts(source)
    with pytest.raises(ConfigError, match="longer than the context"):
        rollouts(asked(rollouts, 0), None)


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")
def test_trl_trains_on_the_rewards_and_changes_what_is_sampled(folder, tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    # A random model never makes a deal: members of a group would all have the same goal score.
    source = source_of(folder, rewards=by_ids)
    rollouts = GroupRollouts(source)
    model = source.policy.sampler.model
    before = [weight.clone() for weight in model.parameters()]
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=rollouts.scores,
        args=GRPOConfig(
            output_dir=str(tmp_path),
            num_generations=2,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            generation_batch_size=8,
            shuffle_dataset=False,
            max_steps=2,
            learning_rate=1e-3,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": rollouts.prompts(2)}),
        processing_class=source.policy.sampler.tokenizer,
        rollout_func=rollouts,
    )
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert len(rewards) == 2
    assert source.policy.sampler.weights_version == 2
    after = (weight.to(before[0].device) for weight in model.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    first = [each.total for each in source_of(folder, rewards=by_ids).trajectories(0)]
    assert rewards[0] == pytest.approx(sum(first) / len(first))
