"""Guided sampling: whatever the weights, every answer is an action that is allowed."""

import asyncio
import copy
import itertools
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sotopia_gym.agents.llm import read_action
from sotopia_gym.agents.prompts import BRIEF, action_schema, answer
from sotopia_gym.envs.dialogue import ACTION_TYPES, Action
from sotopia_gym.errors import ConfigError
from sotopia_gym.llm.chat import object_schema
from sotopia_gym.tasks.background import background
from sotopia_gym.tasks.suites import load_suite
from tests.tiny_model import save_tiny_model

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("transformers", reason="the extra 'train' is not installed")

from sotopia_gym.agents.decoding import Sampling, distribution  # noqa: E402
from sotopia_gym.agents.guide import Guide, Vocabulary  # noqa: E402
from sotopia_gym.agents.policy import PolicyAgent  # noqa: E402
from sotopia_gym.agents.sampling import Sampler  # noqa: E402
from sotopia_gym.agents.template import ChatTemplate  # noqa: E402

NAMES = ("Zoë Ō'Neill", 'Bo "The Rock" Cole', "Ada \\ Birch")


def schema(kinds=ACTION_TYPES, names=(), longest=4096):
    properties = {
        "action_type": {"type": "string", "enum": list(kinds)},
        "argument": {"type": "string", "maxLength": longest},
    }
    if names:
        properties["to"] = {"type": "array", "items": {"type": "string", "enum": list(names)}}
    return object_schema(properties)


