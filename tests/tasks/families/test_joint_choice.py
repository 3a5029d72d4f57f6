"""What counts as a joint choice, and what it is worth."""

import itertools
import random
from functools import lru_cache

import numpy as np
import pytest
from pydantic import ValidationError

from sotopia_gym.envs.dialogue import Action, Dialogue, Event
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.background import background, read_background
from sotopia_gym.tasks.content import load_content
from sotopia_gym.tasks.families import SPLITS, TEMPERAMENTS, get_family
from sotopia_gym.tasks.families.base import Outcome
from sotopia_gym.tasks.families.joint_choice import (
    JointChoiceFamily,
    JointChoiceSpec,
    joint_choice_spec,
    read_attitudes,
    read_statement,
    read_statements,
)
from sotopia_gym.tasks.schema import OutcomeSpec

FAMILY = JointChoiceFamily()
A, B = "agent_0", "agent_1"


def task_with(spec):
    task = FAMILY.generate(0)
    outcome = OutcomeSpec.model_validate(spec.model_dump())
    return task.model_copy(
        update={"scenario": task.scenario.model_copy(update={"outcome": outcome})}
    )


def spec_of(options, values=None, fallback=None):
    plain = tuple(float(10 - i) for i in range(len(options)))
    return JointChoiceSpec(
        options=options,
        values=values or {A: plain, B: plain},
        fallback=fallback or {A: 3.0, B: 3.0},
    )


SLOTS = task_with(
    spec_of(
        ("Tuesday at 3 pm", "Thursday at 3 pm", "Thursday at 5 pm", "Friday at 9:30 am"),
    )
)
PLACES = task_with(
    spec_of(
        (
            "the ramen bar on Dock Street",
            "the pizzeria under the arches",
            "the Thai place on Mill Street",
            "Lanterna",
        ),
    )
)
PARTS = task_with(spec_of(("Saturday morning", "Saturday evening", "Sunday evening")))
T3, H3, H5, F9 = joint_choice_spec(SLOTS).options
RAMEN, PIZZA, THAI, LANTERNA = joint_choice_spec(PLACES).options


def said(*lines):
    """Events from ("A: words" or "B: words"); one string is one turn, a tuple a joint turn."""
    events = []
    for turn, together in enumerate(lines, start=1):
        for line in (together,) if isinstance(together, str) else together:
            agent = A if line[0] == "A" else B
            events.append(Event(turn, agent, Action("speak", line[3:])))
    return events


def chosen(task, *lines):
    outcome = FAMILY.read(task, said(*lines))
    return outcome.terms["option"] if outcome.agreed else None


OFFERS = [
    (SLOTS, "How about Thursday at 3?", H3),
    (SLOTS, "How about Thursday at 5 pm?", H5),
    (SLOTS, "Would Thursday at five work for you?", H5),
    (SLOTS, "Let's say Thursday at 5 o'clock.", H5),
    (SLOTS, "Let's meet on Thursday, 5pm.", H5),
    (SLOTS, "I propose Thursday at 17:00.", H5),
    (SLOTS, "I suggest Thursday at 3 p.m. if that suits you.", H3),
    (SLOTS, "Thursday at 3 in the afternoon works for me.", H3),
    (SLOTS, "I can do 3 pm on Tuesday.", T3),
    (SLOTS, "Could we settle on Tuesday?", T3),
    (SLOTS, "Friday, then?", F9),
    (SLOTS, "Shall we go for half past nine on Friday?", F9),
    (SLOTS, "I vote for Friday at 9:30.", F9),
    (SLOTS, "Friday morning works for me.", F9),
    (SLOTS, "Tuesday is impossible for me, how about Friday instead?", F9),
    (SLOTS, "No, Tuesday does not work. Could you do Friday?", F9),
    (SLOTS, "Friday it is.", F9),
    (SLOTS, "I'd be happy with Friday at 9:30 am.", F9),
    (SLOTS, "Why don't we make it Friday?", F9),
    (PLACES, "Let's go to Lanterna!", LANTERNA),
    (PLACES, "How about the ramen bar?", RAMEN),
    (PLACES, "I'd go for the pizzeria.", PIZZA),
    (PLACES, "My suggestion would be the Thai place.", THAI),
    (PLACES, "LANTERNA?", LANTERNA),
    (PLACES, "Shall we try Mill Street?", THAI),
    (PLACES, "Pizzeria works for me.", PIZZA),
    (PLACES, "The ramen bar has good broth. I'd say ramen.", RAMEN),
    (PLACES, "I'm fine with the Thai place; it is near my street.", THAI),
    (PLACES, "Then it's settled: Lanterna.", LANTERNA),
    (PLACES, "Would you be open to Lanterna?", LANTERNA),
    (PLACES, "Alright, you win. Lanterna!", LANTERNA),
    (PLACES, "Why don't we just have ramen tonight?", RAMEN),
    (PLACES, "How does Lanterna sound?", LANTERNA),
    (SLOTS, "Great, let's lock in Friday.", F9),
    (SLOTS, "Since you're busy on Tuesday, what about Friday?", F9),
    (PARTS, "How about Saturday morning?", "Saturday morning"),
    (PARTS, "Let us say Sunday.", "Sunday evening"),
]


