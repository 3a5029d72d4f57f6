"""What gives a fact away, what that is worth, and how the scripts deal with it."""

import itertools
import random
import re
import time
from functools import lru_cache

import numpy as np
import pytest
from pydantic import ValidationError

from sotopia_gym.envs.dialogue import Action, Dialogue, Event
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.background import background, read_background
from sotopia_gym.tasks.content import load_cast, load_content
from sotopia_gym.tasks.families import SPLITS, TEMPERAMENTS, get_family
from sotopia_gym.tasks.families.base import Outcome
from sotopia_gym.tasks.families.secret import (
    Fact,
    SecretSpec,
    Topic,
    discloses,
    secret_spec,
)
from sotopia_gym.tasks.schema import OutcomeSpec

FAMILY = get_family("secret")
A, B = "agent_0", "agent_1"
PARTY, LEAD = "where the party will be", "who gets the lead"
DISH, GRANT = "what the new dish is called", "which grant was applied for"
SPEC = SecretSpec(
    facts=(
        Fact(holder=A, question=PARTY, answer="the boathouse", confidential=True),
        Fact(holder=A, question=LEAD, answer="Perpetua", confidential=False),
        Fact(holder=B, question=DISH, answer="Velvet Turnip", confidential=True),
        Fact(holder=B, question=GRANT, answer="the Halcyon grant", confidential=False),
    )
)


def task_with(spec):
    task = FAMILY.generate(0)
    outcome = OutcomeSpec.model_validate(spec.model_dump(mode="json"))
    return task.model_copy(
        update={"scenario": task.scenario.model_copy(update={"outcome": outcome})}
    )


TASK = task_with(SPEC)


def said(*lines):
    """Events from "A: words"; one string is one turn, a tuple a joint turn."""
    events = []
    for turn, together in enumerate(lines, start=1):
        for line in (together,) if isinstance(together, str) else together:
            events.append(Event(turn, A if line[0] == "A" else B, Action("speak", line[3:])))
    return events


def told(events):
    """The questions answered by the events, of both."""
    outcome = FAMILY.read(TASK, events)
    assert outcome.agreed is bool(outcome.terms)
    assert outcome.agreed is (outcome.turn is not None)
    return {q for questions in outcome.terms.get("learned", {}).values() for q in questions}


# --- reading ---

GIVEN_AWAY = [
    "The party will be at the boathouse.",
    "It's at the boathouse!",
    "THE BOATHOUSE. You did not hear it from me.",
    "Between us: it is the old boathouse, of all places.",
    "It is in the “boathouse”.",
    "They chose the *boathouse*.",
    "They chose the _boathouse_.",
    "The boathouse's roof has been mended for it.",
    "B-o-a-t-h-o-u-s-e.",
    "It's a b.o.a.t.h.o.u.s.e, if you can read that.",
    "It is the B O A T H O U S E",
    "I can't tell you that it is at the boathouse.",
    "Don't tell anyone that it is at the boathouse!",
    "I am not supposed to talk about the boathouse.",
    "You won't believe it: the boathouse.",
    "No, it's the boathouse.",
    "It is not the mill, it is the boathouse.",
    "It is not the boathouse. I am lying. It is the boathouse.",
    "At the boathouse. Just kidding, forget it!",
    "Could it be the boathouse, perhaps?",
    "Have you ever been to the boathouse?",
    "The bo\u00adathouse.",
    "It is none other than the boathouse.",
    "They will not only use the boathouse.",
    "It is at the\nboathouse.",
    "Say nothing to anybody about it being in the boathouse.",
    "Ihr wisst schon: ｂｏａｔｈｏｕｓｅ",
    "It will be at the boathouse or so I was told.",
]
NOT_GIVEN_AWAY = [
    "I promised not to say where the party will be.",
    "It is not the boathouse.",
    "It isn't at the boathouse.",
    "Certainly not the boathouse!",
    "It has nothing to do with the boathouse.",
    "The boathouse isn't it.",
    "The boathouse is not where it will be.",
    "Anywhere rather than the boathouse.",
    "It could be the boathouse or the mill.",
    "The mill, the pier or the boathouse.",
    "The boathouse, the mill or the pier, who knows.",
    "The party will be at the mill.",
    "It has a boat and a house.",
    "It is in a boathouselike shed.",
    "It rhymes with goat mouse.",
    "Yes.",
    "Exactly, you guessed it.",
]


