"""Policies: batches, exact records, prompts that continue each other; with a tiny random model."""

import asyncio
import json
from dataclasses import replace

import pytest

from sotopia_gym import agents
from sotopia_gym.agents.prompts import CHAT, SMALL, SOTOPIA
from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import Event
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.errors import ConfigError, ContextOverflowError, ModelError, UnknownIdError
from sotopia_gym.rollout import Rollout, Rules
from sotopia_gym.tasks.background import background
from sotopia_gym.tasks.suites import load_suite
from tests.tiny_model import TEMPLATE, save_tiny_model

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("transformers", reason="the extra 'train' is not installed")

from sotopia_gym.agents.decoding import Sampling, distribution, draw  # noqa: E402
from sotopia_gym.agents.policy import PolicyAgent  # noqa: E402
from sotopia_gym.agents.sampling import Sampler  # noqa: E402

# A short prompt: the tiny model reads bytes.
BRIEF = replace(CHAT, name="brief", system="Play.", opening="{name}: {goal}\n")
TASKS = load_suite("starter").tasks[:8]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def make(loaded):
    """Makes samplers of the tiny model, and closes them."""
    made = []

    def sampler(max_tokens=24, temperature=1.0, top_p=1.0, context=None, **options):
        sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
        made.append(Sampler(*loaded, name="tiny", sampling=sampling, **options))
        made[-1].context = context or made[-1].context
        return made[-1]

    yield sampler
    for one in made:
        one.close()


def prompts(sampler, count):
    """Prompts of very different lengths."""
    text = "Would you take $40 for the old radio? It has served me well for many years. " * 3
    return [
        sampler.template.opening([{"role": "user", "content": text[: 7 + 31 * i]}])
        for i in range(count)
    ]


def ask(sampler, some):
    futures = [sampler.submit(p, seed=f"s{i}", episode=i) for i, p in enumerate(some)]
    return [future.result() for future in futures]


def observation(task=TASKS[0], agent="agent_0", said=(), turn=None):
    lines = [transcript.line(event, task.names) for event in said]
    return {
        "background": background(task, agent, max_turns=20),
        "dialogue": "\n".join(lines),
        "last_turn": "",
        "turn": (said[-1].turn if said else 0) if turn is None else turn,
        "your_turn": 1,
        "allowed_actions": [1, 1, 1, 1, 1],
    }


def rows(turns):
    """Each turn's whole prompt, and what was sampled."""
    before = []
    for turn in turns:
        prompt = before[: turn.shared] + list(turn.prompt)
        yield turn, before, prompt
        before = prompt + list(turn.sampled)


