"""PPO: its arithmetic against references and closed forms, and a dialogue that it must learn."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sotopia_gym.episodes.schema import TurnTokens
from sotopia_gym.training.hooks import Experience
from sotopia_gym.training.trajectories import Trajectory, collate, score
from tests.tiny_model import save_tiny_model

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("transformers", reason="the extra 'train' is not installed")
ppo = pytest.importorskip("baselines.ppo")

finite = st.floats(-10, 10, allow_nan=False)
shares = st.floats(0, 1, allow_nan=False)


# --- The arithmetic


def gae_by_its_definition(rewards, values, gamma, lam):
    """The sum of equation 16, term by term."""
    surprises = [
        reward + gamma * (values[step + 1] if step + 1 < len(values) else 0.0) - values[step]
        for step, reward in enumerate(rewards)
    ]
    return [
        sum((gamma * lam) ** ahead * surprise for ahead, surprise in enumerate(surprises[step:]))
        for step in range(len(rewards))
    ]


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=8), shares, shares)
def test_gae_is_the_discounted_sum_of_surprises(steps, gamma, lam):
    rewards, values = zip(*steps, strict=True)
    advantages, returns = ppo.gae(rewards, values, gamma, lam)
    assert advantages == pytest.approx(gae_by_its_definition(rewards, values, gamma, lam), abs=1e-6)
    assert returns == pytest.approx([a + v for a, v in zip(advantages, values, strict=True)])


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=8), shares)
def test_gae_is_the_return_less_the_value_at_one_and_one_step_at_zero(steps, gamma):
    rewards, values = zip(*steps, strict=True)
    to_go = [
        sum(gamma**ahead * reward for ahead, reward in enumerate(rewards[step:]))
        for step in range(len(rewards))
    ]
    assert ppo.gae(rewards, values, gamma, 1.0)[1] == pytest.approx(to_go, abs=1e-6)
    following = [*values[1:], 0.0]
    one_step = [r + gamma * n - v for r, n, v in zip(rewards, following, values, strict=True)]
    assert ppo.gae(rewards, values, gamma, 0.0)[0] == pytest.approx(one_step, abs=1e-6)


@given(st.lists(finite, min_size=2, max_size=6))
def test_leave_one_out_is_the_reward_less_the_mean_of_the_others(totals):
    found = ppo.leave_one_out([*totals, 3.0], [*["a"] * len(totals), "b"])
    for place, total in enumerate(totals):
        others = totals[:place] + totals[place + 1 :]
        assert found[place] == pytest.approx(total - sum(others) / len(others), abs=1e-6)
    assert found[-1] == 0.0  # nobody to be compared with


def test_the_clipped_objective_by_hand():
    ratio = torch.tensor([1.0, 1.5, 1.5, 0.5, 0.5])
    advantages = torch.tensor([2.0, 1.0, -1.0, 1.0, -1.0])
    losses = ppo.policy_loss(ratio.log(), torch.zeros(5), advantages, 0.2)
    assert losses.tolist() == pytest.approx([-2.0, -1.2, 1.5, -0.5, 0.8])


def test_the_gradient_of_the_objective_at_the_old_policy_is_the_policy_gradient():
    logits = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    logprobs = torch.log_softmax(logits, -1)
    ppo.policy_loss(logprobs, logprobs.detach(), advantages, 0.2).sum().backward()
    found = logits.grad.clone()
    logits.grad = None
    (-(torch.log_softmax(logits, -1) * advantages).sum()).backward()
    assert torch.allclose(found, logits.grad)


def test_the_divergence_is_unbiased_and_never_negative():
    policy = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    reference = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    estimates = ppo.divergence(policy.log(), reference.log())
    exact = (policy * (policy / reference).log()).sum()
    assert bool((estimates >= 0).all())
    assert float((policy * estimates).sum()) == pytest.approx(float(exact))
    assert not ppo.divergence(policy.log(), policy.log()).any()


def test_the_weight_of_the_divergence_follows_its_target():
    assert ppo.adapted(1.0, kl=0.1, target=0.1) == 1.0
    assert ppo.adapted(1.0, kl=9.0, target=0.1) == pytest.approx(1.02)
    assert ppo.adapted(1.0, kl=0.0, target=0.1) == pytest.approx(0.98)


def test_explained_variance():
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert ppo.explained_variance(returns, returns) == 1.0
    assert ppo.explained_variance(torch.full((3,), 2.0), returns) == 0.0
    assert ppo.explained_variance(-returns, returns) < 0
    assert ppo.explained_variance(returns, torch.ones(3)) == 0.0


# --- The learner


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def model_of(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def experience_of(model, count=6, turns=2, seed=0, temperature=1.0):
    """Random words, with the log-probabilities that the model gives them."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        read, spoken = 0, []
        for turn in range(turns):
            prompt, sampled = (tuple(rng.choices(range(90), k=k)) for k in (3, 4))
            spoken.append(
                TurnTokens(
                    turn=turn + 1, shared=read, prompt=prompt, sampled=sampled, logprobs=(0.0,) * 4
                )
            )
            read += 7
        rewards = (*(0.0,) * (turns - 1), float(rng.randint(0, 10)))
        made.append(Trajectory(f"{number}", "agent_0", f"{number // 2}", tuple(spoken), rewards))
    tokens = collate(made)
    with torch.no_grad():
        known = score(model, tokens, temperature=temperature).logprobs
    filled = []
    for place, each in enumerate(made):
        flat = known[place][tokens.mask[place]].tolist()
        spoken = [
            turn.model_copy(update={"logprobs": tuple(flat[4 * n : 4 * n + 4])})
            for n, turn in enumerate(each.turns)
        ]
        filled.append(Trajectory(each.episode, each.agent, each.group, tuple(spoken), each.rewards))
    return Experience(0, 0, temperature, tuple(filled), 0, 0, 0.0)