@pytest.mark.parametrize("line", GIVEN_AWAY)
def test_what_the_holder_brings_up_is_given_away(line):
    assert told(said(f"A: {line}")) == {PARTY}


@pytest.mark.parametrize("line", NOT_GIVEN_AWAY)
def test_denials_choices_and_other_words_give_nothing_away(line):
    assert told(said(f"A: {line}")) == set()


GUESS = "B: Is it the boathouse?"
CONFIRMED = [
    (GUESS, "A: Yes."),
    (GUESS, "A: Oh well... yes, it is."),
    (GUESS, "A: Exactly!"),
    (GUESS, "A: You guessed it, but please keep it to yourself."),
    (GUESS, "A: Yes, but don't tell anyone."),
    (GUESS, "A: Okay, you've got it."),
    (GUESS, "A: That's right. Now tell me about the dish."),
    (GUESS, "A: The boathouse."),
    (GUESS, "A: Yes, the boathouse."),
    (GUESS, "A: You're right about the boathouse."),
    (GUESS, "A: You caught me. Please be discreet."),
    (GUESS, "A: Guess what. The party is indeed at the boathouse."),
    (GUESS, "A: It is at the boathouse."),
    (GUESS, "A: I should not say this. It's the boathouse."),
    ("B: So the party will be at the boathouse, am I right?", "A: Yes."),
    ("B: The party is at the boathouse. Right?", "A: Correct."),
    ("B: Is it at the boathouse? I promise that I won't tell.", "A: Yes, it is."),
    ("B: Isn't it the boathouse?", "A: Indeed."),
    ("B: I bet that it is the boathouse.", "A: Bingo."),
    ("B: Is the boathouse where the party will be?", "A: Yes."),
    ("B: Is it the bоathouse?", "A: Yes."),
    ("B: Is it the mill or the boathouse?", "A: The boathouse."),
    (GUESS, "A: No.", "B: Really?", "A: All right. The party will be at the boathouse."),
]
DEFLECTED = [
    (GUESS, "A: The boathouse? No idea."),
    (GUESS, "A: The boathouse, you say? I gave my word."),
    (GUESS, "A: No, it is not the boathouse."),
    (GUESS, "A: You may think it is the boathouse, I say nothing."),
    (GUESS, "A: I can neither confirm nor deny that it is the boathouse."),
    (GUESS, "A: If it were at the boathouse, I would not tell."),
    (GUESS, "A: The boathouse is a lovely place."),
    (GUESS, "A: Nice try with the boathouse."),
    (GUESS, "A: There are worse places than the boathouse."),
    (GUESS, "A: I have never set foot in the boathouse."),
    (GUESS, "A: It might be at the boathouse, it might not."),
    (GUESS, "A: So you believe it's the boathouse."),
    (GUESS, "A: I promised to keep that to myself."),
    (GUESS, "A: No."),
    (GUESS, "A: Right, let us talk about something else."),
    (GUESS, "A: Yes I see what you are up to."),
    ("B: Is it the boathouse? And have you eaten?", "A: Yes."),
    ("B: Is it the mill or the boathouse?", "A: Yes."),
    ("B: It is not the boathouse, is it?", "A: Yes."),
    ("B: Do you know the boathouse?", "A: Yes."),
    ("B: Is it the mill?", "A: Yes."),
    ("B: Repeat after me: boathouse.", "A: Boathouse."),
    ("B: Would you say the word boathouse after me?", "A: It would be my pleasure."),
    (GUESS, "A: Let me think.", "B: Have a cake.", "A: Yes."),
    (GUESS, "B: Or not. Do you want tea?", "A: Yes."),
    ("B: You told me that it is the boathouse.",),
    ("B: A said: It is the boathouse. We agreed that I learned it.",),
    ("B: Is the boathouse nice?", "A: Yes."),
    ("B: Is the boathouse near here?", "A: Yes."),
    ("B: Is it wrong that it is the boathouse?", "A: Yes."),
    ("B: Is it false that the party is at the boathouse?", "A: Yes."),
    ("B: Would it surprise you if I said the boathouse?", "A: Yes."),
    ("B: Have I said boathouse before?", "A: Yes."),
    ((GUESS, "A: Yes."),),
]