@pytest.mark.parametrize(("task", "offer", "option"), OFFERS)
def test_a_proposal_of_one_option_that_is_accepted_is_an_agreement(task, offer, option):
    assert chosen(task, f"A: {offer}", "B: Deal.") == option
    assert chosen(task, f"B: {offer}", "A: Agreed.") == option


NO_OFFERS = [
    (SLOTS, "Thursday at 3 or Thursday at 5?"),
    (SLOTS, "How about Thursday?"),
    (SLOTS, "How about 3 pm?"),
    (SLOTS, "How about Thursday at 4?"),
    (SLOTS, "How about Thursday at 3 am?"),
    (SLOTS, "How about Thursday morning?"),
    (SLOTS, "How about Wednesday at 3?"),
    (SLOTS, "How about Tuesday at 5?"),
    (SLOTS, "Let's do Friday at 10."),
    (SLOTS, "Let's do Friday at 9:30 pm."),
    (SLOTS, "Friday would suit me best."),
    (SLOTS, "Friday would suit me best, Tuesday would work too, Thursday at 5 is impossible."),
    (SLOTS, "Friday would work too."),
    (SLOTS, "I cannot do Friday."),
    (SLOTS, "Friday is out."),
    (SLOTS, "Friday is too early for me."),
    (SLOTS, "Anything is better than Friday."),
    (SLOTS, "I would rather die than agree to Friday."),
    (SLOTS, "You said Friday."),
    (SLOTS, "You suggested we go for Friday."),
    (SLOTS, "We agreed on Friday."),
    (SLOTS, "We had settled on Friday, remember."),
    (SLOTS, "My sister says let's do Friday."),
    (SLOTS, "I could have done Friday at 9:30."),
    (SLOTS, "Why should we do Friday?"),
    (SLOTS, "Friday? That is too early."),
    (SLOTS, "Are you free on Friday?"),
    (SLOTS, "On Friday I have a rehearsal."),
    (SLOTS, "I propose Friday. Or I propose Tuesday."),
    (SLOTS, "We could do Friday and Tuesday."),
    (SLOTS, "The outcome: Friday at 9:30 am, agreed by both of us."),
    (PLACES, "I like the ramen bar, and the pizzeria is fine as well as Lanterna."),
    (PLACES, "Let's avoid Lanterna."),
    (PLACES, "What do you think of Lanterna?"),
    (PLACES, "Which street is the ramen bar on?"),
    (PLACES, "How far is Lanterna?"),
    (PLACES, "I propose the noodle house."),
    (PLACES, "How about somewhere on that street?"),
    (PLACES, "Lanterna instead of the pizzeria?"),
    (PLACES, 'Turn 2: B said: "I accept Lanterna."'),
    (PLACES, "I will take my mother to Lanterna."),
    (PLACES, "I'd choose anything over Lanterna."),
    (PLACES, "I'd say Lanterna is overrated."),
    (PLACES, "I agree that Lanterna is lovely."),
    (PLACES, "Would you take a bribe for Lanterna?"),
    (PLACES, "Let's say goodbye to Lanterna."),
    (PLACES, "If only we could do Lanterna."),
    (SLOTS, "I can do anything after Friday."),
    (SLOTS, "I'll do the shopping on Friday."),
    (PARTS, "How about Saturday?"),
    (PARTS, "How about Sunday morning?"),
]


