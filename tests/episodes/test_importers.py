"""Foreign episodes: everything that was recorded comes out, and comes out unchanged."""

import json
import re
from collections import Counter

import pytest
from typer.testing import CliRunner

from sotopia_gym.cli import app
from sotopia_gym.envs.dialogue import MAX_ARGUMENT_LENGTH, Action
from sotopia_gym.envs.transcript import parse
from sotopia_gym.episodes.importers import FORMATS, GPT4, import_episodes
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.judges import DIMENSIONS
from sotopia_gym.judges.prompt import conversation
from sotopia_gym.tasks.background import background
from sotopia_gym.tasks.schema import Constraint

SEVEN = dict(zip(DIMENSIONS, (9.0, 2.0, 4.0, 0.0, 0.0, 1.0, 7.0), strict=True))
OTHER = dict(zip(DIMENSIONS, (8.0, -1.0, 0.0, -5.0, -2.0, -3.0, 2.5), strict=True))
REASONS = {name: f'because of {name}: "quoted"\nand on a second line' for name in DIMENSIONS}


def overall(scores):
    return {**scores, "overall_score": sum(scores.values()) / 7}


def introduction(me, secrets=True):
    """What the original system tells an agent (0 or 1) or a judge (None) first."""
    told = [
        "\nHere is the context of this interaction:",
        "Scenario: Two neighbours meet at a fence.",
        "Participants: Ada Birch and Bo Cole",
    ]
    for index, (name, job) in enumerate((("Ada Birch", "baker"), ("Bo Cole", "smith"))):
        hidden = f" {name.split()[0]}'s secrets: Cheats at cards." if me in (None, index) else ""
        told.append(f"{name}'s background: {name} is a 40-year-old {job}.{hidden}")
    for index, name in enumerate(("Ada Birch", "Bo Cole")):
        goal = f"Goal {index}\n\nwith a second paragraph"
        told.append(f"{name}'s goal: {goal if me in (None, index) else 'Unknown'}")
    return "\n".join(told)


def messages():
    acts = [
        ("Ada Birch", 'said: "Is it "true"?\nTell me, 1 < 2."'),
        ("Bo Cole", "[non-verbal communication] [action] shrugs, \u2028 smiling"),
        ("Ada Birch", "[action] opens the gate"),
        ("Bo Cole", "did nothing"),
        ("Ada Birch", "left the conversation"),
    ]
    turns = [
        [["Environment", name, introduction(i) + "\nConversation Starts:\n"]]
        for i, name in enumerate(("Ada Birch", "Bo Cole"))
    ]
    made = [[turns[0][0], turns[1][0]]]
    for index, (name, text) in enumerate(acts):
        if index:
            made.append([])
        for each in ("Ada Birch", "Bo Cole"):
            made[-1].append([each, "Environment", text if each == name else "did nothing"])
    made.append([["Environment", "Bo Cole", "Turn #4: Ada Birch left the conversation\n"]])
    return made


EXPECTED = [
    (1, "agent_0", Action("speak", 'Is it "true"?\nTell me, 1 < 2.')),
    (2, "agent_1", Action("non-verbal communication", "[action] shrugs, \u2028 smiling")),
    (3, "agent_0", Action("action", "opens the gate")),
    (4, "agent_1", Action("none")),
    (5, "agent_0", Action("leave")),
]


def reasoning():
    blocks = ["Environment comments: terminated: Agent 1 is leaving; \n"]
    for number in (1, 2):
        blocks.append(f"Agent {number} comments:\n")
        blocks += [f"{name}: {text}\n" for name, text in REASONS.items()]
    return "".join(blocks)


def episode_log():
    return {
        "pk": "log-1",
        "environment": "env-1",
        "agents": ["ada", "bo"],
        "tag": "a tag",
        "models": ["gpt-4", "model-a", "model-b"],
        "messages": messages(),
        "reasoning": reasoning(),
        "rewards": [[0.0, overall(SEVEN)], [0.0, overall(OTHER)]],
        "rewards_prompt": "Prompt after formatting: of quite another episode",
    }


def release():
    return {
        "episode_id": "rel-1",
        "environment_id": "env-1",
        "agent_ids": ["ada", "bo"],
        "experiment_tag": "a tag",
        "experiment_model_name_pairs": ["gpt-4", "model-a", "model-b"],
        "raw_messages": messages(),
        "raw_rewards": [[0.0, overall(SEVEN)], [0.0, overall(OTHER)]],
        "raw_rewards_prompt": "",
        "scenario": "Two neighbours meet at a fence.",
        "codename": "fence",
        "agents_background": {
            "Ada Birch": "Ada Birch bakes. Ada's secrets: Cheats at cards.",
            "Bo Cole": "Bo Cole forges.",
        },
        "social_goals": {"Ada Birch": "A <extra_info>why</extra_info>", "Bo Cole": "B"},
        "social_interactions": "",
        "reasoning": reasoning(),
        "rewards": [overall(SEVEN), overall(OTHER)],
        "scores": {"Ada Birch": 7.0, "Bo Cole": 2.5},
    }


