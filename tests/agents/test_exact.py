"""Exact sampling: an episode is the same, bit for bit, whatever is played beside it."""

import pytest

from sotopia_gym.agents.prompts import BRIEF
from sotopia_gym.errors import ConfigError
from sotopia_gym.rollout import Rollout, Rules
from sotopia_gym.tasks.suites import load_suite
from tests.tiny_model import save_tiny_model

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("transformers", reason="the extra 'train' is not installed")

from sotopia_gym.agents import decoding  # noqa: E402
from sotopia_gym.agents.decoding import Sampling, check_exact  # noqa: E402
from sotopia_gym.agents.policy import PolicyAgent  # noqa: E402
from sotopia_gym.agents.sampling import Sampler  # noqa: E402

TASKS = load_suite("starter").tasks[:7]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def load(folder):
    """Loads samplers of the tiny model, and closes them."""
    made = []

    def sampler(**options):
        sampling = Sampling(temperature=0.7, max_tokens=options.pop("max_tokens", 20))
        made.append(Sampler.load(str(folder), sampling=sampling, exact=True, **options))
        return made[-1]

    yield sampler
    for one in made:
        one.close()


def played(sampler, tasks=TASKS, *, guided=False, concurrency=16, max_turns=4):
    """What a policy read and sampled in each episode, to the last bit of its log-probabilities."""
    policy = PolicyAgent(sampler, prompt=BRIEF, guided=guided)
    rollout = Rollout(
        tasks, policy, "scripted/fair", rules=Rules(max_turns=max_turns), concurrency=concurrency
    )
    return {episode.key: episode.tokens for episode in rollout}


def test_episodes_are_the_same_alone_and_beside_others(load):
    together = played(load())
    assert len(together) == 14
    assert together == played(load(), concurrency=1)
    six = played(load(), TASKS[:3])
    assert six == {key: together[key] for key in six}
    alone = played(load(), TASKS[2:3], concurrency=1)
    assert alone == {key: together[key] for key in alone}
    assert together == played(load(max_batch=3), TASKS[::-1], concurrency=5)


def test_so_are_guided_ones(load):
    options = {"max_tokens": 90, "cache_bytes": 1 << 30}
    together = played(load(**options), TASKS[:4], guided=True, max_turns=2)
    assert together == played(load(**options), TASKS[:4], guided=True, max_turns=2, concurrency=1)


def test_so_are_those_after_a_change_of_weights(load):
    found = []
    for concurrency in (1, 16):
        sampler = load()
        before = played(sampler, TASKS[:3], concurrency=concurrency)
        state = {name: value * 0.5 for name, value in sampler.model.state_dict().items()}
        sampler.update(state)
        after = played(sampler, TASKS[:3], concurrency=concurrency)
        assert before != after
        found.append((before, after))
    assert found[0] == found[1]


def test_answers_are_nearly_those_without_it(load, folder):
    exact = load()
    plain = Sampler.load(str(folder), sampling=exact.sampling)
    for one, other in zip(answers(exact), answers(plain), strict=True):
        assert one.ids == other.ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
    plain.close()


def answers(sampler, count=9):
    prompts = [
        sampler.template.opening(
            [{"role": "user", "content": "Would you take $40? " * (1 + 2 * i)}]
        )
        for i in range(count)
    ]
    futures = [sampler.submit(p, seed=f"{i}", episode=i) for i, p in enumerate(prompts)]
    return [future.result() for future in futures]


def test_exact_rows_outgrow_their_batch(load):
    """Longer than the slack of a batch's memory, so that it is made anew on the way."""
    together, alone = load(max_tokens=200), load(max_tokens=200, max_batch=1)
    together.template.stops = alone.template.stops = frozenset()
    one, other = answers(together, 3), answers(alone, 3)
    assert [(a.ids, a.logprobs) for a in one] == [(a.ids, a.logprobs) for a in other]
    assert {len(a.ids) for a in one} == {200}


# --- where it cannot be had --------------------------------------------------------------------


def test_a_model_that_answers_differently_beside_others_is_refused(folder, monkeypatch):
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward

    def uneven(self, input_ids, **kwargs):
        out = forward(self, input_ids=input_ids, **kwargs)
        out.logits = out.logits + 1e-6 * (input_ids.shape[0] > 8)
        return out

    Sampler.load(str(folder), exact=True).close()
    monkeypatch.setattr(LlamaForCausalLM, "forward", uneven)
    with pytest.raises(ConfigError, match=r"LlamaForCausalLM on .* in"):
        Sampler.load(str(folder), exact=True)
    Sampler.load(str(folder)).close()


def test_in_bfloat16_it_holds_or_is_refused(folder):
    """On some processors it holds; what is never had is a promise that does not."""
    try:
        sampler = Sampler.load(str(folder), exact=True, dtype="bfloat16", max_batch=3)
    except ConfigError as error:
        assert "bfloat16" in str(error)  # noqa: PT017  # either is right
        return
    check_exact(sampler.model)
    sampler.close()


@pytest.mark.parametrize("feature", ["sliding_window", "softcap", "s_aux"])
def test_attention_that_it_does_not_know_is_refused(feature):
    query, key = torch.zeros(1, 4, 1, 8), torch.zeros(1, 2, 5, 8)
    known = {"sliding_window": None, "softcap": None, "s_aux": None}
    out, _ = decoding._row_by_row(None, query, key, key, None, row_lengths=[5], **known)
    assert out.shape == (1, 1, 4, 8)
    with pytest.raises(ConfigError, match=f"attends with {feature}.*use exact=False"):
        decoding._row_by_row(None, query, key, key, None, row_lengths=[5], **{feature: 3})


def test_a_model_with_a_sliding_window_is_refused(tmp_path):
    folder = save_tiny_model(tmp_path, architecture="Mistral")
    with pytest.raises(ConfigError, match="attends with sliding_window"):
        Sampler.load(str(folder), exact=True)


def test_the_model_attends_as_before_where_it_is_used_otherwise(load):
    sampler = load()
    before = sampler.model.config._attn_implementation
    answers(sampler, 2)
    assert sampler.model.config._attn_implementation == before != decoding._EXACT


def test_grouped_heads_attend_as_in_the_model():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 6, 1, 4), *torch.randn(2, 2, 2, 7, 4).unbind()
    out, _ = decoding._row_by_row(None, query, key, value, None, scaling=0.3, row_lengths=[7, 3])
    for row, length in enumerate((7, 3)):
        for head in range(6):
            keys, values = (each[row, head // 3, -length:] for each in (key, value))
            weights = torch.softmax(keys @ query[row, head, 0] * 0.3, 0)
            torch.testing.assert_close(out[row, 0, head], weights @ values)
