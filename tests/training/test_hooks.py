"""Where trainers plug in: what a batch depends on, and runs that stop and go on."""

import json
import math
import shutil

import pytest

from sotopia_gym.agents.prompts import BRIEF
from sotopia_gym.errors import ConfigError, TrainingError
from sotopia_gym.judges.outcome import OutcomeJudge
from sotopia_gym.rollout.jobs import Rules
from sotopia_gym.tasks.families import families
from sotopia_gym.training.hooks import HISTORY, PastSelves, RolloutSource, train
from sotopia_gym.training.rewards import Terminal
from tests.tiny_model import save_tiny_model

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("transformers", reason="the extra 'train' is not installed")

TASKS = [families()["price"].generate(seed, "train") for seed in range(5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def policy_of(folder, **options):
    from sotopia_gym.agents.decoding import Sampling
    from sotopia_gym.agents.policy import PolicyAgent

    options = {"sampling": Sampling(1.0, max_tokens=6), **options}
    return PolicyAgent.load(str(folder), prompt=BRIEF, name="policy", **options)


def source_of(policy, partners=("scripted/fair",), **options):
    known = {"rewards": Terminal("goal"), "batch": 2, "group": 2, "rules": Rules(max_turns=4)}
    return RolloutSource(policy, TASKS, partners, **known | options)


def drawn(experience):
    return [(each.episode, each.turns, each.rewards) for each in experience.trajectories]


class Nudge:
    """A learner that moves all weights by a little of the mean reward."""

    def __init__(self, model, metrics=None):
        self.model, self.metrics = model, metrics or {}

    def learn(self, experience):
        mean = experience.summary()["reward"]
        with torch.no_grad():
            for weight in self.model.parameters():
                weight.add_(1e-3 * (1 + mean))
        return {name: values[experience.iteration] for name, values in self.metrics.items()}

    def save(self, folder):
        torch.save(self.model.state_dict(), folder / "weights.pt")

    def load(self, folder):
        self.model.load_state_dict(torch.load(folder / "weights.pt"))


def test_a_batch_is_its_tasks_in_both_roles_and_groups(folder):
    source = source_of(policy_of(folder))
    experience = source.collect(0)
    groups = {}
    for each in experience.trajectories:
        groups.setdefault(each.group, []).append(each)
    assert {len(group) for group in groups.values()} == {2}
    assert len(groups) == 4
    assert {each.agent for each in experience.trajectories} == {"agent_0", "agent_1"}
    assert (experience.iteration, experience.version, experience.temperature) == (0, 0, 1.0)
    assert experience.summary()["trajectories"] == 8
    source.close()


def test_every_task_comes_once_before_any_comes_again(folder):
    source = source_of(policy_of(folder), batch=2)
    order = [task.task_id for number in range(5) for task in source._drawn(number)]
    known = sorted(task.task_id for task in TASKS)
    assert sorted(order[:5]) == known
    assert sorted(order[5:]) == known
    assert order[:5] != order[5:]


def test_no_task_comes_twice_in_a_batch(folder):
    """Not even where a round ends and the next begins: twins would be compared with themselves."""
    policy = policy_of(folder)
    for seed in range(20):
        source = source_of(policy, batch=3, seed=seed)
        for number in range(10):
            batch = [task.task_id for task in source._drawn(number)]
            assert len(set(batch)) == 3


def test_a_batch_depends_on_seed_number_and_weights_alone(folder):
    one, other = (source_of(policy_of(folder, exact=True), concurrency=n) for n in (1, 16))
    assert drawn(one.collect(3)) == drawn(other.collect(3))
    assert drawn(one.collect(3)) != drawn(one.collect(4))
    changed = source_of(policy_of(folder, exact=True), seed=1)
    assert drawn(changed.collect(3)) != drawn(one.collect(3))


def test_new_weights_are_played_with_and_counted(folder):
    policy = policy_of(folder, exact=True)
    source = source_of(policy)
    before = source.collect(0)
    with torch.no_grad():
        for weight in policy.sampler.model.parameters():
            weight.mul_(1.5)
    assert source.update() == 1
    after = source.collect(0)
    assert after.version == 1
    assert drawn(after) != drawn(before)


def test_without_partners_it_learns_from_all_roles(folder):
    experience = source_of(policy_of(folder), partners=()).collect(0)
    assert len(experience.trajectories) == 2 * 2 * 2  # tasks, members, roles
    episodes = {each.episode for each in experience.trajectories}
    assert len(episodes) == 4


def test_a_frozen_partner_stays_as_it_was(folder):
    policy = policy_of(folder)
    frozen = policy.frozen("frozen")
    source = source_of(policy, partners=(frozen,))
    kept = [weight.clone() for weight in frozen.sampler.model.parameters()]
    with torch.no_grad():
        for weight in policy.sampler.model.parameters():
            weight.add_(1.0)
    source.update()
    experience = source.collect(0)
    assert len(experience.trajectories) == 8  # the frozen one's turns are nothing to learn from
    now = list(frozen.sampler.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


def test_past_selves_are_met_and_outlive_a_restart(folder, tmp_path):
    def made():
        policy = policy_of(folder, exact=True)
        selves = PastSelves(policy, every=1, size=2)
        return source_of(policy, partners=(), population=selves), Nudge(policy.sampler.model)

    source, learner = made()
    whole = train(source, learner, tmp_path / "whole", iterations=4)
    for iterations in (2, 4):
        source, learner = made()
        resumed = train(source, learner, tmp_path / "cut", iterations=iterations)
    told = [{k: v for k, v in line.items() if "seconds" not in k} for line in whole]
    assert [{k: v for k, v in line.items() if "seconds" not in k} for line in resumed] == told


@pytest.mark.parametrize(
    "wrong",
    [{"guided": True}, {"sampling": (1.0, 0.9)}, {"sampling": (0.0, 1.0)}],
    ids=["guided", "top_p", "greedy"],
)
def test_what_no_trainer_could_compute_again_is_refused(folder, wrong):
    from sotopia_gym.agents.decoding import Sampling

    if "sampling" in wrong:
        wrong = {"sampling": Sampling(*wrong["sampling"], max_tokens=6)}
    with pytest.raises(ConfigError, match="guided=False, top_p=1"):
        source_of(policy_of(folder, **wrong))


def test_a_batch_of_more_tasks_than_there_are_is_refused(folder):
    with pytest.raises(ConfigError, match="batch must be 1 to 5"):
        source_of(policy_of(folder), batch=6)


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(folder, tmp_path):
    def run(where, iterations):
        policy = policy_of(folder, exact=True)
        return train(
            source_of(policy), Nudge(policy.sampler.model), tmp_path / where, iterations=iterations
        )

    whole = run("whole", 3)
    run("cut", 2)
    # Killed while it wrote a checkpoint: what is not whole is not gone on from.
    shutil.copytree(
        tmp_path / "cut" / "checkpoint-00002", tmp_path / "cut" / "checkpoint-00003.part"
    )
    resumed = run("cut", 3)
    told = [
        [{k: v for k, v in line.items() if "seconds" not in k} for line in run]
        for run in (whole, resumed)
    ]
    assert told[0] == told[1]
    lines = (tmp_path / "cut" / HISTORY).read_text().splitlines()
    assert [json.loads(line) for line in lines] == resumed
    assert [path.name for path in (tmp_path / "cut").glob("checkpoint-*[0-9]")] == [
        "checkpoint-00003"
    ]


@pytest.mark.parametrize(
    ("metrics", "said", "good"),
    [
        ({"kl": [0.0, 0.1, 0.6]}, "kl above 0.5", 1),  # checkpoint 2 is what played batch 2
        ({"loss": [0.0, 0.0, math.nan]}, "loss", 2),
    ],
    ids=["kl", "nan"],
)
def test_a_run_that_goes_wrong_stops_and_keeps_the_last_good_checkpoint(
    folder, tmp_path, metrics, said, good
):
    policy = policy_of(folder)
    learner = Nudge(policy.sampler.model, metrics)
    with pytest.raises(TrainingError, match=said) as caught:
        train(source_of(policy), learner, tmp_path, iterations=3, max_kl=0.5)
    assert f"checkpoint-0000{good}." in str(caught.value)
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept[-1] == f"checkpoint-0000{good}"


def test_a_first_update_that_goes_wrong_leaves_no_checkpoint(folder, tmp_path):
    policy = policy_of(folder)
    learner = Nudge(policy.sampler.model, {"kl": [0.0, 0.6]})
    with pytest.raises(TrainingError, match="There is no good checkpoint"):
        train(source_of(policy), learner, tmp_path, iterations=2, max_kl=0.5)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_no_more_checkpoints_are_kept_than_were_asked_for(folder, tmp_path):
    policy = policy_of(folder)
    learner = Nudge(policy.sampler.model)
    train(source_of(policy), learner, tmp_path, iterations=4, keep=2)
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept == ["checkpoint-00003", "checkpoint-00004"]


def test_the_judge_that_a_source_made_is_closed_and_a_given_one_is_not(folder, monkeypatch):
    closed = []
    monkeypatch.setattr(OutcomeJudge, "close", lambda _: closed.append(True))
    given = OutcomeJudge()
    source_of(policy_of(folder), judge=given).close()
    assert not closed
    source_of(policy_of(folder), judge="outcome").close()
    assert len(closed) == 1


def test_a_batch_that_nobody_could_score_stops_the_run(folder):
    source = source_of(policy_of(folder), judge="outcome", rewards=lambda *_: None)
    with pytest.raises(TrainingError, match="none of 8 episodes could be scored: unscored"):
        source.collect(0)


def test_a_nan_reward_stops_the_run(folder):
    def rewards(episode, agent):
        return tuple(math.nan for _ in episode.tokens[agent])

    with pytest.raises(ConfigError, match="one finite reward for each"):
        source_of(policy_of(folder), rewards=rewards).collect(0)


def test_the_learner_must_train_what_is_sampled(folder, tmp_path):
    other = policy_of(folder).sampler.model
    with pytest.raises(ConfigError, match="the very model"):
        train(source_of(policy_of(folder)), Nudge(other), tmp_path, iterations=1)