def recomputed(model, prompt, sampled, sampling):
    """Log-probabilities by one plain forward pass over the whole row."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *sampled]]), use_cache=False).logits[0]
    logprobs = distribution(logits[len(prompt) - 1 : -1], sampling)
    return logprobs.gather(-1, torch.tensor(sampled)[:, None])[:, 0].tolist()


def chat_of(make, n_turns=5, **options):
    """A policy that talked for some turns; what it was told depends on nothing it said."""
    policy = PolicyAgent(make(**options), prompt=BRIEF)
    policy.reset(seed=3)
    said = []
    for number in range(n_turns):
        action = policy.act(observation(said=said))
        said.append(Event(2 * number + 1, "agent_0", action))
        said.append(
            Event(2 * number + 2, "agent_1", agents.base.Action("speak", f"And ${number}?"))
        )
    return policy


# --- drawing --------------------------------------------------------------------------------


def test_tokens_are_drawn_as_often_as_they_are_probable():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    sampling = Sampling(temperature=0.7)
    probable = torch.softmax(logits[0] / 0.7, -1).tolist()
    count = 20_000
    ids, logprobs = draw(logits.expand(count, -1), sampling, [i / count for i in range(count)])
    for id_, probability in enumerate(probable):
        assert ids.count(id_) / count == pytest.approx(probability, abs=1e-3)
    assert logprobs[0] == pytest.approx(torch.tensor(probable[0]).log().item(), abs=1e-5)


def test_top_p_keeps_the_fewest_tokens_that_are_probable_enough():
    logits = torch.tensor([0.1, 0.5, 0.3, 0.1]).log()[None]
    kept = distribution(logits, Sampling(top_p=0.7))[0].exp().tolist()
    assert kept == pytest.approx([0, 0.625, 0.375, 0])
    ids, _ = draw(logits.expand(3, -1), Sampling(top_p=0.7), [0.0, 0.62, 0.9999])
    assert ids == [1, 1, 2]


def test_without_temperature_the_most_probable_is_certain():
    assert draw(torch.tensor([[0.0, 3.0]]), Sampling(temperature=0), [0.9]) == ([1], [0.0])


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"max_tokens": 0}])
def test_a_distribution_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sampling(**wrong)


# --- batches --------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"temperature": 0}, {"temperature": 0.8, "top_p": 0.9}])
def test_a_batch_writes_what_each_would_write_alone(make, settings):
    alone, together = make(**settings, max_batch=1), make(**settings, max_batch=7)
    # So many ends that rows leave, and others join, at different times.
    alone.template.stops = together.template.stops = frozenset(range(20))
    some = prompts(alone, 12)
    one, many = ask(alone, some), ask(together, some)
    assert [answer.ids for answer in one] == [answer.ids for answer in many]
    for a, b in zip(one, many, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
    assert settings.get("temperature") == 0 or len({len(answer.ids) for answer in one}) > 3


def test_rows_outgrow_their_batch(make):
    """Longer than the slack of a batch's memory, so that it is made anew on the way."""
    alone, together = make(max_tokens=300, max_batch=1), make(max_tokens=300)
    some = prompts(alone, 3)
    alone.template.stops = together.template.stops = frozenset()
    one, many = ask(alone, some), ask(together, some)
    assert [len(answer.ids) for answer in one] == [300, 300, 300]
    assert [answer.ids for answer in one] == [answer.ids for answer in many]


def test_an_answer_ends_with_its_end_or_is_cut_off(make, loaded):
    sampler = make()
    assert sampler.template.stops == {loaded[1].eos_token_id}
    ends = sampler.template.stops = frozenset(range(10))
    answers = ask(sampler, prompts(sampler, 12))
    ended = [answer for answer in answers if answer.ids[-1] in ends]
    assert 0 < len(ended) < 12
    for answer in answers:
        assert not ends & set(answer.ids[:-1])
        assert answer in ended or len(answer.ids) == 24


def test_one_request_that_fails_costs_no_other(make, monkeypatch):
    from sotopia_gym.agents import sampling

    sampler = make()
    some = prompts(sampler, 4)
    read = sampling.read

    def broken(model, ids, memory):
        if tuple(ids) == tuple(some[2]):
            raise RuntimeError("out of memory")
        return read(model, ids, memory)

    monkeypatch.setattr(sampling, "read", broken)
    futures = [sampler.submit(p, seed="", episode=i) for i, p in enumerate(some)]
    with pytest.raises(ModelError, match="out of memory"):
        futures[2].result()
    assert all(futures[i].result().ids for i in (0, 1, 3))


def test_a_step_that_fails_fails_those_in_it_and_no_later_one(make, monkeypatch):
    from sotopia_gym.agents.decoding import Batch

    sampler = make()
    (prompt,) = prompts(sampler, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "step", lambda self: 1 / 0)
        with pytest.raises(ModelError, match="ZeroDivisionError"):
            sampler.submit(prompt, seed="", episode=0).result()
    assert sampler.submit(prompt, seed="", episode=0).result().ids


def test_attention_that_is_compiled_for_every_length_is_off_while_any_sampler_works(
    make, loaded, monkeypatch
):
    from torch.backends import cuda

    from sotopia_gym.agents.decoding import any_length

    met, forward = [], loaded[0].forward

    def told(*args, **kwargs):
        met.append(cuda.cudnn_sdp_enabled())
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded[0], "forward", told)
    before = cuda.cudnn_sdp_enabled()
    sampler = make()
    (prompt,) = prompts(sampler, 1)
    with any_length:
        sampler.submit(prompt, seed="", episode=0).result()
        sampler.close()  # waits until its thread has let go
        assert not cuda.cudnn_sdp_enabled()
    assert met
    assert not any(met)
    assert before
    assert cuda.cudnn_sdp_enabled()


# --- what is kept between turns ----------------------------------------------------------------