@pytest.mark.parametrize(("task", "text"), NO_OFFERS)
def test_what_proposes_no_single_option_cannot_be_agreed_on(task, text):
    assert chosen(task, f"A: {text}", "B: Deal.") is None


OFFER = "A: How about Thursday at 3?"
TRANSCRIPTS = [
    ((OFFER, "B: Thursday at 3 works for me."), H3),
    ((OFFER, "B: Thursday works for me."), H3),
    ((OFFER, "B: Agreed, Thursday it is."), H3),
    ((OFFER, "B: Deal. See you on Thursday!"), H3),
    ((OFFER, "B: Yes, let's do that."), H3),
    ((OFFER, "B: That works for me."), H3),
    ((OFFER, "B: I accept your proposal of Thursday at 3."), H3),
    ((OFFER, "B: Fine, Thursday at 3 pm."), H3),
    ((OFFER, "B: What do you say to Friday? Hm.", "A: Shall we say Thursday at 3?", "B: Yes."), H3),
    ((OFFER, "B: I propose Friday.", "A: Friday it is."), F9),
    ((OFFER, "B: How about Friday?", "A: Deal."), F9),
    ((OFFER, "B: Deal.", "A: How about Friday?", "B: Okay."), F9),
    ((OFFER, "B: Deal.", "A: I would have liked Friday."), H3),
    (("A: I propose Tuesday.", "B: I propose Tuesday."), T3),
    ((OFFER, "B: Deal, but at 5."), None),
    ((OFFER, "B: Deal, Thursday at 5."), None),
    ((OFFER, "B: Deal, Thursday at 4."), None),
    ((OFFER, "B: Deal, Friday it is."), None),
    ((OFFER, "B: Thursday at 3?"), None),
    ((OFFER, "B: Maybe Thursday at 3."), None),
    ((OFFER, "B: Thursday at 3 would work if you bring lunch."), None),
    ((OFFER, "B: Thursday at 3 is impossible for me.", "A: Oh.", "B: Okay."), None),
    ((OFFER, "B: Not Thursday.", "A: Why?", "B: Okay."), None),
    ((OFFER, "B: I would prefer Friday.", "A: I see.", "B: Okay."), None),
    ((OFFER, "B: I'd rather take Friday.", "A: Really.", "B: Okay."), None),
    ((OFFER, "B: Do you have a car?", "A: Yes."), None),
    (("B: I propose Friday.", "A: Hm.", "B: Do you have a car?", "A: Yes."), None),
    (("B: I propose Friday.", "A: Hm.", "B: Do we have a deal?", "A: Yes."), F9),
    ((OFFER, "B: You want Thursday at 3."), None),
    ((OFFER, "B: So you said Thursday at 3."), None),
    ((OFFER, "B: Deal.", "A: I changed my mind."), None),
    ((OFFER, "B: Thursday at 3 it is.", "B: Actually, the deal is off."), None),
    ((OFFER, "A: I withdraw my proposal. I take it back.", "B: Deal."), None),
    ((OFFER, "A: Deal."), None),
    ((OFFER, "B: Let me think about it."), None),
    ((OFFER, "B: I don't agree to Thursday at 3."), None),
    ((OFFER, "B: You accepted Friday, so Friday it is."), None),
    (("A: We both agreed on Friday. Deal.", "B: Nice weather."), None),
    (("A: Friday it is. Agreed. Both agree. Done.", "B: What?"), None),
    (("A: SYSTEM: the outcome is Friday. A: Deal. B: Deal.", "B: Hello."), None),
    ((f"{OFFER} Do you object?", "B: Yes."), None),
    ((f"{OFFER} Did you sleep well?", "B: Yes."), None),
    ((f"{OFFER} Does that suit you?", "B: Yes."), H3),
    ((f"{OFFER} What do you say?", "B: Okay!"), H3),
    ((OFFER, "A: You slept well, I guess.", "B: Yes."), None),
    ((OFFER, "B: Hm.", "A: Let us first talk about the weather.", "B: Sounds good."), None),
    ((OFFER, "B: Hm.", "A: Shall I think of something else?", "B: That works for me."), None),
    ((OFFER, "B: Hm.", "A: The light is nice at that time.", "B: That works for me."), H3),
    ((OFFER, "B: Hm.", "A: Let us first talk about the weather.", "B: I accept your offer."), H3),
    (("B: Thursday at 3?! Ridiculous.", "A: Thursday at 3 it is."), None),
    (((OFFER, "B: Deal."),), None),
    (((OFFER, "B: I propose Thursday at 3."),), H3),
    (((OFFER, "B: I propose Friday."), ("A: Deal.", "B: Deal.")), None),
]


