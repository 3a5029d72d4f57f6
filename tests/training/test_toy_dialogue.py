"""A dialogue that a random model must learn to solve: say the word that the partner likes."""

import random

import pytest

from sotopia_gym import Agent
from sotopia_gym.agents.prompts import ChatPrompt
from sotopia_gym.envs.dialogue import Action
from sotopia_gym.rollout.engine import Rollout
from sotopia_gym.rollout.jobs import Rules
from sotopia_gym.tasks.families import families
from sotopia_gym.training.hooks import RolloutSource, train
from sotopia_gym.training.rows import packed
from sotopia_gym.training.sft import turns
from tests.tiny_model import TEMPLATE

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
transformers = pytest.importorskip("transformers", reason="the extra 'train' is not installed")
ppo = pytest.importorskip("baselines.ppo")

WORDS = ("plums", "trains", "rain", "jazz")
TASKS = [families()["price"].generate(seed, "train") for seed in range(64)]
PROMPT = ChatPrompt(name="toy", system="Say it.", opening="")
RULES = Rules(max_turns=2)


class Fan(Agent):
    """Says what it likes, which its seed draws."""

    name = "fan"

    def reset(self, *, seed):
        self.word = random.Random(seed).choice(WORDS)

    def act(self, observation):
        return Action("speak", f"I like {self.word}.")


class Guesser(Agent):
    """Says a word that has nothing to do with what it heard."""

    name = "guesser"

    def reset(self, *, seed):
        self.rng = random.Random(seed)

    def act(self, observation):
        return Action("speak", self.rng.choice(WORDS))


def liked(episode, agent):
    """1 for the word that the partner likes, and no other."""
    heard, *said = (event.action.argument for event in episode.events)
    return (float(bool(said) and f"I like {said[0]}." == heard),)


def success(policy, seed):
    played = Rollout(
        TASKS, policy, [Fan()], judge=None, roles="second", rules=RULES, repetitions=4, seed=seed
    )
    found = [liked(episode, "agent_1")[0] for episode in played]
    return sum(found) / len(found)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A small model that knows what an answer looks like, and guesses the word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from sotopia_gym.agents.decoding import Sampling
    from sotopia_gym.agents.policy import PolicyAgent
    from sotopia_gym.agents.sampling import Sampler

    guesses = sorted(
        Rollout(TASKS, Guesser(), [Fan()], judge=None, roles="second", rules=RULES, repetitions=8),
        key=lambda episode: episode.key,
    )
    corpus = [f'Ada said: "I like {word}."' for word in WORDS]
    corpus += [f'{{"action_type": "speak", "argument": "{word}"}}' for word in WORDS]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|start|>"],
    )
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(fast),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
            bos_token_id=None,
        )
    )
    sampler = Sampler(model, fast, name="toy", sampling=Sampling(1.0, max_tokens=24), max_batch=64)
    rows = [
        row
        for episode in guesses
        for row in packed(turns(episode, "agent_1", sampler.template, PROMPT, most=512))
    ]
    _imitate(model, rows)
    policy = PolicyAgent(sampler, prompt=PROMPT, name="toy")
    yield policy
    policy.close()


def _imitate(model, rows):
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = random.Random(0)
    for _ in range(150):
        chosen = rng.sample(rows, 16)
        longest = max(len(row.ids) for row in chosen)
        ids = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in chosen])
        labels = torch.tensor([[*row.labels, *[-100] * (longest - len(row.ids))] for row in chosen])
        loss = model(input_ids=ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.slow
@pytest.mark.parametrize("advantages", ["gae", "rloo"])
def test_a_policy_learns_to_say_what_the_partner_likes(policy, tmp_path, advantages):
    policy = policy.frozen("learner")
    before = success(policy, seed=1)
    assert before < 0.5  # a guess is right one time in four
    source = RolloutSource(
        policy,
        TASKS,
        [Fan()],
        rewards=liked,
        judge=None,
        batch=16,
        group=4,
        roles="second",
        rules=RULES,
    )
    settings = ppo.Settings(
        advantages=advantages,
        learning_rate=1e-3,
        kl=0.05,
        epochs=2,
        minibatch=32,
        micro_batch=32,
        value_learning_rate=1e-2,
    )
    reference = policy.frozen("reference").sampler.model
    learner = ppo.PPO(policy.sampler.model, reference, settings)
    history = train(source, learner, tmp_path, iterations=150, save_every=75)
    after = success(policy, seed=1)
    print(f"{advantages}: {before:.0%} before, {after:.0%} after {len(history)} batches of 64")
    assert after > 0.95