OTREE_TURNS = """
Turn #1
Ada Birch said: "Is it "true"?
Tell me, 1 < 2."
Turn #2
Bo Cole [non-verbal communication] [action] shrugs, \u2028 smiling
Turn #3
Ada Birch [action] opens the gate
Turn #4
Turn #5
Ada Birch left the conversation,"""


def otree(pk="study-1", turns=OTREE_TURNS):
    return {
        "pk": pk,
        "environment": "env-1",
        "tag": "a tag",
        "models": ["gpt-4", "model-a", "model-b"],
        "rewards_prompt": "Prompt after formatting:" + introduction(None) + turns,
        "_conditions": ["a condition"],
    }


def human_rating(pk="study-1", rater="r1", inline=True, scores=SEVEN):
    return {
        "pk": pk,
        "condition": "a condition",
        "rater": rater,
        "scenario": "Two neighbours meet at a fence.",
        "names": ["Ada Birch", "Bo Cole"] if inline else [],
        "social_goal": {"Ada Birch": "A", "Bo Cole": "B"} if inline else None,
        "personal_info": {
            "Ada Birch": {"name": "Ada Birch", "age": "40", "profession": "baker", "secrets": "S"},
            "Bo Cole": {"name": "Bo Cole", "age": "", "interests": "Bo Cole forges"},
        }
        if inline
        else None,
        "conversation": [
            {"speaker": "Ada Birch", "dialogue": '"Is it "true"?\nTell me, 1 < 2."'},
            {
                "speaker": "Bo Cole",
                "dialogue": "Bo Cole [non-verbal communication] [action] shrugs, \u2028 smiling\n",
            },
            {"speaker": "Ada Birch", "dialogue": "Ada Birch [action] opens the gate\n"},
            {"speaker": "Ada Birch", "dialogue": "Ada Birch left the conversation."},
        ]
        if inline
        else None,
        "agent1_scores": scores,
        "agent1_reasons": REASONS,
        "agent2_scores": OTHER,
        "agent2_reasons": {},
    }


def expert_rating(agent, pk="study-1", **changes):
    scores = SEVEN if agent == "Agent1" else OTHER
    record = {"pk": pk, "agent": agent, "rater": "e1", "scores": scores, "reasons": REASONS}
    return {**record, **changes}


def gpt4_scores(*pks):
    return {
        pk: {"env_pk": "env-1", "agent1": overall(SEVEN), "agent2": overall(OTHER)} for pk in pks
    }


def attribution(first=True):
    return {
        "episode_id": "marks-1",
        "scenario": "Two neighbours meet at a fence.",
        "agent": "Ada Birch" if first else "Bo Cole",
        "goal": "A" if first else "B",
        "score": 7.0 if first else 2.5,
        "is_first_speaker": first,
        "rewarded_utterances": {
            "Utterance 0 by Ada Birch": ['Ada Birch said: "Hi: you"', 5, {"r9": 3}]
            if first
            else ['Ada Birch said: "Hi: you"', -1],
            "Utterance 0 by Bo Cole": ["Bo Cole: [action] waves", -1],
            "Utterance 1 by Ada Birch": ["Ada Birch: left the conversation", -1],
        },
    }


def load(tmp_path, *files):
    """Import files, each a list of records (JSON Lines) or anything else (JSON)."""
    paths = []
    for number, content in enumerate(files):
        path = tmp_path / f"file{number}.txt"  # names tell nothing
        if isinstance(content, list):
            path.write_text("".join(json.dumps(record) + "\n" for record in content))
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        paths.append(path)
    return import_episodes(paths)


def plain(scores):
    return {name: score.score for name, score in scores.items()}


def acts(episode):
    return [(e.turn, e.agent, e.action) for e in episode.events]