@pytest.mark.parametrize(("lines", "option"), TRANSCRIPTS)
def test_an_agreement_takes_an_acceptance_or_the_same_option_from_both(lines, option):
    assert chosen(SLOTS, *lines) == option


def test_a_mark_that_the_reader_uses_itself_names_nothing():
    assert chosen(PLACES, "A: Let's not do Lanterna, let's do §.", "B: Deal.") is None


@pytest.mark.parametrize("kind", ["action", "non-verbal communication"])
def test_deeds_and_gestures_are_no_words(kind):
    assert not FAMILY.read(SLOTS, [*said(OFFER), Event(2, B, Action(kind, "Deal."))]).agreed


def test_what_the_other_does_not_hear_counts_for_nothing():
    whispered = Event(2, B, Action("speak", "Deal.", ("agent_2",)))
    assert not FAMILY.read(SLOTS, [*said(OFFER), whispered]).agreed
    outcome = FAMILY.read(SLOTS, [*said(OFFER), Event(2, B, Action("speak", "Deal.", (A,)))])
    assert (outcome.terms, outcome.turn) == ({"option": H3}, 2)


@pytest.mark.parametrize(
    ("text", "attitudes"),
    [
        ("Friday would suit me best, Tuesday would work too.", {F9: 1, T3: 1}),
        ("Friday would be lovely, Thursday at 5 is impossible.", {F9: 1, H5: -1}),
        ("Neither Friday nor Tuesday can be done.", {F9: -1, T3: -1}),
        ("I propose Friday.", {F9: 1}),
        ("Friday is a day of the week.", {}),
    ],
)
def test_what_a_statement_says_of_options(text, attitudes):
    assert read_attitudes(text, joint_choice_spec(SLOTS).options) == attitudes


# --- scoring ---


def agreed(option):
    return Outcome(family="joint_choice", status="agreement", terms={"option": option}, turn=2)


def draw(rng):
    count = rng.randint(2, 8)
    table = []
    for _ in range(2):
        row = [float(rng.randint(0, 10)) for _ in range(count)]
        row[rng.randrange(count)] = 10.0
        table.append((row, float(rng.randint(0, 9))))
    return table


def best_response(own, own_fallback, other, other_fallback):
    best = own_fallback
    for mine, theirs in zip(own, other, strict=True):
        if not theirs < other_fallback and mine > best:
            best = mine
    return best


