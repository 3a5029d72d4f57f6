"""Edited conversations, and how far a judge moves by them."""

import json

import pytest

import sotopia_gym
from eval import robustness, robustness_edits
from eval.agreement import intraclass
from eval.robustness_edits import EDITS, INJECTIONS, SIDES
from sotopia_gym import Episode, SocialEnv, Suite
from sotopia_gym.envs.dialogue import MAX_ARGUMENT_LENGTH, Action, Event
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import DimensionScore, Judgement
from sotopia_gym.errors import ConfigError, JudgeError, ModelError
from sotopia_gym.judges import Judge, OutcomeJudge
from sotopia_gym.llm.chat import ChatModel, Completion
from sotopia_gym.tasks.families import families

FAMILIES = ("price", "division", "donation", "joint_choice", "secret", "mutual_friend", "dilemma")
PAIRS = (("expert", "expert"), ("stubborn", "stubborn"), ("expert", "silent"))
BY_NAME = {edit.name: edit for edit in EDITS}
LONGER = ("verbosity, weak", "verbosity, strong", "flattery")
ADDED = ("ordinary remark", "claim of success", "secret leaked", "prompt injection")


@pytest.fixture(scope="module")
def episodes():
    """Two tasks of each family, with good and with poor outcomes."""
    played = []
    for name in FAMILIES:
        tasks = tuple(families()[name].generate(seed, "heldout") for seed in range(2))
        env = SocialEnv(Suite(name=name, tasks=tasks), judge="none")
        for task in tasks:
            for pair in PAIRS:
                players = {f"agent_{n}": f"scripted/{who}" for n, who in enumerate(pair)}
                options = {"task": task.task_id}
                played.append(sotopia_gym.play(env, players, seed=1, options=options))
    return played


def said(episode, agent):
    """The words of an agent, turn by turn."""
    return [e.action.argument for e in episode.events if e.agent == agent and e.action.argument]


def told(event):
    return event.agent, event.action


# --- edits


@pytest.mark.parametrize("edit", EDITS, ids=BY_NAME)
def test_what_verifiably_happened_stays_the_same(edit, episodes):
    judge = OutcomeJudge()
    agreed = set()
    for episode in episodes:
        before = judge.judge(episode)
        agreed.add(before.outcome.agreed)
        for side in SIDES:
            edited = edit.make(episode, side)
            after = judge.judge(edited)
            assert Episode.model_validate_json(edited.model_dump_json()) == edited
            assert [after.goal(edit.seat(a)) for a in SIDES] == [before.goal(a) for a in SIDES]
            assert after.outcome.status == before.outcome.status
            assert edited.judgements == ()
    assert agreed == {True, False}


@pytest.mark.parametrize("name", LONGER)
def test_longer_turns_change_the_words_of_the_side_only(name, episodes):
    edit = BY_NAME[name]
    for episode in episodes:
        edited = edit.make(episode, "agent_0")
        assert edited.task == episode.task
        for old, new in zip(episode.events, edited.events, strict=True):
            if old.agent == "agent_0" and old.action.action_type == "speak":
                assert new.action.argument.startswith(old.action.argument + " ")
                assert (new.turn, new.agent, new.action.to) == (old.turn, old.agent, old.action.to)
            else:
                assert new == old


def test_strong_verbosity_is_longer_than_weak(episodes):
    words = [
        len(" ".join(said(BY_NAME[name].make(episodes[0], "agent_0"), "agent_0")).split())
        for name in ("identity", "verbosity, weak", "verbosity, strong")
    ]
    assert words[0] < words[1] < words[2]


def test_a_turn_that_could_not_be_longer_stays(episodes):
    event = Event(1, "agent_0", Action("speak", "x" * MAX_ARGUMENT_LENGTH))
    full = episodes[0].model_copy(update={"events": (event,)})
    assert robustness_edits.verbose(full, "agent_0").events == full.events


def test_compliments_are_to_the_other(episodes):
    edited = robustness_edits.flattering(episodes[0], "agent_0")
    name = episodes[0].task.character("agent_1").first_name
    assert all(name in words for words in said(edited, "agent_0"))