def test_what_was_read_before_is_not_read_again_and_changes_nothing(make):
    kept, anew = make(), make(cache_bytes=0)
    (prompt,) = prompts(kept, 1)
    for sampler in (kept, anew):
        first = sampler.submit(prompt, seed="a", episode="e").result()
        longer = [*prompt, *first.ids, *sampler.template.next(first.ids, "And $50?")]
        second = sampler.submit(longer, seed="b", episode="e").result()
        assert second.reused == (len(prompt) + len(first.ids) - 1 if sampler is kept else 0)
        if sampler is kept:
            expected = second
    assert expected.ids == second.ids
    assert expected.logprobs == pytest.approx(second.logprobs, abs=1e-4)


def test_memory_between_turns_is_bounded_the_oldest_goes_first(make):
    (prompt,) = prompts(make(), 1)
    per_token = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, features, bytes
    sampler = make(max_tokens=1, cache_bytes=2 * per_token * len(prompt))
    for episode in "abc":
        sampler.submit(prompt, seed="", episode=episode).result()
    reused = {e: sampler.submit(prompt, seed="", episode=e).result().reused for e in "cb"}
    assert reused == {"c": len(prompt) - 1, "b": len(prompt) - 1}
    assert sampler.submit(prompt, seed="", episode="a").result().reused == 0


def test_new_weights_count_and_forget_what_the_old_ones_read(make, folder):
    sampler = Sampler.load(str(folder), sampling=Sampling(max_tokens=8))
    (prompt,) = prompts(sampler, 1)
    before = sampler.submit(prompt, seed="a", episode="e").result()
    state = {name: value * 0.5 for name, value in sampler.model.state_dict().items()}
    assert sampler.update(state) == 1
    after = sampler.submit(prompt, seed="a", episode="e").result()
    assert (before.version, after.version, after.reused) == (0, 1, 0)
    assert before.logprobs[0] != after.logprobs[0]
    assert sampler.update() == 2
    with pytest.raises(RuntimeError, match="state_dict"):
        sampler.update({"unknown": torch.zeros(1)})
    assert sampler.weights_version == 2
    sampler.close()
    assert sampler.submit(prompt, seed="a", episode="e").result().ids == after.ids
    sampler.close()


# --- the record --------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_p": 0.9}])
def test_recorded_probabilities_are_those_of_a_plain_forward_pass(make, loaded, settings):
    policy = PolicyAgent(make(**settings), prompt=BRIEF)
    rollout = Rollout(TASKS, policy, "scripted/fair", rules=Rules(max_turns=6), concurrency=16)
    checked = 0
    for episode in rollout:
        for turns in episode.tokens.values():
            for turn, _, prompt in rows(turns):
                sampling = policy.sampler.sampling
                expected = recomputed(loaded[0], prompt, turn.sampled, sampling)
                assert list(turn.logprobs) == pytest.approx(expected, abs=1e-3)
                checked += len(turn.sampled)
    assert checked > 300


def test_an_episode_is_one_row(make):
    policy = chat_of(make)
    usage = policy.usage()
    assert [turn.turn for turn in policy.tokens()] == [1, 3, 5, 7, 9]
    read = 0
    for turn, before, prompt in rows(policy.tokens()):
        assert turn.shared == len(before)
        read += len(prompt)
    assert usage.requests == 5
    assert usage.prompt_tokens == read
    assert usage.completion_tokens == sum(len(turn.sampled) for turn in policy.tokens())


def test_the_row_reads_as_the_chat_that_was_held(make, loaded):
    policy = chat_of(make, n_turns=2)
    first, second = policy.tokens()
    tokenizer = loaded[1]
    text = tokenizer.decode(first.prompt)
    assert text.startswith("<|start|>system\nPlay.<|end|>\n<|start|>user\n")
    assert TASKS[0].goal("agent_0")[:20] in text
    assert text.endswith("<|end|>\n<|start|>assistant\n")
    ended = first.sampled[-1] == tokenizer.eos_token_id
    name = TASKS[0].names["agent_1"].split()[0]
    assert tokenizer.decode(second.prompt) == (
        f'{"" if ended else "<|end|>"}\n<|start|>user\n{name} said: "And $0?"<|end|>\n'
        "<|start|>assistant\n"
    )