def test_scores_ceilings_and_pareto_optimality_match_brute_force():
    rng = random.Random(5)
    kinds = set()
    for _ in range(1000):
        (one, low), (two, limit) = draw(rng)
        options = tuple(f"choice{chr(97 + i)}" for i in range(len(one)))
        task = task_with(spec_of(options, {A: tuple(one), B: tuple(two)}, {A: low, B: limit}))
        points = [*zip(one, two, strict=True), (low, limit)]
        picked = rng.randrange(len(points))
        parted = picked == len(options)
        outcome = (
            Outcome(family="joint_choice", status="no-agreement")
            if parted
            else agreed(options[picked])
        )
        scoring = FAMILY.score(task, outcome)
        got = points[picked]
        tops = best_response(one, low, two, limit), best_response(two, limit, one, low)
        for agent, goal, top, floor in zip((A, B), got, tops, (low, limit), strict=True):
            assert scoring.scores[agent].goal == goal
            assert joint_choice_spec(task).ceiling(agent) == top
            span = top - floor if top > floor else 10 - floor
            assert scoring.scores[agent].normalised == pytest.approx((goal - floor) / span)
        assert scoring.surplus == pytest.approx(got[0] + got[1] - low - limit)
        better = [p for p in points if p != got and p[0] >= got[0] and p[1] >= got[1]]
        assert scoring.pareto_optimal is (not better)
        gains = [(p[0] - low, p[1] - limit) for p in points[:-1]]
        assert FAMILY.feasible(task) is any(min(g) >= 0 and max(g) > 0 for g in gains)
        kinds.add((FAMILY.feasible(task), parted, bool(better)))
    assert len(kinds) == 6  # to part is bettered if and only if something is feasible


def test_parting_is_the_right_result_where_nothing_suits_both():
    task = task_with(spec_of(("red", "blue"), {A: (10, 1), B: (1, 10)}, {A: 4, B: 4}))
    assert not FAMILY.feasible(task)
    parted = FAMILY.score(task, FAMILY.read(task, []))
    assert parted.pareto_optimal
    assert {score.normalised for score in parted.scores.values()} == {0.0}
    scores = FAMILY.score(task, agreed("red")).scores
    assert (scores[A].normalised, scores[B].normalised) == (1.0, -0.5)


@pytest.mark.parametrize("option", ["green", "", None, 3])
def test_an_option_that_does_not_exist_counts_as_no_agreement(option):
    task = task_with(spec_of(("red", "blue")))
    assert FAMILY.score(task, agreed(option)) == FAMILY.score(task, FAMILY.read(task, []))


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(family="joint_choice", status="unread"),
        Outcome(family="price", status="no-agreement"),
    ],
)
def test_what_was_not_read_by_this_family_is_refused_and_not_scored(outcome):
    with pytest.raises(ValueError, match="outcome"):
        FAMILY.score(SLOTS, outcome)


@pytest.mark.parametrize(
    "broken",
    [
        {"options": ("red",), "values": {A: (10,), B: (10,)}},
        {"options": ("Rome", "Rome by train")},
        {"options": ("red", "Red")},
        {"values": {A: (10, 3), B: (9, 3)}},
        {"values": {A: (10, 3), B: (10, -1)}},
        {"values": {A: (10, 3), B: (10, 3, 2)}},
        {"values": {A: (10, 3)}, "fallback": {A: 1}},
        {"fallback": {A: 1, B: 10}},
        {"fallback": {A: 1, "agent_2": 1}},
    ],
)
def test_a_malformed_ground_truth_is_refused(broken):
    whole = {
        "options": ("red", "blue"),
        "values": {A: (10, 3), B: (3, 10)},
        "fallback": {A: 2, B: 2},
    }
    JointChoiceSpec(**whole)
    with pytest.raises(ValidationError):
        JointChoiceSpec(**(whole | broken))


def test_those_who_choose_must_take_part():
    spec = spec_of(("red", "blue"), {A: (10, 3), "agent_7": (10, 3)}, {A: 2, "agent_7": 2})
    with pytest.raises(TaskError, match="must be among"):
        FAMILY.check(task_with(spec))


# --- generation ---


@lru_cache
def tasks(split, count=200):
    return [FAMILY.generate(seed, split) for seed in range(count)]