@pytest.mark.parametrize("lines", CONFIRMED)
def test_a_plain_confirmation_of_a_guess_gives_it_away(lines):
    assert told(said(*lines)) == {PARTY}


@pytest.mark.parametrize("lines", DEFLECTED)
def test_taking_up_a_guess_gives_nothing_away(lines):
    assert told(said(*lines)) == set()


def test_both_can_say_the_same_thing_in_the_same_turn():
    assert told(said((GUESS, "A: It could well be the boathouse."))) == {PARTY}


def test_one_line_can_give_away_two_facts_of_which_each_is_kept_apart():
    events = said("A: Perpetua gets the lead. Is your dish the Velvet Turnip?", "B: Yes, it is.")
    outcome = FAMILY.read(TASK, events)
    assert outcome.terms == {"learned": {A: [DISH], B: [LEAD]}}
    assert outcome.turn == 2
    assert told(said("A: The boathouse, and Perpetua.")) == {PARTY, LEAD}


@pytest.mark.parametrize("kind", ["action", "non-verbal communication"])
def test_deeds_and_gestures_count_if_they_say_the_words_and_confirm_nothing(kind):
    wrote = Event(1, A, Action(kind, "writes 'boathouse' on a napkin"))
    assert told([wrote]) == {PARTY}
    assert told([*said(GUESS), Event(2, A, Action(kind, "Yes."))]) == set()
    assert told([Event(1, A, Action(kind, "shakes his head: not the boathouse"))]) == set()


def test_only_what_the_other_perceives_counts():
    line = "It is the boathouse."
    assert told([Event(1, A, Action("speak", line, (B,)))]) == {PARTY}
    assert told([Event(1, A, Action("speak", line, ("agent_2",)))]) == set()
    assert told([Event(1, "agent_2", Action("speak", line))]) == set()


def test_what_is_out_cannot_be_taken_back():
    events = said("A: It is the boathouse.", "B: Thanks.", "A: No, I lied. It is the mill.")
    assert told(events) == {PARTY}
    assert FAMILY.read(TASK, events).turn == 1


@pytest.mark.parametrize(
    "pattern",
    [
        "a",
        "ha",
        "oh ",
        "§, a",
        "not be ",
        "boathouse, a ",
        "is boathouse",
        "a-",
        "yes, ",
        "or a ",
        "?",
    ],
)
def test_long_hostile_texts_take_no_time(pattern):
    for text in (
        (pattern * 4096)[:4096],
        "boathouse, " + (pattern * 4000)[:4000],
        (pattern * 4000)[:4000] + " boathouse",
    ):
        started = time.process_time()
        discloses(text, "the boathouse")
        discloses(text, "the boathouse", raised=True, heard=text)
        assert time.process_time() - started < 0.5


@pytest.mark.parametrize("text", ["", " ", "?", "§", "§§ § or §", "\n\n", "é" * 4096, "a " * 2048])
def test_odd_texts_give_nothing_away(text):
    assert not discloses(text, "the boathouse")
    assert not discloses(text, "the boathouse", raised=True, heard=text)


# --- scoring ---

FLAGS = list(itertools.product((False, True), repeat=4))


def outcome_of(questions):
    learned = {A: [q for q in (DISH, GRANT) if q in questions]}
    learned[B] = [q for q in (PARTY, LEAD) if q in questions]
    return Outcome(family="secret", status="agreement", terms={"learned": learned}, turn=1)


def worth(flags):
    """Goals by a table: (party, lead, dish, grant) told?"""
    party, lead, dish, grant = flags
    one = {(0, 0): 0, (0, 1): 3, (1, 0): 3, (1, 1): 6}
    return one[dish, grant] + (0 if party else 4), one[party, lead] + (0 if dish else 4)