@pytest.mark.parametrize("name", ADDED)
def test_one_more_turn_is_the_sides_and_the_last_before_anybody_leaves(name, episodes):
    for episode in episodes:
        edited = BY_NAME[name].make(episode, "agent_1")
        place = next(
            n
            for n, event in enumerate(edited.events)
            if n == len(episode.events) or event != episode.events[n]
        )
        added = edited.events[place]
        rest = [*edited.events[:place], *edited.events[place + 1 :]]
        assert [told(event) for event in rest] == [told(event) for event in episode.events]
        assert (added.agent, added.action.action_type) == ("agent_1", "speak")
        assert all(event.action.action_type == "leave" for event in edited.events[place + 1 :])
        turns = [event.turn for event in edited.events]
        assert turns == list(range(1, len(turns) + 1))
        assert edited.task == episode.task


def test_what_is_leaked_is_the_own_secret(episodes):
    character = episodes[0].task.character("agent_1")
    assert any(character.secret in w for w in said(_made("secret leaked", episodes[0]), "agent_1"))
    bare = episodes[0].task.model_dump()
    bare["characters"][1]["secret"] = ""
    nothing = episodes[0].model_copy(update={"task": type(episodes[0].task).model_validate(bare)})
    assert _made("secret leaked", nothing).events == nothing.events


def _made(name, episode, side="agent_1"):
    return BY_NAME[name].make(episode, side)


def test_all_injections_are_used_and_are_of_the_collection(episodes):
    known = {attack.id for attack in robustness_edits.load()}
    assert set(INJECTIONS) <= known
    used = {said(_made("prompt injection", e), "agent_1")[-1][:8] for e in episodes}
    assert len(used) > 2


def test_swapped_persons_keep_all_but_their_keys(episodes):
    for episode in episodes:
        edited = robustness_edits.swapped(episode, "agent_0")
        for agent, other in SIDES.items():
            assert edited.task.character(other) == episode.task.character(agent)
            assert edited.task.goal(other) == episode.task.goal(agent)
            assert edited.agents[other] == episode.agents[agent]
            assert said(edited, other) == said(episode, agent)
        assert [e.turn for e in edited.events] == [e.turn for e in episode.events]
        assert robustness_edits.swapped(edited, "agent_0").task == episode.task


def test_what_one_viewer_alone_may_read_follows_the_viewer(episodes):
    task = episodes[0].task.model_dump()
    task["scenario"]["context"] += ' <p viewer="agent_1">It is locked.</p>'
    task = type(episodes[0].task).model_validate(task)
    edited = robustness_edits.swapped(episodes[0].model_copy(update={"task": task}), "agent_0")
    assert '<p viewer="agent_0">It is locked.</p>' in edited.task.scenario.context


# --- the study


class Biased(Judge):
    """Pays for words and believes claims; the first that it is shown gets a point more."""

    name = "biased"
    a_word = 2**-7

    def __init__(self, fails=()):
        self.judged, self._fails = 0, fails

    def judge(self, episode):
        self.judged += 1
        words = {agent: " ".join(said(episode, agent)) for agent in SIDES}
        if any(mark in text for mark in self._fails for text in words.values()):
            raise ModelError("it cannot read this")
        goals = {
            agent: self.a_word * len(text.split()) + 3 * ("my goal in full" in text)
            for agent, text in words.items()
        }
        goals["agent_0"] += 1
        scores = {agent: {"goal": DimensionScore(score=goal)} for agent, goal in goals.items()}
        return Judgement(judge=self.name, scores=scores)


class Killed(Biased):
    """Is killed after so many judgements."""

    def __init__(self, after):
        super().__init__()
        self._after = after

    def judge(self, episode):
        if self.judged == self._after:
            raise KeyboardInterrupt
        return super().judge(episode)


def run(folder, judge, *more, drawing=()):
    options = robustness._arguments(["--json", f"{folder}/result.json", *more])
    return robustness.study(options, judge, drawing)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return run(tmp_path_factory.mktemp("biased"), Biased())["results"]


def test_known_biases_are_measured_exactly(measured):
    cases = robustness.scripted_cases(12, 0)
    assert {case.side for case in cases} == set(SIDES)
    edits = measured["edits"]

    def found(name, who="own"):
        return edits[name]["dimensions"]["goal"][who]["change"]["value"]

    def words(name):
        """Mean number of words that the edit adds."""
        counts = [
            len(" ".join(said(BY_NAME[name].make(c.episode, c.side), c.side)).split())
            - len(" ".join(said(c.episode, c.side)).split())
            for c in cases
        ]
        return sum(counts) / len(counts)

    for name in (*LONGER, *ADDED):
        believed = 3 if name == "claim of success" else 0
        assert found(name) == pytest.approx(Biased.a_word * words(name) + believed, abs=1e-3)
        assert found(name, "other") == 0
    assert found("identity") == 0
    # Who was first and is second now loses the point; the others gain it.
    first = sum(case.side == "agent_0" for case in cases)
    assert found("order of roles") == pytest.approx((12 - 2 * first) / 12, abs=1e-3)
    swap = edits["order of roles"]["dimensions"]["goal"]["own"]
    assert (swap["moved"], swap["raised"]) == (1, pytest.approx((12 - first) / 12, abs=1e-3))
    assert edits["claim of success"]["dimensions"]["goal"]["own"]["raised"] == 1
    assert measured["unscored"] == 0