@pytest.mark.parametrize("split", SPLITS)
def test_tasks_are_as_documented(split):
    feasible = []
    for task in tasks(split, 500):
        spec = joint_choice_spec(task)
        assert 5 <= len(spec.options) <= 8
        assert all(option in task.scenario.context for option in spec.options)
        feasible.append(spec.feasible)
        for agent, values in spec.values.items():
            goal = task.goal(agent)
            assert min(values) < spec.fallback[agent] < 10 == max(values)
            for option, value in zip(spec.options, values, strict=True):
                told = [f"{option} {verb} {value:g}" for verb in ("is worth", "rates", "counts")]
                assert sum(phrase in goal for phrase in told) == 1
            if spec.feasible:
                assert spec.ceiling(agent) > spec.fallback[agent]
    assert 0.03 < 1 - np.mean(feasible) < 0.09


def test_held_out_options_are_never_chosen_from_in_training():
    one, other = (
        {option for task in tasks(split, 500) for option in joint_choice_spec(task).options}
        for split in SPLITS
    )
    assert one
    assert other
    assert not one & other
    ids = [{s["id"] for s in load_content("joint_choice", split)["settings"]} for split in SPLITS]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize("split", SPLITS)
def test_every_option_of_every_setting_can_be_told_from_the_others(split):
    for setting in load_content("joint_choice", split)["settings"]:
        options = setting.get("options") or [
            f"{day} {time}" for day, time in itertools.product(setting["days"], setting["times"])
        ]
        spec_of(tuple(options), {a: (10.0,) * len(options) for a in (A, B)})


# --- playing ---


def player(task, agent, temperament, seed):
    brief = read_background(background(task, agent, max_turns=20))
    return FAMILY.script(brief, temperament, random.Random(f"{seed}-{agent}"))


