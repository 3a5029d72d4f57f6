"""Episodes as examples: what is imitated is what would have been seen, and nothing else."""

import json
from concurrent.futures import Future

import pytest

from sotopia_gym import Action, Agent, play
from sotopia_gym.agents.prompts import BRIEF, CHAT, PROMPTS, SOTOPIA, answer
from sotopia_gym.agents.scripted import scripted
from sotopia_gym.agents.template import ChatTemplate
from sotopia_gym.envs.dialogue import Event
from sotopia_gym.envs.parallel import SocialEnv
from sotopia_gym.episodes.importers import import_episodes
from sotopia_gym.episodes.schema import Episode, Source, TurnTokens
from sotopia_gym.errors import ConfigError, ContextOverflowError
from sotopia_gym.tasks.suites import load_suite
from sotopia_gym.training.rows import packed
from sotopia_gym.training.sft import (
    examples,
    first_difference,
    perceived,
    save_examples,
    silent,
    turns,
)
from tests.tiny_model import save_tiny_model

pytest.importorskip("transformers", reason="the extra 'train' is not installed")

MUCH = 1 << 20


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def template(tokenizer):
    return ChatTemplate(tokenizer)


class Noting(Agent):
    """Plays as somebody else does, and keeps what it observed."""

    def __init__(self, player):
        self.player, self.seen = player, []
        self.name = player.name

    def reset(self, *, seed):
        self.player.reset(seed=seed)

    def act(self, observation):
        self.seen.append(observation)
        return self.player.act(observation)


class Saying(Agent):
    """Says what it is given, one thing a turn."""

    name = "saying"

    def __init__(self, *said):
        self.said = said

    def reset(self, *, seed):
        self.left = list(self.said)

    def act(self, observation):
        return self.left.pop(0) if self.left else Action("none")


class Forced:
    """In place of a model: it "samples" an answer that somebody else wrote."""

    def __init__(self, template, texts, context):
        self.template, self.context = template, context
        self.name, self.dtype, self.sampling = "forced", "float32", None
        self._texts, self.room = list(texts), context
        self.asked = []

    def submit(self, prompt, *, seed, episode, guide=None):
        from sotopia_gym.agents.sampling import Answer

        self.asked.append(tuple(prompt))
        ids = self.template.answer(self._texts.pop(0))
        future = Future()
        future.set_result(Answer(ids, (0.0,) * len(ids), 0, 0))
        return future

    def close(self):
        pass


def forced(template, episode, agent, prompt, room=MUCH):
    """A policy that says in this episode what the agent said."""
    from sotopia_gym.agents.policy import PolicyAgent

    names = episode.task.names
    texts = [
        answer(Action(e.action.action_type, e.action.argument, [names[to] for to in e.action.to]))
        for e in episode.events
        if e.agent == agent
    ]
    return PolicyAgent(Forced(template, texts, room), prompt=prompt)


def played(players, *, suite="starter", task=0, **rules):
    env = SocialEnv(suite, judge="outcome", **rules)
    return play(env, players, seed=0, options={"task": load_suite(suite).tasks[task].task_id})


def three(*said, order="simultaneous", max_turns=4):
    roles = [f"agent_{i}" for i in range(3)]
    players = {role: Noting(Saying(*words)) for role, words in zip(roles, said, strict=True)}
    episode = played(players, suite="plan-3", turn_order=order, max_turns=max_turns)
    return episode, players


def whisper(text, *to):
    return Action("speak", text, to)


SAID = (
    (Action("speak", "One, all."), whisper("One, two.", "agent_1"), Action("speak", "One again.")),
    (Action("speak", "Two, all."), whisper("Two, three.", "agent_2"), Action("leave")),
    (Action("none"), whisper("Three, both.", "agent_0", "agent_1"), Action("action", "nods")),
)


# --- what was perceived ------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["round-robin", "simultaneous", "random"])
def test_what_is_perceived_is_what_was_observed(order):
    episode, players = three(*SAID, order=order, max_turns=9)
    for agent, player in players.items():
        found = list(perceived(episode, agent))
        assert [event.agent for _, event in found] == [agent] * len(found)
        assert len(found) == len(player.seen)
        for (observation, _), seen in zip(found, player.seen, strict=True):
            assert observation.keys() == seen.keys()
            assert observation["allowed_actions"].tolist() == seen["allowed_actions"].tolist()
            for key in set(seen) - {"allowed_actions"}:
                assert observation[key] == seen[key], key