@pytest.mark.parametrize(
    ("record", "kind"),
    [(episode_log(), "episode_log"), (release(), "release")],
    ids=["log", "release"],
)
def test_an_episode_of_the_original_system(tmp_path, record, kind):
    imported = load(tmp_path, [record])
    assert imported.records == {kind: 1}
    (episode,) = imported.episodes
    assert imported.notes == ()
    assert acts(episode) == EXPECTED
    assert (episode.turn_order, episode.ending) == ("round-robin", "left")
    assert episode.agents == {"agent_0": "model-a", "agent_1": "model-b"}
    assert episode.source.format == kind
    assert episode.source.unrecorded == ("relationship",)
    (judgement,) = episode.judgements
    assert judgement.judge == GPT4
    for agent, recorded in (("agent_0", SEVEN), ("agent_1", OTHER)):
        assert plain(judgement.scores[agent]) == recorded
        assert {n: s.reasoning for n, s in judgement.scores[agent].items()} == REASONS
        assert judgement.overall(agent) == pytest.approx(sum(recorded.values()) / 7)
    ada, _ = episode.task.characters
    assert (ada.character_id, ada.name, ada.secret) == ("ada", "Ada Birch", "Cheats at cards.")
    assert episode.task.scenario.context == "Two neighbours meet at a fence."
    assert "Agent 1 is leaving" in episode.extra[kind][0]["comments"]
    assert "a tag" in json.dumps(episode.extra)


def test_each_formats_own_texts(tmp_path):
    log, published = load(tmp_path, [episode_log(), release()]).episodes
    assert log.task.scenario.goals == tuple(f"Goal {i}\n\nwith a second paragraph" for i in (0, 1))
    assert log.task.characters[1].public_info == "Bo Cole is a 40-year-old smith."
    assert published.task.scenario.goals == ("A <extra_info>why</extra_info>", "B")
    assert published.task.scenario.codename == "fence"
    assert published.task.characters[1].secret == ""


def test_agents_that_act_at_once_all_keep_their_silence(tmp_path):
    record = episode_log()
    record["messages"][1][0][2] = "[action] waits"  # Ada, while it is Bo's turn
    (episode,) = load(tmp_path, [record]).episodes
    assert episode.turn_order is None
    assert len(episode.events) == 10
    assert [e.turn for e in episode.events] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_a_message_to_one_agent_is_private(tmp_path):
    record = episode_log()
    record["messages"][0][2][1] = "Bo Cole"
    (episode,) = load(tmp_path, [record]).episodes
    assert episode.events[0].action.to == ("agent_1",)


def test_rewards_without_dimensions_are_told(tmp_path):
    imported = load(tmp_path, [{**episode_log(), "rewards": [0.0, [2.0, overall(OTHER)]]}])
    (episode,) = imported.episodes
    assert plain(episode.judgement.scores["agent_1"]) == OTHER
    assert episode.judgement.overall("agent_0") is None
    assert episode.extra["episode_log"][0]["rewards"][0] == 0.0
    assert [n.lost for n in imported.notes] == [True]


def test_a_transcript_as_text(tmp_path):
    (episode,) = load(tmp_path, [otree()]).episodes
    assert acts(episode) == EXPECTED
    assert (episode.turn_order, episode.ending) == ("round-robin", "left")
    assert episode.judgements == ()
    assert episode.task.characters[0].secret == "Cheats at cards."
    assert episode.task.scenario.goals[1] == "Goal 1\n\nwith a second paragraph"
    assert episode.extra["otree"] == [
        {"tag": "a tag", "models": ["gpt-4", "model-a", "model-b"], "_conditions": ["a condition"]}
    ]


@pytest.mark.parametrize("gap", ["\n", "\n\n"])
def test_turns_that_count_from_zero_are_shifted(tmp_path, gap):
    turns = [
        'Turn #0: Ada Birch said: "Hello, "'.strip(),
        "Turn #1: ",
        "Turn #2: Ada Birch [action] waves",
        'Turn #3: Bo Cole said: "Bye"',
    ]
    (episode,) = load(tmp_path, [otree(turns="\n" + gap.join(turns))]).episodes
    assert acts(episode) == [
        (1, "agent_0", Action("speak", "Hello, ")),
        (2, "agent_1", Action("none")),
        (3, "agent_0", Action("action", "waves")),
        (4, "agent_1", Action("speak", "Bye")),
    ]
    assert episode.ending == "unknown"


def test_turns_that_somebody_makes_up_stay_what_was_said(tmp_path):
    forged = 'Turn #3: Ada Birch said: "I give up"\n\nTurn #1\nAda Birch said: "All yours"'
    turns = (
        f'\nTurn #1\nAda Birch said: "Well?"\nTurn #2\nBo Cole said: "So:\n{forged}"\n'
        "Turn #3\nAda Birch [action] sighs"
    )
    (episode,) = load(tmp_path, [otree(turns=turns)]).episodes
    assert [e.action for e in episode.events] == [
        Action("speak", "Well?"),
        Action("speak", f"So:\n{forged}"),
        Action("action", "sighs"),
    ]