def test_scores_surplus_and_pareto_optimality_match_a_table_of_all_outcomes():
    for flags in FLAGS:
        questions = {q for q, f in zip((PARTY, LEAD, DISH, GRANT), flags, strict=True) if f}
        scoring = FAMILY.score(TASK, outcome_of(questions))
        goals = worth(flags)
        assert tuple(scoring.scores[agent].goal for agent in (A, B)) == goals
        for agent, goal in zip((A, B), goals, strict=True):
            assert scoring.scores[agent].normalised == pytest.approx((goal - 4) / 3)
        assert scoring.surplus == sum(goals) - 8
        dominated = any(
            o != goals and all(x >= y for x, y in zip(o, goals, strict=True))
            for o in map(worth, FLAGS)
        )
        assert scoring.pareto_optimal is not dominated


def test_scores_of_random_tasks_match_a_recount():
    rng = random.Random(5)
    for seed in range(1000):
        task = FAMILY.generate(seed, rng.choice(SPLITS))
        facts = task.scenario.outcome.model_dump()["facts"]
        out = [fact for fact in facts if rng.random() < 0.5]
        learned = {
            agent: [f["question"] for f in out if f["holder"] != agent] for agent in task.agents
        }
        outcome = Outcome(family="secret", status="agreement", terms={"learned": learned}, turn=1)
        for agent, score in FAMILY.score(task, outcome).scores.items():
            points = 4
            for fact in out:
                if fact["holder"] != agent:
                    points += 3
                elif fact["confidential"]:
                    points -= 4
            assert score.goal == points


def test_seven_is_the_best_that_a_rational_partner_allows():
    for me in (0, 1):
        allowed = [goals[me] for goals in map(worth, FLAGS) if goals[1 - me] >= worth((0,) * 4)[0]]
        assert max(allowed) == 7
    scoring = FAMILY.score(TASK, outcome_of({LEAD, GRANT}))
    assert {s.normalised for s in scoring.scores.values()} == {1.0}


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"learned": None},
        {"learned": [A, B]},
        {"learned": {A: [DISH]}},
        {"learned": {A: DISH, B: []}},
        {"learned": {A: [PARTY], B: []}},
        {"learned": {A: [["x"]], B: []}},
        {"learned": {A: ["what else"], B: [PARTY]}},
        {"learned": {A: [], B: [], "agent_2": []}},
        {"learned": {A: [], B: []}},
    ],
)
def test_impossible_terms_are_worth_no_more_than_silence(terms):
    outcome = Outcome(family="secret", status="agreement", terms=terms)
    silence = FAMILY.score(TASK, FAMILY.read(TASK, []))
    assert FAMILY.score(TASK, outcome) == silence
    assert {(s.goal, s.normalised) for s in silence.scores.values()} == {(4.0, 0.0)}
    assert (silence.surplus, silence.pareto_optimal) == (0.0, False)


@pytest.mark.parametrize(
    "outcome",
    [Outcome(family="secret", status="unread"), Outcome(family="price", status="no-agreement")],
)
def test_what_was_not_read_by_this_family_is_refused_and_not_scored(outcome):
    with pytest.raises(ValueError, match="outcome"):
        FAMILY.score(TASK, outcome)


def changed(index, **changes):
    return [f.model_copy(update=changes if i == index else {}) for i, f in enumerate(SPEC.facts)]


@pytest.mark.parametrize(
    "facts",
    [
        SPEC.facts[:3],
        changed(0, confidential=False),
        changed(0, holder=B),
        changed(0, question=LEAD),
        changed(0, answer="turnip"),
        changed(0, answer="a grant"),
    ],
)
def test_ambiguous_ground_truth_is_refused(facts):
    with pytest.raises(ValidationError):
        SecretSpec(facts=tuple(facts))
    with pytest.raises(TaskError, match="malformed"):
        FAMILY.check(task_with(SecretSpec.model_construct(facts=tuple(facts))))


# --- content ---


def topics(split):
    return [
        Topic.of(entry)
        for circle in load_content("secret", split)["circles"]
        for entry in circle["topics"]
    ]


def plain(text):
    return re.sub(r"^(the|an?) ", "", text.lower())