def test_what_is_written_with_many_escapes_is_not_cut_off():
    unseen = "\u200b" * 4096
    episode, players = three((Action("speak", unseen),) * 3, (Action("none"),) * 3, ())
    last, _ = list(perceived(episode, "agent_1"))[-1]
    assert last["dialogue"] == players["agent_1"].seen[-1]["dialogue"]
    assert last["dialogue"].count("said") == 3


def test_what_has_no_conversation_or_no_such_agent_is_refused():
    episode, _ = three(*SAID)
    with pytest.raises(ConfigError, match="no agent 'agent_7'"):
        list(perceived(episode, "agent_7"))
    bare = Source(format="release", record_id="x", transcript=False)
    with pytest.raises(ConfigError, match="no conversation"):
        list(perceived(episode.model_copy(update={"source": bare}), "agent_0"))


def test_examples_are_what_a_model_would_be_shown():
    players = {"agent_0": Noting(scripted("expert")), "agent_1": scripted("fair")}
    episode = played(players)
    for prompt in (CHAT, SOTOPIA, BRIEF):
        found = list(examples(episode, "agent_0", prompt))
        shown = [prompt.messages(observation) for observation in players["agent_0"].seen]
        assert [list(example.prompt) for example in found] == shown
    said = [json.loads(example.completion[0]["content"]) for example in found]
    assert [line["argument"] for line in said] == [
        event.action.argument for event in episode.events if event.agent == "agent_0"
    ]
    assert {(e.episode_id, e.task_id, e.agent) for e in found} == {
        (episode.episode_id, episode.task.task_id, "agent_0")
    }


def test_an_example_tells_nothing_that_comes_later_or_is_private():
    episode, _ = three(*SAID)
    one, two, three_ = (
        [example.prompt[-1]["content"] for example in examples(episode, agent, BRIEF)]
        for agent in ("agent_0", "agent_1", "agent_2")
    )
    # What others do in the same turn is told in the next one.
    assert "Two, all." not in two[0] + one[0] + three_[0]
    assert "One, all." not in "".join(two[:1]) + three_[0]
    assert "Two, all." in one[1]
    assert "One, all." in two[1]
    assert [text.count("Two, three.") for text in (one[2], two[2], three_[2])] == [0, 0, 1]
    assert [text.count("One, two.") for text in (one[2], two[2], three_[2])] == [0, 1, 0]
    secrets = [episode.task.goal("agent_1"), episode.task.goal("agent_2")]
    assert not any(secret in "".join(one) for secret in secrets)
    completions = [e.completion[0]["content"] for e in examples(episode, "agent_0", BRIEF)]
    name = episode.task.names["agent_1"]
    assert json.loads(completions[1]) == {
        "action_type": "speak",
        "argument": "One, two.",
        "to": [name],
    }


def test_silent_turns_are_examples_unless_they_are_left_out():
    episode, _ = three(*SAID)
    assert silent(episode, "agent_2") == {1, 4}
    assert silent(episode, "agent_0") == {4}
    assert [e.turn for e in examples(episode, "agent_2", BRIEF)] == [1, 2, 3, 4]
    found = examples(episode, "agent_2", BRIEF, silent_turns=False)
    assert [e.turn for e in found] == [2, 3]