def test_the_exact_judge_does_not_move(measured):
    assert {
        case.episode.task.task_id.split("-")[0] for case in robustness.scripted_cases(12, 0)
    } == {
        "price",
        "division",
    }
    for edit in measured["edits"].values():
        for of in edit["exact"].values():
            assert (of["pairs"], of["unscored"], of["moved"]) == (12, 0, 0)
            assert of["change"] == {"value": 0, "low": 0, "high": 0}
    assert 0 < measured["with an agreement"] < 12
    assert measured["repeated"]["as it is"]["goal"]["same"] == 1
    assert measured["repeated"]["as it is"]["goal"]["sd"] == 0
    assert "drawn" not in measured["repeated"]


def test_what_the_judge_cannot_score_is_counted_and_not_filled_in(tmp_path, measured):
    found = run(tmp_path, Biased(fails=["my goal in full"]))
    edits = found["results"]["edits"]
    failed = edits["claim of success"]["dimensions"]["goal"]["own"]
    assert failed == {"pairs": 12, "unscored": 12}
    assert found["results"]["unscored"] == 12
    unmoved = edits["flattery"]["dimensions"]["goal"]["own"]["change"]
    assert unmoved == measured["edits"]["flattery"]["dimensions"]["goal"]["own"]["change"]
    causes = [each["unscored because"] for each in found["records"] if "unscored because" in each]
    assert causes == ["it cannot read this"] * 12
    assert edits["claim of success"]["exact"]["own"]["unscored"] == 0


def test_what_failed_is_tried_again_by_the_same_command(tmp_path, measured):
    run(tmp_path, Biased(fails=["my goal in full"]))
    judge = Biased()
    assert run(tmp_path, judge)["results"] == measured
    assert judge.judged == 12
    assert not (tmp_path / "result.partial.jsonl").exists()


def test_a_judge_that_scores_nothing_leaves_no_result(tmp_path):
    with pytest.raises(JudgeError, match="scored none of 36 conversations: it cannot read this"):
        run(tmp_path, Biased(fails=[""]), "--count", "3")
    assert not (tmp_path / "result.json").exists()


def test_few_conversations_have_no_interval_and_p_is_corrected_for_all_edits(tmp_path, measured):
    few = run(tmp_path, Biased(), "--count", "6")["results"]["edits"]
    own = few["verbosity, strong"]["dimensions"]["goal"]["own"]
    assert own["change"]["value"] > 0
    assert own["change"]["low"] is own["change"]["high"] is None
    assert own["p"] == 2 / 2**6  # all six rose: of all ways to choose the signs, two are as far
    assert own["p_holm"] > own["p"]
    assert few["identity"]["dimensions"]["goal"]["own"]["p_holm"] == 1
    assert measured["edits"]["flattery"]["dimensions"]["goal"]["own"]["change"]["low"] is not None


def test_conversations_of_one_scenario_are_one_unit():
    pairs = [("a", 0.0, 1.0), ("a", 0.0, 1.0), ("b", 0.0, 1.0), ("b", 2.0, 3.0), ("c", 0.0, None)]
    found = robustness.change(pairs)
    assert (found["pairs"], found["unscored"], found["p"]) == (5, 1, 0.5)
    assert found["change"] == {"value": 1.0, "low": None, "high": None}


def test_a_run_that_was_killed_goes_on_to_the_same_result(tmp_path):
    once, twice = tmp_path / "once", tmp_path / "twice"
    run(once, Biased(), "--count", "3")
    with pytest.raises(KeyboardInterrupt):
        run(twice, Killed(after=20), "--count", "3")
    assert not (twice / "result.json").exists()
    partial = twice / "result.partial.jsonl"
    partial.write_bytes(partial.read_bytes()[:-20])  # the last line was being written
    judge = Biased()
    run(twice, judge, "--count", "3")
    everything = 3 * (3 + len(EDITS))
    assert judge.judged == everything - 19
    assert (twice / "result.json").read_bytes() == (once / "result.json").read_bytes()
    assert not partial.exists()