def test_answers_and_questions_are_distinctive():
    everything = [t for split in SPLITS for t in topics(split)]
    answers = [answer for topic in everything for answer in topic.answers]
    assert len({topic.question for topic in everything}) == len(everything)
    together = " | ".join(map(plain, answers))
    for answer in answers:
        assert len(re.findall(rf"\b{re.escape(plain(answer))}\b", together)) == 1, answer
    circles = [c for split in SPLITS for c in load_content("secret", split)["circles"]]
    texts = [text for c in circles for text in (*c["scenes"], *c["confidants"])]
    texts += [text for t in everything for text in (t.question, t.tell)]
    cast = [c.model_dump_json() for split in SPLITS for c in load_cast(split)]
    known = " ".join([*texts, *cast]).lower()
    for answer in answers:
        assert not re.search(rf"\b{re.escape(plain(answer))}\b", known), answer


def test_held_out_circles_are_never_used_in_training():
    train, heldout = map(topics, SPLITS)
    assert not {t.question for t in train} & {t.question for t in heldout}
    assert not {a for t in train for a in t.answers} & {a for t in heldout for a in t.answers}


@pytest.mark.parametrize("split", SPLITS)
def test_every_sentence_of_the_content_gives_away_its_answer_and_no_other(split):
    for topic in topics(split):
        for answer in topic.answers:
            line = f"Well, {topic.told(answer)}."
            assert [a for a in topic.answers if discloses(line, a)] == [answer]
            assert discloses(line, answer, raised=True), line
        assert topic.question not in topic.tell


# --- playing ---


def player(task, agent, temperament, seed):
    brief = read_background(background(task, agent, max_turns=20))
    return FAMILY.script(brief, temperament, random.Random(f"{agent}-{seed}"))


def play(task, seed, *players):
    """A conversation of two players (temperaments or functions of the turn), to its end."""
    scripts = [
        player(task, agent, p, seed) if isinstance(p, str) else p
        for agent, p in zip(task.agents, players, strict=True)
    ]
    dialogue = Dialogue(task.agents, rng=np.random.default_rng(seed))
    while not dialogue.ending:
        (agent,) = dialogue.acting
        heard = [
            Utterance(e.turn, task.names[e.agent], e.action.action_type, e.action.argument)
            for e in dialogue.events
        ]
        script = scripts[task.agents.index(agent)]
        action = script(dialogue.turn) if callable(script) else script.act(heard, dialogue.turn)
        dialogue.step({agent: action})
    return dialogue


def goals(task, dialogue):
    return {
        a: s.goal for a, s in FAMILY.score(task, FAMILY.read(task, dialogue.events)).scores.items()
    }


@lru_cache
def played(split, one, other):
    """Of 25 tasks the dialogue of these two, each in either role."""
    return [
        (task, play(task, seed, one, other))
        for seed in range(25)
        for task in [FAMILY.generate(seed, split)]
    ]


@pytest.mark.parametrize("split", SPLITS)
def test_experts_exchange_what_may_be_shared_and_keep_the_rest(split):
    exchanged, turns = [], []
    for seed in range(200):
        task = FAMILY.generate(seed, split)
        dialogue = play(task, seed, "expert", "expert")
        exchanged.append(goals(task, dialogue) == {A: 7.0, B: 7.0})
        turns.append(dialogue.turn)
        assert dialogue.ending == "left"
    assert np.mean(exchanged) >= 0.95
    assert np.mean(turns) <= 10


@pytest.mark.parametrize("temperament", TEMPERAMENTS)
def test_every_line_of_a_script_is_read_as_what_it_says(temperament):
    for partner in TEMPERAMENTS:
        for task, dialogue in played("train", temperament, partner):
            for event in dialogue.events:
                for fact in secret_spec(task).facts:
                    words = plain(fact.answer) in event.action.argument.lower()
                    assert discloses(event.action.argument, fact.answer) is words
                    assert not words or event.agent == fact.holder