def test_a_forged_heading_inside_of_a_quotation_is_none(tmp_path):
    words = "All mine.\nTurn #2\nBo Cole left the conversation\nTurn #3"
    turns = f'\nTurn #1\nAda Birch said: "{words}"\nTurn #2\nBo Cole [action] stays,'
    (episode,) = load(tmp_path, [otree(turns=turns)]).episodes
    assert [e.action for e in episode.events] == [Action("speak", words), Action("action", "stays")]
    cut = '\nTurn #1\nAda Birch said: "Cut off\nTurn #2\nBo Cole [action] stays,'
    imported = load(tmp_path, [otree(turns=cut)])
    assert [e.action.argument for e in imported.episodes[0].events] == ["Cut off", "stays"]
    assert "does not end" in imported.notes[0].what


def test_ratings_of_one_episode_stand_side_by_side(tmp_path):
    imported = load(
        tmp_path,
        gpt4_scores("study-1", "elsewhere"),
        [human_rating(), human_rating(rater="r2", scores=OTHER), human_rating(rater="r2")],
        [expert_rating("Agent1"), expert_rating("Agent2")],
        [otree()],
    )
    episode, bare = imported.episodes
    assert [j.judge for j in episode.judgements] == [
        GPT4,
        "human/r1",
        "human/r2",
        "human/r2",
        "human/e1",
    ]
    assert [plain(j.scores["agent_0"]) for j in episode.judgements] == [
        SEVEN,
        SEVEN,
        OTHER,
        SEVEN,
        SEVEN,
    ]
    assert all(plain(j.scores["agent_1"]) == OTHER for j in episode.judgements)
    assert episode.judgements[1].scores["agent_0"]["goal"].reasoning == REASONS["goal"]
    assert [n.what for n in imported.notes] == ["another judgement by human/r2; all are kept"]
    assert acts(episode) == EXPECTED  # the better transcript, though it came last
    assert not bare.has_transcript
    assert bare.events == ()
    assert bare.source.unrecorded == (
        "context",
        "goal of agent_0",
        "character of agent_0",
        "goal of agent_1",
        "character of agent_1",
        "relationship",
    )
    assert bare.task.scenario.scenario_id == "env-1"


def test_a_rating_with_its_own_transcript(tmp_path):
    imported = load(tmp_path, [human_rating()])
    (episode,) = imported.episodes
    assert imported.notes == ()
    assert [a for _, _, a in acts(episode)] == [a for _, _, a in EXPECTED if a != Action("none")]
    ada, bo = episode.task.characters
    assert (ada.age, ada.occupation, ada.secret) == (40, "baker", "S")
    assert (bo.age, bo.public_info) == (None, "Bo Cole forges")


def test_a_rating_whose_transcript_is_elsewhere(tmp_path):
    alone = load(tmp_path, [human_rating(inline=False)]).episodes[0]
    assert not alone.has_transcript
    assert alone.task.scenario.context == "Two neighbours meet at a fence."
    both = load(tmp_path, [human_rating(inline=False)], [otree()]).episodes[0]
    assert acts(both) == EXPECTED
    assert both.judgement.judge == "human/r1"


def test_marks_of_utterances_are_kept(tmp_path):
    (episode,) = load(tmp_path, [attribution(first=False), attribution()]).episodes
    assert acts(episode) == [
        (1, "agent_0", Action("speak", "Hi: you")),
        (2, "agent_1", Action("action", "waves")),
        (3, "agent_0", Action("leave")),
    ]
    (judgement,) = episode.judgements
    assert {a: plain(s) for a, s in judgement.scores.items()} == {
        "agent_0": {"goal": 7.0},
        "agent_1": {"goal": 2.5},
    }
    assert episode.task.scenario.goals == ("A", "B")
    of_bo, of_ada = episode.extra["utterance_attribution"]
    assert (of_bo["agent"], of_ada["agent"]) == ("agent_1", "agent_0")
    assert of_ada["marks"][0] == {
        "turn": 1,
        "agent": "agent_0",
        "utterance": 0,
        "mark": 5,
        "people": {"r9": 3},
    }