@pytest.mark.parametrize("advantages", ["gae", "rloo"])
@pytest.mark.parametrize("decisions", ["turn", "token"])
def test_one_update_raises_what_went_well_and_lowers_what_did_not(folder, advantages, decisions):
    model = model_of(folder)
    experience = experience_of(model, temperature=0.8)
    learner = ppo.PPO(
        model,
        model_of(folder),
        ppo.Settings(advantages=advantages, decisions=decisions, learning_rate=1e-3, kl=0.0),
    )
    tokens = collate(experience.trajectories)
    with torch.no_grad():
        before = score(model, tokens, temperature=0.8).logprobs.sum(-1)
    told = learner.learn(experience)
    with torch.no_grad():
        after = score(model, tokens, temperature=0.8).logprobs.sum(-1)
    best, worst = (
        pick(range(6), key=lambda n: experience.trajectories[n].total) for pick in (max, min)
    )
    change = after - before
    assert change[best] > change[worst]
    assert told["sampler_mismatch"] < 1e-4
    assert told["kl"] == pytest.approx(0.0, abs=1e-6)  # one update: all was read before it
    assert told["clipped"] == 0
    assert ("explained_variance" in told) == (advantages == "gae")
    assert all(math.isfinite(value) for value in told.values())


@pytest.mark.parametrize("decisions", ["turn", "token"])
def test_advantages_are_those_of_the_decision_that_an_id_belongs_to(folder, decisions):
    """On a conversation of two rows: what came before its second turn was dropped."""
    first = TurnTokens(turn=1, shared=0, prompt=(5, 6), sampled=(7, 8, 9), logprobs=(0.0,) * 3)
    second = TurnTokens(turn=2, shared=0, prompt=(5,), sampled=(6, 7), logprobs=(0.0,) * 2)
    chosen = [
        Trajectory("a", "agent_0", "a", (first, second), (1.0, 4.0)),
        Trajectory("b", "agent_0", "b", (second, first), (0.0, 2.0)),
    ]
    tokens = collate(chosen)
    assert len(tokens) == 4
    made = ppo._decisions(tokens, decisions)
    values = torch.where(made, torch.rand(made.shape, generator=torch.manual_seed(0)), 0.0)
    settings_ = ppo.Settings(
        decisions=decisions, normalise_rewards=False, normalise_advantages=False, gamma=0.9, lam=0.7
    )
    learner = ppo.PPO(model_of(folder), None, settings_)
    advantages, returns = learner._advantages(chosen, tokens, values, made)
    for owner, (lengths, rewards) in enumerate([((3, 2), (1.0, 4.0)), ((2, 3), (0.0, 2.0))]):
        rows = tokens.owner == owner
        known = values[rows][made[rows]].tolist()
        if decisions == "turn":
            brought, repeated = rewards, lengths
        else:
            brought = [
                reward if place + 1 == length else 0.0
                for length, reward in zip(lengths, rewards, strict=True)
                for place in range(length)
            ]
            repeated = [1] * 5
        expected = gae_by_its_definition(brought, known, 0.9, 0.7)
        found = advantages[rows][tokens.mask[rows]].tolist()
        spread = [a for a, times in zip(expected, repeated, strict=True) for _ in range(times)]
        assert found == pytest.approx(spread, abs=1e-6)
        assert returns[rows][made[rows]].tolist() == pytest.approx(
            [a + v for a, v in zip(expected, known, strict=True)], abs=1e-6
        )
    assert not advantages[~tokens.mask].any()