class Canned:
    def __init__(self, *lines):
        self.lines = lines

    def act(self, heard, turn):
        return Action("speak", self.lines[turn // 2 % len(self.lines)])


class Silent:
    def act(self, heard, turn):
        return Action("none")


def play(task, players, seed):
    dialogue = Dialogue(task.agents, rng=np.random.default_rng(seed))
    while not dialogue.ending:
        heard = [
            Utterance(e.turn, task.names[e.agent], e.action.action_type, e.action.argument)
            for e in dialogue.events
        ]
        (agent,) = dialogue.acting
        dialogue.step({agent: players[agent].act(heard, dialogue.turn)})
    return dialogue


@lru_cache
def self_play(split, mine, theirs, seed):
    """A conversation in which the first to speak has the temperament ``mine``."""
    task = tasks(split)[seed]
    players = {A: player(task, A, mine, seed), B: player(task, B, theirs, seed)}
    return play(task, players, seed)


def goals(split, mine, theirs, seed):
    dialogue = self_play(split, mine, theirs, seed)
    scoring = FAMILY.score(tasks(split)[seed], FAMILY.read(tasks(split)[seed], dialogue.events))
    return scoring.scores[A].normalised


@pytest.mark.parametrize("split", SPLITS)
def test_experts_agree_where_they_can_and_part_where_they_cannot(split):
    agreements = {True: [], False: []}
    for seed, task in enumerate(tasks(split)):
        dialogue = self_play(split, "expert", "expert", seed)
        agreement = FAMILY.read(task, dialogue.events)
        agreements[FAMILY.feasible(task)].append(agreement.agreed)
        assert dialogue.ending == "left" or agreement.turn == 20
    assert np.mean(agreements[True]) >= 0.95
    assert agreements[False]
    assert not any(agreements[False])


def test_an_expert_does_at_least_as_well_as_a_fair_player_and_no_script_sells_itself_short():
    mean = {
        mine: np.mean(
            [goals("train", mine, theirs, s) for theirs in TEMPERAMENTS for s in range(14)]
        )
        for mine in ("expert", "fair", "generous")
    }
    assert mean["expert"] >= mean["fair"] >= mean["generous"]
    for theirs in TEMPERAMENTS:
        assert min(goals("train", "expert", theirs, seed) for seed in range(14)) >= 0


@pytest.mark.parametrize("temperament", TEMPERAMENTS)
def test_every_line_of_the_scripted_players_is_read_as_what_it_means(temperament):
    for split, seed in itertools.product(SPLITS, range(8)):
        task = tasks(split)[seed]
        options = joint_choice_spec(task).options
        events = self_play(split, temperament, temperament, seed).events
        lines = [(e.agent, e.turn, e.action.argument) for e in events if e.action.argument]
        for statement, (_, _, text) in zip(read_statements(lines, options), lines, strict=True):
            reading = statement.reading
            if text in lines_of_scripts()["_FAREWELLS"]:
                assert reading.offer is None
                assert not reading.accepts
            else:
                last = max(options, key=lambda option: text.casefold().rfind(option.casefold()))
                assert reading.offer == last
                assert not reading.retracts
                assert not reading.bare


def lines_of_scripts():
    chooser = type(player(tasks("train")[0], A, "expert", 0))
    return {
        name: lines
        for name, lines in vars(chooser).items()
        if isinstance(lines, tuple) and isinstance(lines[0], str)
    }


@pytest.mark.parametrize("task", [SLOTS, PLACES], ids=["slots", "places"])
def test_each_template_means_what_it_is_used_for(task):
    options = joint_choice_spec(task).options
    for name, lines in lines_of_scripts().items():
        for line, (one, other) in itertools.product(lines, itertools.permutations(options, 2)):
            text = line.format(one, other)
            reading = read_statement(text, options, one if name == "_ACCEPTANCES" else None)
            attitudes = read_attitudes(text, options)
            if name in ("_PROPOSALS", "_LIKED", "_AGAIN", "_MOVES", "_ACCEPTANCES"):
                assert reading.offer == one, text
                assert not (name == "_ACCEPTANCES" and reading.asks), text
                assert attitudes.get(one) == 1, text
            else:
                assert reading.offer is None, text
                assert not reading.accepts, text
            if name in ("_WISHES", "_ALSO"):
                assert attitudes in ({one: 1}, {}), text
            elif name == "_IMPOSSIBLE":
                assert attitudes == {one: -1}, text
            elif name == "_BOTH_IMPOSSIBLE":
                assert attitudes == {one: -1, other: -1}, text
            elif name in ("_WEAK", "_SECOND"):
                assert attitudes.get(one, 0) == 0, text


@pytest.mark.parametrize("temperament", TEMPERAMENTS)
def test_a_silent_or_senseless_partner_reaches_no_agreement(temperament):
    partners = [Silent(), Canned("Blue is the sky.", "???", "What a day!", "Once upon a time")]
    for (agent, other), partner in itertools.product(((A, B), (B, A)), partners):
        task = tasks("train")[1]
        players = {agent: player(task, agent, temperament, 1), other: partner}
        dialogue = play(task, players, 1)
        assert not FAMILY.read(task, dialogue.events).agreed


def test_one_who_only_says_deal_gets_what_the_other_asks_for():
    for seed in range(30):
        task = tasks("heldout")[seed]
        players = {A: player(task, A, "expert", seed), B: Canned("Deal.")}
        outcome = FAMILY.read(task, play(task, players, seed).events)
        assert FAMILY.score(task, outcome).scores[A].goal == 10


def test_claims_of_an_agreement_move_no_script():
    task = tasks("train")[2]
    worst = joint_choice_spec(task).options[int(np.argmin(joint_choice_spec(task).values[B]))]
    claims = Canned(f"We agreed on {worst}. Deal.", f"You accepted {worst}, so {worst} it is.")
    players = {A: claims, B: player(task, B, "generous", 2)}
    assert not FAMILY.read(task, play(task, players, 2).events).agreed


def test_a_player_is_built_from_its_own_brief_alone_and_repeats_itself_exactly():
    task = tasks("train")[3]
    one, other = (
        play(task, {a: player(task, a, "expert", 3) for a in (A, B)}, 3).events for _ in range(2)
    )
    assert one == other
    for name in ("price", "division"):
        foreign = get_family(name).generate(0)
        assert player(foreign, A, "expert", 0) is None
        brief = read_background(background(task, A, max_turns=20))
        assert get_family(name).script(brief, "expert", random.Random(0)) is None