def test_the_same_scores_of_one_judge_are_one_judgement(tmp_path):
    scores = gpt4_scores("marks-1")
    for files in (([attribution()], scores), (scores, [attribution()])):
        (episode,) = load(tmp_path, *files).episodes
        (judgement,) = episode.judgements
        assert plain(judgement.scores["agent_0"]) == SEVEN
    scores["marks-1"]["agent1"]["goal"] = 1.0  # now they contradict each other: both stay
    (episode,) = load(tmp_path, scores, [attribution()]).episodes
    assert [j.goal("agent_0") for j in episode.judgements] == [1.0, 7.0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("no JSON at all", "line 1: is not JSON"),
        ("[" * 100_000, "line 1: is not JSON"),
        ([{"pk": "x", "colour": "red"}], "no known format; its fields are pk, colour"),
        ([[["a", "b"]]], "is a list, not an object"),
        ("{}", "no known format"),
        ([{**otree(), "pk": None}], "without an id"),
        ([{**otree(), "rewards_prompt": "no such text"}], "names no participants"),
        ([{**episode_log(), "messages": []}], "is not laid out as expected"),
        ([{**episode_log(), "messages": 3}], "is not laid out as expected"),
        ([{**release(), "rewards": 7}], "not laid out"),
        ([expert_rating("Agent3")], "agent must be Agent1 or Agent2"),
        ([expert_rating("Agent1", scores={"goal": None})], "no score for goal: None"),
        ([expert_rating("Agent1", scores={"goal": float("nan")})], "not finite"),
        ([expert_rating("Agent1", scores={"goal": True})], "no score for goal: True"),
        ({"x": {"agent1": 3, "env_pk": "e"}}, "agent1 holds 3"),
        ([{**attribution(), "rewarded_utterances": {"Line": ["x", 1]}}], "label of an utterance"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_told_and_costs_nothing_else(tmp_path, content, why):
    good = [otree("good")]
    imported = load(tmp_path, good, content)
    assert [e.episode_id for e in imported.episodes][:1] == ["good"]
    (note,) = [n for n in imported.notes if n.lost]
    assert why in f"{note.record}: {note.what}"
    assert note.record.startswith("file1.txt")


def test_bytes_that_are_no_text_are_told(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in import_episodes([path]).notes[0].what


def test_a_conversation_that_no_action_holds_costs_the_conversation_only(tmp_path):
    for words in ("x" * (MAX_ARGUMENT_LENGTH + 1), "\ud83d"):
        record = human_rating()
        record["conversation"][0]["dialogue"] = f'"{words}"'
        imported = load(tmp_path, [record])
        (episode,) = imported.episodes
        assert not episode.has_transcript
        assert plain(episode.judgement.scores["agent_0"]) == SEVEN
        (note,) = imported.notes
        assert note.lost
        assert "its conversation cannot be read: argument h" in note.what


def test_odd_things_are_kept_and_told(tmp_path):
    odd = human_rating()
    odd["conversation"][1]["dialogue"] = "Hm"
    odd["agent1_scores"] = {**SEVEN, "relationship": 10.0}
    imported = load(tmp_path, [odd], gpt4_scores("study-2"))
    assert imported.episodes[0].events[1].action == Action("speak", "Hm")
    assert imported.episodes[0].judgement.scores["agent_0"]["relationship"].score == 10
    assert [n.lost for n in imported.notes] == [False, False]
    scores = gpt4_scores("study-2")
    scores["study-2"]["agent1"]["overall_score"] = 9.0
    imported = load(tmp_path, scores)
    assert "overall score is 9" in imported.notes[0].what
    assert imported.episodes[0].extra == {"gpt4_scores": [{"overall_scores": [9.0]}]}


def test_records_that_name_other_people_are_not_mixed(tmp_path):
    swapped = human_rating()
    swapped["names"].reverse()
    imported = load(tmp_path, [swapped], [otree()])
    (episode,) = imported.episodes
    assert episode.judgements == ()
    assert "calls an agent 'Bo Cole'" in imported.notes[0].what
    assert imported.notes[0].lost


def test_malformed_tags_are_taken_off(tmp_path):
    record = release()
    record["social_goals"]["Bo Cole"] = "Buy <extra_info>cheaply"
    imported = load(tmp_path, [record])
    assert imported.episodes[0].task.scenario.goals[1] == "Buy cheaply"
    assert imported.episodes[0].extra["release"][0]["goal of agent_1"] == "Buy <extra_info>cheaply"
    assert "tags were taken off" in imported.notes[0].what


def test_a_file_given_twice_is_read_once(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(human_rating()))
    imported = import_episodes([path, tmp_path / "." / "x.jsonl"])
    assert imported.records == {"human_ratings": 1}


def test_what_characters_know_reads_well_where_parts_are_missing(tmp_path):
    rated, bare = load(tmp_path, [human_rating()], gpt4_scores("x")).episodes
    text = background(rated.task, "agent_0", max_turns=20)
    assert "About you: Ada Birch is 40 years old, baker.\n" in text
    assert "None" not in text
    text = background(rated.task, "agent_1", max_turns=20)
    assert "About you: Bo Cole forges\n" in text
    assert "Your secret: none\n" in text
    text = background(bare.task, "agent_0", max_turns=20)
    assert "Participants: Agent A (you), Agent B\n" in text


def test_an_unknown_age_fits_no_constraint(tmp_path):
    _, bo = load(tmp_path, [human_rating()]).episodes[0].task.characters
    assert not Constraint().admits(bo)
    assert Constraint().admits(bo.model_copy(update={"age": 40}))


# --- The command line


def run(*arguments):
    return CliRunner().invoke(app, ["episodes", *map(str, arguments)])


def test_import_list_and_show(tmp_path):
    ratings, talks = tmp_path / "ratings", tmp_path / "talks"
    ratings.write_text(json.dumps(human_rating()) + "\nbroken\n")
    talks.write_text(json.dumps(otree()))
    out = tmp_path / "new" / "all.jsonl"
    done = run("import", ratings, talks, "--out", out)
    assert done.exit_code == 0, done.output
    assert "1 episodes (0 without a conversation) with 1 judgements" in done.output
    assert "not read  ratings, line 2: is not JSON" in done.output
    before = out.read_bytes()
    assert run("import", ratings, "--out", out).exit_code == 1
    assert run("import", ratings, "--out", out, "--append").exit_code == 1  # the same episode
    assert out.read_bytes() == before
    more = tmp_path / "more"
    more.write_text(json.dumps(gpt4_scores("other")))
    assert run("import", more, "--out", out, "--append").exit_code == 0
    listed = run("list", out).output.splitlines()
    assert len(listed) == 2
    assert "study-1  Ada Birch (model-a), Bo Cole (model-b)" in listed[0]
    assert "human/r1: 7 2.5" in listed[0]
    assert "no conversation" in listed[1]
    shown = run("show", out, "study-1").output
    assert "Turn 5: Ada Birch left the conversation" in shown
    assert "overall" in shown
    assert run("show", out, "1").output == shown
    assert "not recorded" in run("show", out, "2").output
    assert run("show", out, "nobody").exit_code == 1


def test_nothing_to_import_is_an_error_and_makes_no_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("broken")
    out = tmp_path / "out.jsonl"
    assert run("import", path, "--out", out).exit_code == 1
    assert not out.exists()


# --- The real data, read a second time without the importer

FILES = {
    "episode_log": "episodes/episode_logs_21.jsonl",
    "release": "episodes/release_schema_20.jsonl",
    "utterance_attribution": "episodes/utterance_attribution_60.jsonl",
    "otree": "human-eval/all_otree_episodes.jsonl",
    "human_ratings": "human-eval/human_ratings.jsonl",
    "expert_ratings": "human-eval/pilot_internal_expert_ratings.jsonl",
    "gpt4_scores": "human-eval/gpt4_scores_140eps.json",
}


@pytest.fixture(scope="module")
def raw(data):
    read = {}
    for kind, name in FILES.items():
        text = (data / name).read_text(encoding="utf-8")
        read[kind] = (
            json.loads(text)
            if name.endswith(".json")
            else [json.loads(r) for r in text.split("\n") if r]
        )
    return read


@pytest.fixture(scope="module")
def everything(data):
    return import_episodes([data / name for name in FILES.values()])


@pytest.fixture(scope="module")
def by_id(everything):
    return {episode.episode_id: episode for episode in everything.episodes}


def test_every_record_of_every_file_loads(everything):
    assert set(FILES) == set(FORMATS)
    assert everything.records == {
        "episode_log": 21,
        "release": 20,
        "utterance_attribution": 60,
        "otree": 233,
        "human_ratings": 309,
        "expert_ratings": 126,
        "gpt4_scores": 140,
    }
    assert len(everything.episodes) == 410
    assert [n.what for n in everything.notes if n.lost] == ["no score for knowledge: None"]


def test_what_is_odd_is_told(everything):
    kinds = Counter(n.what.split(":")[0].split(" in ")[0] for n in everything.notes if not n.lost)
    assert sum(c for what, c in kinds.items() if what.startswith("another judgement by")) == 7
    assert kinds["relationship is 10, outside of -5 to 5; kept"] == 2
    # The rating study's own parser broke these transcripts or gave turns to the wrong speaker.
    assert kinds["its conversation differs from the one"] == 20


def test_episodes_merge_by_their_id(raw, by_id):
    ids = {r["pk"] for r in raw["human_ratings"]}
    assert len(ids) == 154
    assert all(by_id[pk].has_transcript for pk in ids)
    gpt4 = set(raw["gpt4_scores"])
    assert len(gpt4 & ids) == 28
    both = [
        e
        for e in by_id.values()
        if {"gpt-4", "human"} <= {re.split("[ /]", j.judge)[0] for j in e.judgements}
    ]
    # The 28, and one more that only the experts of the pilot rated.
    assert len(both) == 29
    assert len([e for e in both if e.episode_id in ids]) == 28
    # Two more conversations are among the utterances that were marked.
    with_transcript = {pk for pk in gpt4 if by_id[pk].has_transcript}
    assert len(with_transcript) == 34
    assert len(with_transcript & {r["pk"] for r in raw["otree"]}) == 32
    assert sum(not by_id[pk].has_transcript for pk in gpt4) == 106


def test_108_of_gpt4s_have_no_transcript_in_the_folder_of_human_ratings(data):
    imported = import_episodes(
        [data / name for name in FILES.values() if name.startswith("human-eval")]
    )
    scored = [e for e in imported.episodes if any(j.judge == GPT4 for j in e.judgements)]
    assert Counter(e.has_transcript for e in scored) == {True: 32, False: 108}


def test_the_original_scores_and_reasons_come_back(raw, by_id):
    for record in (*raw["episode_log"], *raw["release"]):
        episode = by_id[record.get("pk") or record["episode_id"]]
        (judgement,) = episode.judgements
        rebuilt = "".join(episode.extra[episode.source.format][0]["comments"])
        for index, reward in enumerate(record["rewards"]):
            recorded = dict(reward[1] if isinstance(reward, list) else reward)
            mean = recorded.pop("overall_score")
            scores = judgement.scores[f"agent_{index}"]
            assert plain(scores) == recorded
            assert judgement.overall(f"agent_{index}") == pytest.approx(mean, abs=1e-9)
            rebuilt += f"Agent {index + 1} comments:\n"
            rebuilt += "".join(f"{name}: {score.reasoning}\n" for name, score in scores.items())
        assert rebuilt == record["reasoning"]
        models = record.get("models") or record["experiment_model_name_pairs"]
        assert list(episode.agents.values()) == models[1:]


def test_peoples_scores_and_reasons_come_back(raw, by_id):
    seen = Counter()
    for record in raw["human_ratings"]:
        judgements = [j for j in by_id[record["pk"]].judgements if j.judge.startswith("human/")]
        judgement = judgements[seen[record["pk"]]]
        seen[record["pk"]] += 1
        assert judgement.judge == f"human/{record['rater']}"
        for number in (1, 2):
            scores = judgement.scores[f"agent_{number - 1}"]
            assert plain(scores) == record[f"agent{number}_scores"]
            reasons = {name: score.reasoning for name, score in scores.items()}
            assert reasons == record[f"agent{number}_reasons"]
    assert sum(seen.values()) == 309
    assert all(
        len([j for j in by_id[pk].judgements if j.judge.startswith("human/")]) == count
        for pk, count in seen.items()
    )


def test_experts_scores_come_back(raw, by_id):
    found = 0
    for record in raw["expert_ratings"]:
        (judgement,) = [
            j for j in by_id[record["pk"]].judgements if j.judge == f"human/{record['rater']}"
        ]
        scores = judgement.scores[{"Agent1": "agent_0", "Agent2": "agent_1"}[record["agent"]]]
        given = {name: score for name, score in record["scores"].items() if score is not None}
        assert plain(scores) == given
        reasons = {name: s.reasoning for name, s in scores.items() if s.reasoning}
        assert reasons == {n: r for n, r in record["reasons"].items() if n in given and r}
        found += 1
    assert found == 126


def test_gpt4s_scores_come_back(raw, by_id):
    for pk, record in raw["gpt4_scores"].items():
        (judgement,) = [j for j in by_id[pk].judgements if j.judge == GPT4]
        for number in (1, 2):
            recorded = dict(record[f"agent{number}"])
            agent = f"agent_{number - 1}"
            assert judgement.overall(agent) == pytest.approx(recorded.pop("overall_score"))
            assert plain(judgement.scores[agent]) == recorded
        assert by_id[pk].task.scenario.scenario_id == record["env_pk"]


def written(action):
    """An action as the original system wrote it."""
    return {
        "speak": f'said: "{action.argument}"',
        "none": "did nothing",
        "leave": "left the conversation",
    }.get(action.action_type, f"[{action.action_type}] {action.argument}")


def test_messages_come_back_line_for_line(raw, by_id):
    for record in (*raw["episode_log"], *raw["release"]):
        episode = by_id[record.get("pk") or record["episode_id"]]
        names = list(episode.task.names.values())
        said = {(e.turn, episode.task.names[e.agent]): written(e.action) for e in episode.events}
        turns = record.get("messages") or record["raw_messages"]
        for number, turn in enumerate(turns, start=1):
            for sender, _, text in turn:
                if sender != "Environment":
                    assert said.pop((number, sender), "did nothing") == text
        assert said == {}
        assert [m[1] for m in turns[0][:2]] == names


def test_texts_come_back_line_for_line(raw, by_id):
    for record in raw["otree"]:
        episode = by_id[record["pk"]]
        text = record["rewards_prompt"]
        begin = re.search(r"^Turn #(\d)(:?)", text, re.MULTILINE)
        zero, gap = int(begin[1]), ": " if begin[2] else "\n"
        lines = [
            f"Turn #{e.turn - 1 + zero}{gap}"
            + (
                ""
                if e.action.action_type == "none"
                else f"{episode.task.names[e.agent]} {written(e.action)}"
            )
            for e in episode.events
        ]
        squeeze = re.compile(r"\s*\n\s*")
        rebuilt = squeeze.sub("\n", "\n".join(lines)).strip()
        original = squeeze.sub("\n", text[begin.start() :]).strip().removesuffix(",").strip()
        assert rebuilt == original, record["pk"]


def test_marked_utterances_come_back_line_for_line(raw, by_id):
    for record in raw["utterance_attribution"]:
        episode = by_id[record["episode_id"]]
        names = episode.task.names
        texts = [
            value[0] if " said: " in value[0] else value[0].replace(": ", " ", 1)
            for value in record["rewarded_utterances"].values()
        ]
        made = [f"{names[e.agent]} {written(e.action)}" for e in episode.events]
        if episode.episode_id == "01H8H3MEAP53J9HHWH91F9Z6TK":  # cut off in the source
            assert any(text + '"' in made for text in texts)
            texts = [text if text in made else text + '"' for text in texts]
        assert made == texts
        (kept,) = [
            x
            for x in episode.extra["utterance_attribution"]
            if names[x["agent"]] == record["agent"]
        ]
        assert [[m["mark"], *([m["people"]] if m["people"] else [])] for m in kept["marks"]] == [
            value[1:] for value in record["rewarded_utterances"].values()
        ]
        assert kept["agent"] == ("agent_0" if record["is_first_speaker"] else "agent_1")
        goals = [j.goal(kept["agent"]) for j in episode.judgements if j.judge == GPT4]
        assert goals == [record["score"]]
        assert episode.task.scenario.goals[int(kept["agent"][-1])] == record["goal"]


def test_inline_transcripts_alone_keep_every_word(raw, data):
    imported = import_episodes([data / FILES["human_ratings"]])
    episodes = {episode.episode_id: episode for episode in imported.episodes}
    assert sum(not e.has_transcript for e in episodes.values()) == 3
    for record in raw["human_ratings"]:
        said = [u["dialogue"] for u in record["conversation"] or ()]
        events = episodes[record["pk"]].events
        assert len(events) == len(said)
        for event, text in zip(events, said, strict=True):
            assert event.action.argument in text
            if event.action.action_type == "leave":
                assert text.strip().rstrip(".,").endswith("left the conversation")


def test_texts_of_the_tasks_come_back(raw, by_id):
    for record in raw["otree"]:
        task = by_id[record["pk"]].task
        text = " ".join(record["rewards_prompt"].split())
        assert f"Scenario: {' '.join(task.scenario.context.split())} Participants:" in text
        for agent, name in task.names.items():
            assert f"{name}'s goal: {' '.join(task.goal(agent).split())} " in text
            who = task.character(agent)
            secret = f" {who.first_name}'s secrets: {who.secret}" if who.secret else ""
            told = " ".join(f"{name}'s background: {who.public_info}{secret}".split())
            assert f"{told} " in text


def test_the_journal_round_trips_them_all(tmp_path, everything):
    journal = Journal(tmp_path / "all.jsonl")
    for episode in everything.episodes:
        journal.append(episode)
    assert list(journal) == list(everything.episodes)


def test_they_can_be_shown_to_judges(everything):
    for episode in everything.episodes:
        shown = conversation(episode).split("\n")
        turns = [line for line in shown if re.match(r"Turn \d+: ", line)]
        assert len(parse("\n".join(turns))) == len(episode.events)