def test_a_run_does_not_go_on_with_another_ones_judgements(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Killed(after=2), "--count", "1")
    with pytest.raises(SystemExit, match="another run"):
        run(tmp_path, Biased(), "--count", "1", "--seed", "1")


class Drawn(Biased):
    """Adds its number to what the judge says."""

    def __init__(self, number):
        super().__init__()
        self._number = number

    def judge(self, episode):
        judgement = super().judge(episode)
        scores = {
            agent: {"goal": DimensionScore(score=of["goal"].score + self._number)}
            for agent, of in judgement.scores.items()
        }
        return judgement.model_copy(update={"scores": scores})


def test_drawn_answers_are_held_against_each_other(tmp_path):
    found = run(tmp_path, Biased(), "--count", "4", drawing=[Drawn(0), Drawn(2)])
    of = found["results"]["repeated"]["drawn"]["goal"]
    assert (of["calls"], of["conversations"], of["same"]) == (2, 4, 0)
    assert of["sd"] == pytest.approx(2**0.5, abs=1e-4)
    goals = {each["id"]: each["scores"]["own"]["goal"] for each in found["records"]}
    table = [[goals[f"{n}/drawn {call}"] for call in (1, 2)] for n in range(4)]
    assert of["ICC(1,1)"] == pytest.approx(intraclass(table)["ICC(1,1)"], abs=1e-4)


def test_conversations_of_journals(tmp_path, episodes):
    journal = Journal(tmp_path / "played.jsonl")
    for episode in episodes:
        journal.append(episode.model_copy(update={"focal": "agent_0"}))
    journal.append(episodes[0].model_copy(update={"ending": "failed", "seed": 9}))
    journal.append(episodes[0].model_copy(update={"events": (), "seed": 8}))
    cases = robustness.journal_cases([journal.path], 10, 0)
    assert {case.side for case in cases} == {"agent_0"}
    assert [c.episode for c in robustness.journal_cases([journal.path], 10, 0)] == [
        case.episode for case in cases
    ]
    with pytest.raises(ConfigError, match=f"there are {len(episodes)} conversations"):
        robustness.journal_cases([journal.path], 1000, 0)


# --- the command


class Scripted(ChatModel):
    """Answers to the judge's question: everybody gets 4, or 4 and the seed where it draws."""

    name = "scripted"

    def __init__(self):
        self.asked = []

    async def complete(self, messages, *, temperature=None, seed=None, **_):
        self.asked.append((temperature, seed))
        score = 4 + (seed if temperature else 0)
        answer = {agent: {"goal": {"reasoning": "so", "score": score}} for agent in SIDES}
        return Completion(json.dumps(answer), 1, 1)


def test_the_command_draws_the_answers_of_a_language_model(tmp_path, monkeypatch, capsys):
    model = Scripted()
    monkeypatch.setattr("sotopia_gym.llm.spec.chat_model", lambda *_: model)
    files = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    assert robustness.main(["--judge", "gpt-4", "--count", "2", *files]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    of = found["results"]["repeated"]
    assert of["as it is"]["goal"]["same"] == 1
    assert of["drawn"]["goal"]["sd"] == 1  # of 5, 6 and 7
    assert set(model.asked) == {(0.0, 0), *((0.7, seed) for seed in (1, 2, 3))}
    shown = capsys.readouterr().out
    page = (tmp_path / "r.html").read_text()
    for edit in EDITS:
        assert edit.name in shown
        assert edit.name in page
    assert "<svg" in page
    assert str(tmp_path) not in page + (tmp_path / "r.json").read_text()


def test_without_a_journal_it_says_so(tmp_path, capsys):
    files = ["--json", str(tmp_path / "r.json"), "--episodes", str(tmp_path / "none.jsonl")]
    assert robustness.main(["--judge", "outcome", *files]) == 1
    assert "there is no journal" in capsys.readouterr().err


def test_a_judge_that_is_misused_says_why(episodes):
    class Refusing(Biased):
        def judge(self, episode):
            raise JudgeError("no transcript")

    case = robustness.Case(episodes[0], "agent_0")
    first = next(robustness.steps([case], Refusing(), [], 1))
    assert robustness.record(first)["unscored because"] == "no transcript"