def test_entropy_is_rewarded(folder):
    found = []
    for weight in (0.0, 1.0):
        model = model_of(folder)
        learner = ppo.PPO(
            model, None, ppo.Settings(kl=0.0, entropy=weight, learning_rate=1e-3, minibatch=6)
        )
        experience = experience_of(model)
        learner.learn(experience)
        with torch.no_grad():
            found.append(float(score(model, collate(experience.trajectories)).entropy.sum()))
    assert found[1] > found[0]


def test_in_bfloat16_the_numbers_are_about_the_same_and_weights_stay_float32(folder):
    told = []
    for narrow in (False, True):
        model = model_of(folder)
        settings_ = ppo.Settings(bfloat16=narrow, minibatch=6)
        told.append(ppo.PPO(model, model_of(folder), settings_).learn(experience_of(model)))
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert told[0]["sampler_mismatch"] < 1e-4 < told[1]["sampler_mismatch"] < 0.2
    assert told[1]["grad_norm"] == pytest.approx(told[0]["grad_norm"], rel=0.1)


def test_minibatches_of_micro_batches_are_one_gradient(folder):
    found = []
    for micro in (1, 4):
        model = model_of(folder)
        learner = ppo.PPO(
            model, model_of(folder), ppo.Settings(minibatch=6, micro_batch=micro, kl=0.1)
        )
        found.append((learner.learn(experience_of(model)), model.state_dict()))
    (one, weights), (other, others) = found
    assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    assert all(torch.allclose(weights[name], others[name], atol=2e-5) for name in weights)


def test_the_divergence_holds_the_policy_back(folder):
    apart = []
    for weight in (0.0, 5.0):
        model = model_of(folder)
        settings_ = ppo.Settings(kl=weight, epochs=10, minibatch=2, learning_rate=1e-3)
        learner = ppo.PPO(model, model_of(folder), settings_)
        learner.learn(experience_of(model))
        apart.append(learner.learn(experience_of(model))["kl"])
    assert apart[1] < apart[0]


def test_the_weight_adapts_to_the_target(folder):
    model = model_of(folder)
    learner = ppo.PPO(model, model_of(folder), ppo.Settings(kl=0.5, kl_target=1.0))
    first, second = (learner.learn(experience_of(model, seed=seed)) for seed in (0, 1))
    assert first["kl_weight"] == 0.5
    assert second["kl_weight"] == pytest.approx(0.49)


def test_the_value_head_learns_and_does_not_move_the_policy(folder):
    model = model_of(folder)
    experience = experience_of(model)
    settings_ = ppo.Settings(
        kl=0.0, learning_rate=1e-12, value_learning_rate=0.05, value_epochs=100, minibatch=6
    )
    learner = ppo.PPO(model, None, settings_)
    first = learner.learn(experience)
    second = learner.learn(experience)
    assert second["explained_variance"] > first["explained_variance"] + 0.5
    before, after = model_of(folder).state_dict(), model.state_dict()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_adapters_need_no_second_model(folder):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        model_of(folder), peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    ).eval()
    learner = ppo.PPO(model, None, ppo.Settings(learning_rate=1e-2, kl=0.1))
    told = [learner.learn(experience_of(model, seed=seed)) for seed in (0, 1)]
    assert told[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert told[1]["kl"] > 0


def test_a_learner_goes_on_from_what_it_saved(folder, tmp_path):
    def learner():
        model = model_of(folder)
        return ppo.PPO(model, model_of(folder), ppo.Settings(kl=0.1, kl_target=0.1, minibatch=3))

    whole, cut = learner(), learner()
    batches = [experience_of(whole.model, seed=seed) for seed in (0, 1)]
    whole.learn(batches[0])
    cut.learn(batches[0])
    cut.save(tmp_path)
    goes_on = learner()
    goes_on.load(tmp_path)
    assert goes_on.learn(batches[1]) == whole.learn(batches[1])


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_a_turns_reward_comes_with_the_last_decision_in_it(lengths):
    steps = [step for step, length in enumerate(lengths) for _ in range(length)]
    rewards = [float(step + 1) for step in range(len(lengths))]
    by_token = ppo._rewarded(steps, [True] * len(steps), rewards)
    ends = [sum(lengths[: step + 1]) - 1 for step in range(len(lengths))]
    assert [by_token[end] for end in ends] == rewards
    assert sum(by_token) == sum(rewards)
    first = [place == 0 or steps[place - 1] != step for place, step in enumerate(steps)]
    assert ppo._rewarded(steps, first, rewards) == rewards