def test_what_others_did_in_the_same_turn_is_told_in_the_next(make, loaded):
    policy = PolicyAgent(make(), prompt=BRIEF)
    task = TASKS[0]
    policy.act(observation(agent="agent_1"))
    said = [
        Event(1, "agent_0", agents.base.Action("speak", "At the same time.")),
        Event(1, "agent_1", agents.base.Action("none")),
    ]
    policy.act(observation(agent="agent_1", said=said))
    told = loaded[1].decode(policy.tokens()[1].prompt)
    assert told.count("At the same time.") == 1
    assert task.names["agent_1"].split()[0] not in told


def test_who_comes_late_reads_everything_before(make, loaded):
    policy = PolicyAgent(make(), prompt=BRIEF)
    said = [
        Event(1, "agent_0", agents.base.Action("speak", "My own words.")),
        Event(2, "agent_1", agents.base.Action("speak", "Your words.")),
    ]
    policy.act(observation(said=said))
    text = loaded[1].decode(policy.tokens()[0].prompt)
    assert text.index("My own words.") < text.index("Your words.")


def test_a_prompt_that_is_no_chat_is_made_anew(make):
    policy = PolicyAgent(make(), prompt=SOTOPIA)
    for turn, said in ((0, ()), (1, (Event(1, "agent_0", agents.base.Action("speak", "Hi")),))):
        policy.act(observation(said=said, turn=turn))
    first, second = policy.tokens()
    assert 100 < second.shared < len(first.prompt)


# --- a full context ----------------------------------------------------------------------------


def test_a_full_context_loses_its_oldest_turns_but_not_the_goal(make, loaded):
    free = chat_of(make, n_turns=8)
    longest = max(len(prompt) for _, _, prompt in rows(free.tokens()))
    policy = chat_of(make, n_turns=8, context=int(longest * 0.8) + 24)
    cut = []
    for turn, before, prompt in rows(policy.tokens()):
        assert len(prompt) + 24 <= policy.sampler.context
        text = loaded[1].decode(prompt)
        assert TASKS[0].goal("agent_0")[:20] in text
        if turn.shared < len(before):
            cut.append(turn.turn)
            assert "And $0?" not in text
            assert f"And ${(turn.turn - 3) // 2}?" in text
            # Exactly what was sampled last is still there.
            last = loaded[1].decode(before[-4:])
            assert last in text
    assert 1 <= len(cut) < 4  # it is cut well below the limit, not in every turn
    for turn, _, prompt in rows(policy.tokens()):
        expected = recomputed(loaded[0], prompt, turn.sampled, policy.sampler.sampling)
        assert list(turn.logprobs) == pytest.approx(expected, abs=1e-3)


def test_a_context_too_small_for_the_goal_says_so(make):
    policy = PolicyAgent(make(context=100), prompt=BRIEF)
    with pytest.raises(ContextOverflowError, match="role and goal alone take"):
        policy.act(observation())
    with pytest.raises(ContextOverflowError, match="at most 76"):
        policy.sampler.submit(range(77), seed="", episode=0)


# --- actions -----------------------------------------------------------------------------------


def answering(make, monkeypatch, text):
    policy = PolicyAgent(make(), prompt=BRIEF)
    monkeypatch.setattr(policy.sampler.template, "text", lambda ids: text)
    return policy, policy.act(observation())


@pytest.mark.parametrize("thought", ["", "<think>\nHm.\n</think>\n\n"])
def test_json_becomes_an_action(make, monkeypatch, thought):
    answer = thought + json.dumps({"action_type": "speak", "argument": "Hello"})
    assert answering(make, monkeypatch, answer)[1] == agents.base.Action("speak", "Hello")


@pytest.mark.parametrize("text", ["", "Hello!", '{"action_type": "fly"}', "x" * 9000])
def test_what_is_no_action_passes_the_turn_and_is_recorded(make, monkeypatch, text):
    policy, action = answering(make, monkeypatch, text)
    assert action.action_type == "none"
    assert repr(text)[1:100] in action.note
    assert len(action.note) < 700
    assert policy.tokens()[0].sampled


# --- many episodes -----------------------------------------------------------------------------


