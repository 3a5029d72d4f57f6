"""A policy that a server samples: what is trained on is what the server drew."""

import pytest

from sotopia_gym.agents.prompts import BRIEF
from sotopia_gym.errors import ConfigError, ContextOverflowError, ModelError
from sotopia_gym.llm.client import KEY_VARIABLE
from sotopia_gym.rollout.jobs import Rules
from sotopia_gym.tasks.families import families
from sotopia_gym.training.hooks import RolloutSource
from sotopia_gym.training.rewards import Terminal
from tests.fault_server import FaultServer, as_json, echoes_key
from tests.tiny_model import save_tiny_model

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")

TEMPERATURE = 0.7
TASKS = [families()["price"].generate(seed, "train") for seed in range(2)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Model and tokenizer."""
    from sotopia_gym.agents.sampling import Sampler

    sampler = Sampler.load(str(save_tiny_model(tmp_path_factory.mktemp("tiny"))))
    return sampler.model, sampler.tokenizer


@pytest.fixture
def server(model):
    """What vLLM answers, from the same model."""
    from sotopia_gym.agents.decoding import Sampling
    from sotopia_gym.agents.sampling import Sampler

    sampler = Sampler(*model, name="inside", sampling=Sampling(TEMPERATURE, max_tokens=6))

    def complete(request):
        asked = request.body
        assert asked["return_token_ids"]
        assert (asked["temperature"], asked["max_tokens"], asked["top_p"]) == (TEMPERATURE, 6, 1)
        assert asked["stop_token_ids"] == sorted(sampler.template.stops)
        seed = str(asked["seed"])
        answer = sampler.submit(asked["prompt"], seed=seed, episode=object()).result()
        return as_json(completion(list(answer.ids), list(answer.logprobs)))

    with FaultServer(default=complete) as found:
        yield found
    sampler.close()


def completion(ids, logprobs):
    return {
        "id": "1",
        "object": "text_completion",
        "created": 0,
        "model": "test-model",
        "choices": [
            {
                "index": 0,
                "text": "words",
                "finish_reason": "stop",
                "token_ids": ids,
                "logprobs": {"token_logprobs": logprobs, "tokens": ["x"] * len(logprobs)},
            }
        ],
    }


def served(model, server, **options):
    from sotopia_gym.agents.decoding import Sampling
    from sotopia_gym.agents.served import ServedSampler

    return ServedSampler(
        *model,
        base_url=server.url.removesuffix("/v1"),
        name="served",
        sampling=Sampling(TEMPERATURE, max_tokens=6),
        **options,
    )


def test_trajectories_hold_the_ids_that_the_server_drew_and_their_log_probabilities(model, server):
    from sotopia_gym.agents.policy import PolicyAgent
    from sotopia_gym.training.trajectories import collate, score

    policy = PolicyAgent(served(model, server), prompt=BRIEF, name="policy")
    source = RolloutSource(
        policy,
        TASKS,
        ["scripted/fair"],
        rewards=Terminal("goal"),
        batch=2,
        group=2,
        rules=Rules(max_turns=4),
    )
    experience = source.collect(0)
    policy.close()
    assert len(experience.trajectories) == 8
    assert server.count == sum(len(each.turns) for each in experience.trajectories)
    tokens = collate(experience.trajectories)
    assert len(tokens) == 8, "turns of an episode are one row"
    found = score(model[0], tokens, temperature=TEMPERATURE).logprobs
    torch.testing.assert_close(
        found[tokens.mask], tokens.logprobs[tokens.mask], atol=1e-4, rtol=1e-4
    )


def test_equal_seeds_ask_alike_and_versions_are_told(model, server):
    sampler = served(model, server)
    prompt = sampler.template.opening([{"role": "user", "content": "Hello."}])
    first, again, other = (
        sampler.submit(prompt, seed=seed, episode=object()).result() for seed in ("a", "a", "b")
    )
    assert first == again
    assert first != other
    assert sampler.update() == 1
    assert sampler.submit(prompt, seed="a", episode=object()).result().version == 1
    sampler.close()


@pytest.mark.parametrize(
    "reply",
    [completion(None, [-1.0]), completion([3, 4], [-1.0]), completion([3], [float("nan")])],
    ids=["no ids", "fewer log-probabilities", "no numbers"],
)
def test_a_server_that_does_not_tell_what_it_drew_is_refused(model, server, reply):
    server.script.append(as_json(reply))
    sampler = served(model, server)
    with pytest.raises(ModelError, match=r"log-probabilit"):
        sampler.submit([5, 6], seed="a", episode=object()).result()
    sampler.close()


def test_a_key_is_sent_and_never_told(model, server, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "sk-very-secret")
    sampler = served(model, server)
    server.script.append(echoes_key())
    with pytest.raises(ModelError) as caught:
        sampler.submit([5, 6], seed="a", episode=object()).result()
    assert server.requests[-1].headers["authorization"] == "Bearer sk-very-secret"
    assert "very-secret" not in str(caught.value)
    sampler.close()


def test_what_a_server_cannot_do_is_said(model, server):
    sampler = served(model, server, context=100)
    with pytest.raises(ContextOverflowError, match="100 tokens"):
        sampler.submit([5] * 95, seed="a", episode=object())
    with pytest.raises(ConfigError, match="guided=False"):
        sampler.guide({})
    with pytest.raises(ConfigError, match="second server"):
        sampler.frozen("past")
    with pytest.raises(ConfigError, match="trainer"):
        sampler.update({})
    sampler.close()