SCHEMAS = {
    "two": schema(),
    "three": schema(names=NAMES[:2]),
    "four": schema(names=NAMES),
    "some": schema(kinds=("none", "speak", "leave")),
    "silent": schema(kinds=("none",)),
    "silent among three": schema(kinds=("none",), names=NAMES[:2]),
    "one kind": schema(kinds=("speak",)),
    "short": schema(longest=5),
    "short among three": schema(names=NAMES[:2], longest=0),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def sampler(loaded):
    made = Sampler(*loaded, name="tiny")
    yield made
    made.close()


@pytest.fixture(scope="module")
def vocabulary(loaded):
    return Vocabulary(loaded[1], len(loaded[1]), "cpu")


def least(template, vocabulary, of):
    """The fewest tokens that an answer may have."""

    def suffices(most):
        try:
            return bool(Guide(template, vocabulary, of, most))
        except ConfigError:
            return False

    return next(filter(suffices, itertools.count(40)))


def followed(guide, choose, size, most):
    """An answer in which ``choose`` picks among the ids that may come."""
    ids = list(guide.forced())
    while len(ids) < most:
        possible = guide.restrict(torch.zeros(size)).isfinite().nonzero()[:, 0].tolist()
        if not possible:
            break
        ids.append(choose(possible))
        guide.take(ids[-1])
    return tuple(ids)


# --- every way through a guide -----------------------------------------------------------------


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(list(SCHEMAS)),
    extra=st.integers(0, 40),
    seed=st.integers(0, 2**32),
    eager=st.booleans(),
)
def test_every_answer_is_an_allowed_action(sampler, vocabulary, name, extra, seed, eager):
    template, of = sampler.template, SCHEMAS[name]
    most = least(template, vocabulary, of) + extra
    rng = random.Random(seed)

    def choose(possible):
        ends = [id_ for id_ in possible if id_ in vocabulary.closing]
        return rng.choice(ends) if ends and eager and rng.random() < 0.3 else rng.choice(possible)

    ids = followed(Guide(template, vocabulary, of, most), choose, len(vocabulary.string), most)
    assert len(ids) <= most
    assert ids[-1] == template.stop
    action = read_action(template.text(ids), of)
    assert action.action_type in of["properties"]["action_type"]["enum"]
    # Nothing can be appended.
    guide = Guide(template, vocabulary, of, most)
    for id_ in ids[len(guide.forced()) :]:
        guide.take(id_)
    assert not guide.restrict(torch.zeros(len(vocabulary.string))).isfinite().any()


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_experts_write_can_be_sampled(sampler, vocabulary, name):
    """Every action that is allowed, as it is written for training, is a way through the guide."""
    template, of = sampler.template, SCHEMAS[name]
    known = of["properties"]
    names = known["to"]["items"]["enum"] if "to" in known else []
    for kind in known["action_type"]["enum"]:
        silent = kind in ("none", "leave")
        groups = (
            [()] if silent else [g for n in (0, 1, 2) for g in itertools.combinations(names, n)]
        )
        for to in groups:
            # The tiny tokenizer has bytes only, so that an escape would take two tokens.
            said = "" if silent else "Å, $4"[: known["argument"]["maxLength"] // 2]
            ids = template.answer(answer(Action(kind, said, to)))
            guide = Guide(template, vocabulary, of, 400)
            forced = guide.forced()
            assert ids[: len(forced)] == forced
            for id_ in ids[len(forced) :]:
                assert guide.restrict(torch.zeros(len(vocabulary.string)))[id_] == 0
                guide.take(id_)


def test_too_few_tokens_are_refused(sampler, vocabulary):
    template = sampler.template
    for of in SCHEMAS.values():
        most = least(template, vocabulary, of)
        with pytest.raises(ConfigError, match=rf"may have {most - 1} tokens.*needs up to {most}"):
            Guide(template, vocabulary, of, most - 1)
        kinds = of["properties"]["action_type"]["enum"]
        longest = max(len(template.answer(answer(Action(kind)))) for kind in kinds)
        assert most >= longest


def test_within_a_string_nothing_ends_the_answer(loaded):
    tokenizer = loaded[1]
    known = Vocabulary(tokenizer, len(tokenizer) + 8, "cpu", stops=[ord("!") - 33])
    allowed = known.string.isfinite().nonzero()[:, 0].tolist()
    assert not set(allowed) & {*tokenizer.all_special_ids, 0, *range(len(tokenizer), 999)}
    assert known.closing == {known.quote: False}
    for id_ in set(allowed) - set(known.closing):
        json.loads(f'"{tokenizer.decode([id_])}"')
    assert tokenizer("\\", add_special_tokens=False)["input_ids"][0] not in allowed


def test_an_end_that_is_one_token_can_be_sampled(loaded):
    tokenizer = copy.deepcopy(loaded[1])
    tokenizer.add_tokens(['"}'])
    template, known = ChatTemplate(tokenizer), Vocabulary(tokenizer, len(tokenizer), "cpu")
    ids = template.answer(answer(Action("speak", "$40")))
    assert known.closing[ids[-2]] is True
    guide = Guide(template, known, SCHEMAS["two"], 100)
    for id_ in ids[len(guide.forced()) :]:
        assert guide.restrict(torch.zeros(len(known.string)))[id_] == 0
        possible = guide.restrict(torch.zeros(len(known.string))).isfinite().nonzero()[:, 0]
        guide.take(id_)
    assert possible.tolist() == [template.stop]


# --- sampled by a model ------------------------------------------------------------------------


def sampled(loaded, of, count, **distribution_):
    sampler = Sampler(*loaded, name="tiny", sampling=Sampling(**distribution_))
    prompts = [
        sampler.template.opening([{"role": "user", "content": "Hello, $40? " * (1 + i)}])
        for i in range(count)
    ]
    futures = [
        sampler.submit(p, seed=f"{i}", episode=i, guide=sampler.guide(of))
        for i, p in enumerate(prompts)
    ]
    answers = [future.result() for future in futures]
    sampler.close()
    return prompts, answers, sampler


def recomputed(model, prompt, ids, guide, sampling):
    """What the log-probabilities must be, from one reading of the whole row."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0]
    found = [0.0] * len(guide.forced())
    for place in range(len(found), len(ids)):
        restricted = guide.restrict(logits[len(prompt) + place - 1])
        found.append(distribution(restricted, sampling)[ids[place]].item())
        guide.take(ids[place])
    return found


@pytest.mark.parametrize("name", ["two", "three", "silent", "short"])
@pytest.mark.parametrize("how", [{}, {"temperature": 0.7, "top_p": 0.9}])
def test_log_probabilities_are_those_under_the_guide(loaded, name, how):
    of = SCHEMAS[name]
    prompts, answers, sampler = sampled(loaded, of, 6, max_tokens=140, **how)
    for prompt, found in zip(prompts, answers, strict=True):
        expected = recomputed(loaded[0], prompt, found.ids, sampler.guide(of), sampler.sampling)
        assert list(found.logprobs) == pytest.approx(expected, abs=1e-3)
        forced = len(sampler.guide(of).forced())
        assert forced
        assert found.logprobs[:forced] == (0.0,) * forced
        read_action(sampler.template.text(found.ids), of)
        assert found.ids[-1] == sampler.template.stop
    assert name == "silent" or any(min(found.logprobs) < -0.5 for found in answers)


def test_without_temperature_it_is_the_most_probable_of_what_is_allowed(loaded):
    _, answers, sampler = sampled(loaded, SCHEMAS["two"], 3, max_tokens=90, temperature=0)
    for found in answers:
        read_action(sampler.template.text(found.ids), SCHEMAS["two"])
        assert set(found.logprobs) == {0.0}


def test_guided_and_free_answers_are_written_together(loaded):
    sampler = Sampler(*loaded, name="tiny", sampling=Sampling(max_tokens=140))
    prompt = sampler.template.opening([{"role": "user", "content": "Hello"}])

    def ask(guides):
        futures = [
            sampler.submit(prompt, seed=f"{i}", episode=i, guide=guide)
            for i, guide in enumerate(guides)
        ]
        return [future.result().ids for future in futures]

    of = SCHEMAS["three"]
    mixed = ask(
        [sampler.guide(of), None, sampler.guide(of), None, sampler.guide(SCHEMAS["silent"])]
    )
    free, guided = ask([None] * 4), ask([sampler.guide(of) for _ in range(4)])
    assert [mixed[0], mixed[2]] == [guided[0], guided[2]]
    assert [mixed[1], mixed[3]] == [free[1], free[3]]
    assert sampler.template.text(mixed[4]) == answer(Action("none"))
    sampler.close()


# --- the policy --------------------------------------------------------------------------------


def observation(suite="starter", allowed=(1, 1, 1, 1, 1)):
    task = load_suite(suite).tasks[0]
    return {
        "background": background(task, "agent_0", max_turns=20),
        "dialogue": "",
        "last_turn": "",
        "turn": 0,
        "your_turn": 1,
        "allowed_actions": allowed,
    }


@pytest.mark.parametrize("suite", ["starter", "plan-3"])
def test_a_guided_policy_always_acts(loaded, suite):
    sampler = Sampler(*loaded, name="tiny", sampling=Sampling(max_tokens=200))
    policy = PolicyAgent(sampler, prompt=BRIEF, guided=True, max_argument=20)
    seen = observation(suite)

    async def acted(seed):
        player = policy.fork()
        player.reset(seed=seed)
        return await player.aact(seen), player.tokens()

    async def all_of_them():
        return await asyncio.gather(*(acted(seed) for seed in range(30)))

    found = asyncio.run(all_of_them())
    assert {action.action_type for action, _ in found} > {"speak", "action"}
    for action, (turn,) in found:
        assert action.note is None
        assert len(action.argument) <= 20
        assert len(turn.sampled) == len(turn.logprobs) <= 200
        assert sampler.template.text(turn.sampled) == _again(action, sampler, turn)
    assert (suite == "starter") == (not any(action.to for action, _ in found))
    policy.close()


def _again(action, sampler, turn):
    """The text of an action; words that no text encodes, or escapes, are as they were sampled."""
    text = sampler.template.text(turn.sampled)
    given_ = json.loads(text)
    assert (given_["action_type"], given_["argument"], tuple(given_.get("to", ()))) == (
        action.action_type,
        action.argument,
        action.to,
    )
    return text


def test_where_only_nothing_is_allowed_nothing_is_drawn(loaded, monkeypatch):
    from sotopia_gym.agents import sampling

    monkeypatch.setattr(sampling, "draw", None)
    sampler = Sampler(*loaded, name="tiny", sampling=Sampling(max_tokens=60))
    policy = PolicyAgent(sampler, prompt=BRIEF, guided=True)
    assert policy.act(observation(allowed=(1, 0, 0, 0, 0))) == Action("none")
    (turn,) = policy.tokens()
    assert set(turn.logprobs) == {0.0}
    assert turn.sampled == sampler.template.answer(answer(Action("none")))
    policy.close()


def test_words_that_look_like_the_end_of_reasoning_are_words(loaded, monkeypatch):
    sampler = Sampler(*loaded, name="tiny", sampling=Sampling(max_tokens=90))
    policy = PolicyAgent(sampler, prompt=BRIEF, guided=True)
    said = Action("speak", "Hm. </think> Deal.")
    monkeypatch.setattr(sampler.template, "text", lambda ids: answer(said))
    assert policy.act(observation()) == said
    policy.close()


def test_a_policy_with_too_short_answers_says_so(loaded):
    sampler = Sampler(*loaded, name="tiny", sampling=Sampling(max_tokens=30))
    policy = PolicyAgent(sampler, prompt=BRIEF, guided=True)
    with pytest.raises(ConfigError, match="max_tokens"):
        policy.act(observation())
    policy.close()
    schema_ = action_schema(observation())
    with pytest.raises(ConfigError, match="30 tokens"):
        sampler.guide(schema_)