def test_episodes_at_once_are_those_one_by_one_and_survive_the_journal(make, tmp_path):
    played = []
    for concurrency in (1, 16):
        policy = PolicyAgent(make(), prompt=BRIEF)
        path = tmp_path / f"{concurrency}.jsonl"
        rollout = Rollout(
            TASKS,
            policy,
            "scripted/fair",
            rules=Rules(max_turns=5),
            concurrency=concurrency,
            journal=path,
        )
        episodes = {episode.key: episode for episode in rollout}
        assert len(episodes) == 16
        assert {e.key: e.tokens for e in Journal(path)} == {
            key: episode.tokens for key, episode in episodes.items()
        }
        played.append(episodes)
    for key, alone in played[0].items():
        together = played[1][key]
        assert alone.events == together.events
        assert alone.models == {alone.focal: ("tiny float32 weights 0",)}
        assert alone.prompts == {**alone.prompts, alone.focal: BRIEF.version}
        for one, other in zip(alone.tokens[alone.focal], together.tokens[alone.focal], strict=True):
            assert one.sampled == other.sampled
            assert (one.turn, one.shared, one.prompt) == (other.turn, other.shared, other.prompt)


def test_forks_share_the_model_and_nothing_of_an_episode(make):
    policy = PolicyAgent(make(), prompt=BRIEF)
    one, other = policy.fork(), policy.fork()
    one.reset(seed=1)
    other.reset(seed=2)

    async def both():
        await asyncio.gather(one.aact(observation()), other.aact(observation(agent="agent_1")))

    asyncio.run(both())
    assert one.sampler is other.sampler
    assert one.tokens() != other.tokens()
    assert len(one.tokens()) == len(other.tokens()) == 1
    assert policy.tokens() == ()
    one.reset(seed=1)
    assert one.tokens() == ()
    assert one.usage().requests == 0


def test_who_gives_up_waiting_leaves_the_agent_usable(make):
    policy = PolicyAgent(make(), prompt=BRIEF)

    async def impatient():
        waiting = asyncio.create_task(policy.aact(observation()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(impatient())
    policy.act(observation())
    (turn,) = policy.tokens()
    assert turn.shared == 0


# --- where they come from ----------------------------------------------------------------------


def test_a_spec_names_a_folder_and_a_prompt(folder):
    policy = agents.from_spec(f"hf/{folder}?prompt=small")
    assert policy.name == f"hf/{folder}?prompt=small"
    assert policy.prompt() == SMALL.version
    assert agents.from_spec(f"hf/{folder}").prompt() == CHAT.version
    with pytest.raises(UnknownIdError, match="no prompt 'smal'"):
        agents.from_spec(f"hf/{folder}?prompt=smal")


def test_a_folder_without_a_model_says_what_was_expected(tmp_path):
    with pytest.raises(ModelError, match="save_pretrained"):
        agents.from_spec(f"hf/{tmp_path}")


def test_an_adapter_is_loaded_onto_its_base(folder, tmp_path, loaded):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    config = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False, r=2)
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    adapted.save_pretrained(tmp_path)
    sampler = Sampler.load(str(tmp_path), sampling=Sampling(max_tokens=8))
    (prompt,) = prompts(sampler, 1)
    (answer,) = ask(sampler, [prompt])
    expected = recomputed(adapted.eval(), prompt, answer.ids, sampler.sampling)
    assert list(answer.logprobs) == pytest.approx(expected, abs=1e-3)
    plain = recomputed(loaded[0], prompt, answer.ids, sampler.sampling)
    assert list(answer.logprobs) != pytest.approx(plain, abs=1e-3)
    sampler.close()


def test_templates_without_a_system_role_or_with_another_end(loaded):
    import copy

    from sotopia_gym.agents.template import ChatTemplate

    tokenizer = copy.deepcopy(loaded[1])
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('none') }}{% endif %}"
        + TEMPLATE.replace("<|end|>", "<|pad|>")
    )
    template = ChatTemplate(tokenizer)
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    assert template.stops == {pad, end}
    chat = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "Hi"}]
    assert tokenizer.decode(template.opening(chat)).startswith("<|start|>user\nRules.\n\nHi<|pad|>")
    assert tokenizer.decode(template.next([65, pad], "A")).startswith("\n<|start|>user\nA")
    assert tokenizer.decode(template.next([65, 66], "A")).startswith("<|pad|>\n<|start|>user\nA")
    assert template.text([*tokenizer("Well")["input_ids"], end]) == "Well"
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="has no chat template"):
        ChatTemplate(tokenizer)