def test_saved_examples_come_back_from_datasets(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the extra 'train' is not installed")
    episode, _ = three(*SAID)
    found = list(examples(episode, "agent_0", BRIEF))
    path = tmp_path / "new" / "examples.jsonl"
    assert save_examples(found, path) == len(found) == 4
    read = datasets.Dataset.from_json(str(path), cache_dir=str(tmp_path / "cache"))
    assert read.to_list() == [example.row() for example in found]

    def broken():
        yield found[0]
        raise RuntimeError

    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        save_examples(broken(), path)
    assert path.read_bytes() == before


# --- as token ids ------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [BRIEF, CHAT, SOTOPIA, PROMPTS["small"]], ids=lambda p: p.name)
def test_the_ids_are_those_of_a_policy_that_says_the_same(template, prompt):
    partners = {"agent_1": scripted("fair")}
    episode = played({"agent_0": scripted("expert"), **partners})
    policy = forced(template, episode, "agent_0", prompt)
    again = played({"agent_0": policy, **partners})
    assert again.events == episode.events
    found = turns(episode, "agent_0", template, prompt, most=MUCH)
    recorded = again.tokens["agent_0"]
    assert len(found) > 2
    assert [t.model_copy(update={"logprobs": ()}) for t in recorded] == list(found)
    assert not any(t.logprobs for t in found)
    read = ()
    for each, asked in zip(found, policy.sampler.asked, strict=True):
        assert read[: each.shared] + each.prompt == asked
        read = asked + each.sampled
    if prompt is not SOTOPIA:
        assert len(list(packed(found))) == 1


@pytest.mark.parametrize("order", ["round-robin", "simultaneous", "random"])
def test_so_they_are_among_three_who_whisper(template, order):
    episode, _ = three(*SAID, order=order, max_turns=9)
    for agent in episode.task.agents:
        others = {
            role: Saying(*said)
            for role, said in zip(episode.task.agents, SAID, strict=True)
            if role != agent
        }
        policy = forced(template, episode, agent, BRIEF)
        again = played({agent: policy, **others}, suite="plan-3", turn_order=order, max_turns=9)
        assert again.events == episode.events
        found = turns(episode, agent, template, BRIEF, most=MUCH)
        recorded = again.tokens.get(agent, ())
        assert [t.model_copy(update={"logprobs": ()}) for t in recorded] == list(found)


@pytest.mark.parametrize("order", ["round-robin", "simultaneous", "random"])
def test_messages_and_ids_say_the_same(template, tokenizer, order):
    episode, _ = three(*SAID, order=order, max_turns=9)
    for agent in episode.task.agents:
        read = turns(episode, agent, template, BRIEF, most=MUCH)
        chat = []
        for ids, example in zip(prompts(read), examples(episode, agent, BRIEF), strict=True):
            assert list(example.prompt[: len(chat)]) == chat
            chat = [*example.prompt, *example.completion]
            assert tokenizer.decode(ids) == tokenizer.apply_chat_template(
                list(example.prompt), tokenize=False, add_generation_prompt=True
            )


def test_what_a_policy_recorded_is_not_tokenised_again(template):
    recorded = (
        TurnTokens(turn=1, prompt=(1, 2), sampled=(3,), logprobs=(-0.5,)),
        TurnTokens(turn=3, shared=3, prompt=(4,), sampled=(5, 6), logprobs=(-0.5, -1.0)),
    )
    episode, _ = three(*SAID)
    episode = episode.model_copy(update={"tokens": {"agent_0": recorded}})
    assert turns(episode, "agent_0", template, BRIEF, most=6) is recorded
    with pytest.raises(ContextOverflowError, match="turn 3 has 6 tokens"):
        turns(episode, "agent_0", template, BRIEF, most=5)
    assert turns(episode, "agent_1", template, BRIEF, most=MUCH)[0].sampled != (3,)


def prompts(found):
    read = ()
    for each in found:
        yield read[: each.shared] + each.prompt
        read = read[: each.shared] + each.prompt + each.sampled


def long_episode():
    said = [Action("speak", f"My word number {i} is this one.") for i in range(12)]
    heard = [Action("speak", f"And what I say to {i} is that.") for i in range(12)]
    players = {"agent_0": Saying(*said), "agent_1": Saying(*heard)}
    return played(players, max_turns=24)


def test_a_long_episode_loses_its_oldest_turns_but_neither_role_nor_goal(template, tokenizer):
    episode = long_episode()
    free = list(prompts(turns(episode, "agent_0", template, BRIEF, most=MUCH)))
    most = len(free[-1]) * 2 // 3
    found = turns(episode, "agent_0", template, BRIEF, most=most)
    cut = before = 0
    for number, (each, ids) in enumerate(zip(found, prompts(found), strict=True)):
        assert len(ids) + len(each.sampled) <= most
        text = tokenizer.decode(ids)
        assert episode.task.goal("agent_0") in text
        assert f"You are {episode.task.names['agent_0']}" in text
        if number:
            assert f"number {number - 1} is this" in text
            assert f"to {number - 1} is that" in text
        assert (ids == free[number]) == ("number 0 is" in text or number == 0)
        cut += each.shared < before
        before = len(ids) + len(each.sampled)
    assert "number 0 is" not in text
    assert 1 <= cut < 4
    rows = list(packed(found))
    assert len(rows) == 1 + cut
    assert sum(row.trained for row in rows) == sum(len(each.sampled) for each in found)


def test_cutting_is_that_of_a_policy_with_as_much_room(template):
    episode = long_episode()
    found = turns(episode, "agent_0", template, BRIEF, most=1500)
    longest = max(len(each.sampled) for each in found)
    policy = forced(template, episode, "agent_0", BRIEF, room=1500 - longest)
    partner = Saying(*(e.action for e in episode.events if e.agent == "agent_1"))
    again = played({"agent_0": policy, "agent_1": partner}, max_turns=24)
    recorded = again.tokens["agent_0"]
    assert [t.model_copy(update={"logprobs": ()}) for t in recorded] == list(found)
    assert len(list(packed(found))) > 1


def test_where_role_and_goal_do_not_fit_it_says_so(template):
    with pytest.raises(ContextOverflowError, match="role and goal alone take"):
        turns(long_episode(), "agent_0", template, BRIEF, most=200)


def test_who_never_had_a_turn_gives_none(template):
    players = {"agent_0": Saying(Action("leave")), "agent_1": Saying()}
    episode = played(players)
    assert turns(episode, "agent_1", template, BRIEF, most=MUCH) == ()
    assert list(examples(episode, "agent_1", BRIEF)) == []


# --- pairs -------------------------------------------------------------------------------------


def two(own, others):
    return played({"agent_0": Saying(*own), "agent_1": Saying(*others)}, max_turns=6)


def test_episodes_part_where_the_agent_did_different_things_after_the_same_words():
    hello, partner = Action("speak", "Hello."), [Action("speak", "Yes?"), Action("speak", "Well?")]
    better = two([hello, Action("speak", "$40?"), Action("leave")], partner)
    worse = two([hello, Action("speak", "$90?"), Action("none")], partner)
    found = first_difference(better, worse, "agent_0", BRIEF)
    (_, asked, *_) = examples(better, "agent_0", BRIEF)
    assert found["prompt"] == list(asked.prompt)
    assert [
        json.loads(found[side][0]["content"])["argument"] for side in ("chosen", "rejected")
    ] == [
        "$40?",
        "$90?",
    ]
    assert first_difference(better, better, "agent_0", BRIEF) is None
    shorter = two([hello], partner)
    found = first_difference(better, shorter, "agent_0", BRIEF)
    assert json.loads(found["rejected"][0]["content"])["action_type"] == "none"


def test_where_somebody_else_parts_first_there_is_no_pair():
    hello = Action("speak", "Hello.")
    better = two([hello, Action("speak", "$40?")], [Action("speak", "Yes?")])
    worse = two([hello, Action("speak", "$90?")], [Action("speak", "No.")])
    assert first_difference(better, worse, "agent_0", BRIEF) is None


# --- episodes of others ------------------------------------------------------------------------


def test_imported_episodes_give_examples_and_ids(data, template):
    files = sorted((data / "episodes").rglob("*.json*"))[:1]
    if not files:
        pytest.skip("no episodes among the test data")
    episodes = [e for e in import_episodes(files).episodes if e.has_transcript][:20]
    checked = 0
    for episode in episodes:
        for agent in episode.task.agents:
            own = [event for event in episode.events if event.agent == agent]
            found = list(examples(episode, agent, BRIEF))
            assert [example.turn for example in found] == [event.turn for event in own]
            read = turns(episode, agent, template, BRIEF, most=MUCH)
            assert [each.turn for each in read] == [event.turn for event in own]
            for each, example in zip(read, found, strict=True):
                said = example.completion[0]["content"]
                assert template.text(each.sampled) == said
                checked += 1
    assert checked > 20


def test_a_record_without_rules_promises_the_usual_number_of_turns():
    episode = long_episode()
    unknown = episode.model_copy(update={"max_turns": None})
    assert "at most 24 turns" in next(examples(episode, "agent_0", CHAT)).prompt[-1]["content"]
    assert "at most 20 turns" in next(examples(unknown, "agent_0", CHAT)).prompt[-1]["content"]


def test_events_need_not_be_in_the_order_of_turns_taken():
    """Silence of everybody is perceived as such."""
    task = load_suite("starter").tasks[0]
    events = (Event(1, "agent_0", Action("none")), Event(2, "agent_1", Action("speak", "Hm.")))
    episode = Episode(task=task, events=events, ending="silence")
    ((observation, _),) = perceived(episode, "agent_1")
    assert observation["dialogue"] == observation["last_turn"]
    assert observation["dialogue"].endswith("did nothing")