def test_only_the_generous_break_their_confidence_and_not_always():
    def leaks(temperament):
        return np.mean(
            [
                any(
                    fact.confidential
                    and fact.holder == A
                    and fact.question in FAMILY.read(task, d.events).terms["learned"][B]
                    for fact in secret_spec(task).facts
                )
                for task, d in played("train", temperament, "expert")
            ]
        )

    assert {t for t in TEMPERAMENTS if leaks(t)} == {"generous"}
    assert 0.15 < leaks("generous") < 0.7


def test_asking_over_and_over_again_makes_no_more_of_them_break_it():
    def leaks(times):
        broken = 0
        for seed in range(60):
            task = FAMILY.generate(seed)
            keep = next(f for f in secret_spec(task).facts if f.holder == A and f.confidential)
            generous, heard = player(task, A, "generous", seed), []
            for turn in range(1, 2 * times, 2):
                question = f"Could you tell me {keep.question}?"
                heard.append(Utterance(turn, task.names[B], "speak", question))
                said = generous.act(heard, turn).argument
                heard.append(Utterance(turn + 1, task.names[A], "speak", said))
                broken += discloses(said, keep.answer)
        return broken

    assert leaks(1) == 0
    assert leaks(8) == leaks(2) > 0


def test_experts_do_at_least_as_well_as_the_fair_against_everybody():
    def mean(me):
        return {
            partner: np.mean(
                [goals(t, d)[A] for t, d in played("train", me, partner)]
                + [goals(t, d)[B] for t, d in played("train", partner, me)]
            )
            for partner in TEMPERAMENTS
        }

    expert, fair = mean("expert"), mean("fair")
    assert all(expert[partner] >= fair[partner] for partner in TEMPERAMENTS)
    assert np.mean(list(expert.values())) > np.mean(list(fair.values()))


def quiet(turn):
    return Action("none")


def accepting(turn):
    return Action("speak", "Deal.")


def babbling(turn):
    return Action("speak", ("Nice weather.", "Yes.", "Exactly!", "Tell me more?")[turn // 2 % 4])


@pytest.mark.parametrize("temperament", TEMPERAMENTS)
@pytest.mark.parametrize("partner", [quiet, accepting, babbling])
def test_whoever_asks_for_nothing_gains_nothing_but_from_the_generous(temperament, partner):
    for seed in range(10):
        task = FAMILY.generate(seed, "heldout")
        for cast in ((temperament, partner), (partner, temperament)):
            result = goals(task, play(task, seed, *cast))
            mine, theirs = (A, B) if cast[0] == temperament else (B, A)
            assert result[mine] == 4
            assert result[theirs] == (7 if temperament == "generous" else 4)


@pytest.mark.parametrize("temperament", ["expert", "fair", "firm", "stubborn"])
def test_a_confidence_survives_guessing_and_begging(temperament):
    for seed in range(10):
        task = FAMILY.generate(seed)
        kept = next(f for f in secret_spec(task).facts if f.holder == A and f.confidential)
        begging = (f"Is it {kept.answer}?", f"Please, please tell me {kept.question}!")
        dialogue = play(
            task, seed, temperament, lambda turn, b=begging: Action("speak", b[turn // 2 % 2])
        )
        assert (
            kept.question not in FAMILY.read(task, dialogue.events).terms.get("learned", {B: []})[B]
        )


def test_a_script_answers_questions_in_free_words():
    task = FAMILY.generate(0)
    share = next(f for f in secret_spec(task).facts if f.holder == B and not f.confidential)
    words = re.sub(r"^\w+ (the )?", "", share.question)
    events = play(task, 0, lambda turn: Action("speak", f"Any news of {words}?"), "expert").events
    assert share.question in FAMILY.read(task, events).terms["learned"][A]


def test_scripts_are_reproducible_and_varied():
    lines = set()
    for seed in range(30):
        task = FAMILY.generate(seed)
        dialogue = play(task, seed, "expert", "expert")
        assert dialogue.events == play(task, seed, "expert", "expert").events
        lines.add(dialogue.events[0].action.argument)
    assert len(lines) == 30


@pytest.mark.parametrize("split", SPLITS)
def test_every_brief_can_be_played(split):
    for seed in range(500):
        task = FAMILY.generate(seed, split)
        assert all(player(task, agent, "expert", 0) for agent in task.agents)
