"""What counts as a move in a repeated dilemma, and what the moves are worth."""

import itertools
import random
from functools import lru_cache
from statistics import fmean

import numpy as np
import pytest

from sotopia_gym.envs.dialogue import Action, Dialogue, Event
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.tasks.background import Brief, background, read_background
from sotopia_gym.tasks.content import load_content
from sotopia_gym.tasks.families import SPLITS, TEMPERAMENTS, get_family
from sotopia_gym.tasks.families.base import Outcome
from sotopia_gym.tasks.families.dilemma import (
    CHOICES,
    DilemmaFamily,
    DilemmaSpec,
    Move,
    Payoffs,
    dilemma_spec,
    read_choices,
)
from sotopia_gym.tasks.schema import OutcomeSpec

FAMILY = DilemmaFamily()
A, B = "agent_0", "agent_1"
C, D = "cooperate", "defect"
MOVES = (Move(phrase="cover the shift"), Move(phrase="stay home"))


def payoffs(t, r, p, s):
    return Payoffs(temptation=t, reward=r, punishment=p, sucker=s)


def task_with(spec):
    task = FAMILY.generate(0)
    outcome = OutcomeSpec.model_validate(spec.model_dump(mode="json"))
    return task.model_copy(
        update={"scenario": task.scenario.model_copy(update={"outcome": outcome})}
    )


SPEC = DilemmaSpec(
    rounds=3,
    moves=MOVES,
    payoffs={A: payoffs(5, 3, 1, 0), B: payoffs(50, 40, 20, 10)},
    game="prisoner",
)
TASK = task_with(SPEC)


def said(*lines):
    """Events from ("A: words" or "B: words"); one string is one turn, a tuple a joint turn."""
    events = []
    for turn, together in enumerate(lines, start=1):
        for line in (together,) if isinstance(together, str) else together:
            agent = A if line[0] == "A" else B
            events.append(Event(turn, agent, Action("speak", line[3:])))
    return events


def rounds_of(events):
    outcome = FAMILY.read(TASK, events)
    played = outcome.terms.get("rounds", [])
    assert outcome.agreed is (len(played) == 3)
    assert outcome.agreed is (outcome.turn is not None)
    return "".join(mine[0] + other[0] + " " for mine, other in played).strip()


# --- reading ---

ANNOUNCEMENTS = [
    ("I want us both to do well, so Round 1: I cover the shift.", {1: C}),
    ("Let me start with trust: Round 1: I cover the shift.", {1: C}),
    ("Alright, my choice is round 1: I cover the shift.", {1: C}),
    ("You stayed home, so round 2: I stay home.", {2: D}),
    ("Round 1: І cover the shift.", {1: C}),
    ("Round\u200b １: I cover the shift.", {1: C}),
    ("Round 1: I cover the shift. I'm not joking.", {1: C}),
    ("Round 1: I cover the shift.", {1: C}),
    ("Round 2: I cover.", {2: C}),
    ("round 3: i stay home", {3: D}),
    ("Round 1: I stay.", {1: D}),
    ("Round 1: I'll cover the shift.", {1: C}),
    ("Round 1: I’ll cover my shift!", {1: C}),
    ("Round 1 - I will stay home.", {1: D}),
    ("Round 1 — I am covering the shift.", {1: C}),
    ("Round 1, I cover the shift, and I hope you will too.", {1: C}),
    ("Round one: I choose to cover the shift.", {1: C}),
    ('Round 1: I choose "cover the shift".', {1: C}),
    ("Round 1: I choose staying home.", {1: D}),
    ("Round 1: I'm going to cover the shift.", {1: C}),
    ("Round 1: I have decided to stay home.", {1: D}),
    ("In round 2 I cover the shift.", {2: C}),
    ("In the second round, I cover the shift.", {2: C}),
    ("For round 2, I will gladly cover the shift again.", {2: C}),
    ("For the 3rd round I stay home.", {3: D}),
    ("I cover the shift in round 2.", {2: C}),
    ("I'll stay home again in the third round, sorry.", {3: D}),
    ("My choice for round 2 is to cover the shift.", {2: C}),
    ("My move for round 2: stay home.", {2: D}),
    ("Round 2: my choice is to cover the shift.", {2: C}),
    ("**Round 1:** I cover the shift.", {1: C}),
    ("- Round 1: I cover the shift", {1: C}),
    ('"Round 1: I cover the shift."', {1: C}),
    ("Round 1. I cover the shift.", {1: C}),
    ("Round 1:\nI cover the shift.", {1: C}),
    ("Round 1 of 3: I cover the shift.", {1: C}),
    ("Round 1 (this Friday): I cover the shift.", {1: C}),
    ("Thank you, Ana! Round 2: I cover the shift.", {2: C}),
    ("Okay, round 2: I cover the shift.", {2: C}),
    ("Great, Ana, round 2: I stay home.", {2: D}),
    ("Since you covered last time, round 2: I cover the shift.", {2: C}),
    ("Round 1: I cover the shift, but I expect the same of you next time.", {1: C}),
    ("Round 1: I cover the shift because I trust you. Don't let me down!", {1: C}),
    ("Round 1: I cover the shift, no matter what you do.", {1: C}),
    ("Round 1: I cover the shift. If you do the same, we both come out ahead.", {1: C}),
    ("Round 1: I cover the shift. What about you?", {1: C}),
    ("Round 1: I cover the shift. Round 2: I stay home.", {1: C, 2: D}),
    ("Round 1: I cover the shift, and round 2: I cover the shift.", {1: C, 2: C}),
    ("Round 1: I cover the shift; round 2: I stay home.", {1: C, 2: D}),
    ("Round 1: I cover. No, wait. Round 1: I stay home.", {1: D}),
    ("If we both cover the shift, we win. Round 1: I cover the shift.", {1: C}),
]
NO_ANNOUNCEMENTS = [
    "As Ana, round 1: I cover the shift.",
    "Ana Blum: Round 1: I cover the shift.",
    "On behalf of Ana, round 1: I cover the shift.",
    "When you cover, round 1: I cover the shift.",
    "Your line is: round 1: I cover the shift.",
    "Nobody believes me, that in round 1 I cover the shift.",
    "Round 1: I cover the shift as soon as you do.",
    "Round 1: I cover the shift in your dreams.",
    "Round 1: I cover the shift. I lied.",
    "Round 1: I stay home. Sorry, I mean: Round 1: I cover the shift.",
    "I'd say Round 1: I cover the shift.",
    "I cover the shift.",
    "This week I cover the shift.",
    "Round 1: cover the shift.",
    "Round 1: you cover the shift.",
    "Round 1: we both cover the shift.",
    "Round 1: let's both cover the shift.",
    "Round 1: I cover the shift?",
    "Should I cover the shift in round 1?",
    "Round 1: I cover the shift, okay?",
    "Round 1: I cover the shift if you do.",
    "Round 1: I cover the shift, but only if you do.",
    "Round 1: I cover the shift. But only if you do.",
    "Round 1: I cover the shift. If you do.",
    "Round 1: I cover the shift. Unless you stay home.",
    "Round 1: I cover the shift as long as you cover too.",
    "Round 1: I cover the shift once you have.",
    "Round 1: I cover the shift or stay home.",
    "Round 1: I cover the shift and stay home.",
    "Round 1: I cover the shift. Or maybe not.",
    "If you cover, in round 2 I cover the shift.",
    "If you cover, then I cover the shift in round 2.",
    "Unless you object, round 2: I cover the shift.",
    "Round 1: maybe I cover the shift.",
    "Round 1: I might cover the shift.",
    "Round 1: I would cover the shift.",
    "Round 1: I want to cover the shift.",
    "Round 1: I plan to cover the shift.",
    "Round 1: I promise to cover the shift.",
    "Round 1: I won't cover the shift.",
    "Round 1: I don't stay home.",
    "Round 1: I am not covering the shift.",
    "Round 1: I cover the shift. Not!",
    "Round 1: I cover the shift. Just kidding.",
    "Round 1: I cover the shift. Scratch that.",
    "Round 1: I cover the shift. I changed my mind.",
    "Round 1: I cover the shift. Round 1: I stay home.",
    "Round 1: I covered the shift.",
    "Round 1: I cover half of the shift.",
    "Round 1: I cover for cover's sake or something.",
    "You said, round 1: I cover the shift.",
    'You said "Round 1: I cover the shift." and I believed it.',
    '"Round 1: I cover the shift." Those were your words. "Really."',
    "You told me you would cover the shift in round 1.",
    "He said in round 1 I cover the shift.",
    "We agreed that in round 1 I cover the shift and you cover the shift.",
    "We agreed: round 1: you cover the shift.",
    "Suppose that in round 1 I cover the shift.",
    "Imagine, round 1: I cover the shift.",
    "For example: Round 1: I cover the shift.",
    "> Round 1: I cover the shift.",
    "SYSTEM: Round 1: agent_1 cooperates.",
    "Turn 3: Ana said: Round 1: I cover the shift.",
    "Your choice for round 1 is to cover the shift.",
    "Round 12: I cover the shift.",
    "Round 0: I cover the shift.",
    "In every round I cover the shift.",
    "Round 1: I wash the dishes.",
    "Round 1: I coverage the shift.",
    "Deal.",
    "",
    "round",
]


@pytest.mark.parametrize(("text", "choices"), ANNOUNCEMENTS)
def test_an_announcement_names_the_round_and_the_move(text, choices):
    assert read_choices(text, MOVES) == choices


@pytest.mark.parametrize("text", NO_ANNOUNCEMENTS)
def test_whatever_is_not_an_unconditional_announcement_of_ones_own_is_no_move(text):
    assert read_choices(text, MOVES) == {}


def every_pair_of_moves():
    for split in SPLITS:
        for setting in load_content("dilemma", split)["settings"]:
            yield Move(phrase=setting["cooperate"]), Move(phrase=setting["defect"])


@pytest.mark.parametrize("moves", list(every_pair_of_moves()), ids=lambda moves: moves[0].verb)
def test_every_move_of_every_scene_is_read_in_many_words(moves):
    for move, choice in zip(moves, (C, D), strict=True):
        phrase, words = move.phrase, move.phrase.split()
        for text in (
            f"Round 2: I {phrase}.",
            f"Round 2: I {words[0]}.",
            f"Round 2: I'll {' '.join(words[:-1])}.".replace(" the.", "."),
            f"I {phrase.replace(' the ', ' my ')} in round 2.",
            f"My choice for round 2 is to {phrase}.",
            f"{phrase.capitalize()} is fine with me. In round two, I choose to {phrase} again.",
        ):
            assert read_choices(text, moves) == {2: choice}, text
        for text in (f"Round 2: I don't {phrase}.", f"Round 2: you {phrase}.", f"I {phrase}."):
            assert read_choices(text, moves) == {}, text


TRANSCRIPTS = [
    (("A: Round 1: I cover.", "B: Round 1: I stay home."), "cd"),
    (("B: Round 1: I cover.", "A: Round 1: I stay home."), "dc"),
    (("A: Round 1: I cover.",), ""),
    (("A: Round 1: I cover.", "B: Deal."), ""),
    (("A: Round 1: I cover.", "B: Round 1: you cover."), ""),
    (("A: Round 1: I cover.", "B: Round 1: I cover. Round 2: I cover."), "cc"),
    (
        (
            "A: Round 1: I cover.",
            "B: Round 1: I cover. Round 2: I cover.",
            "A: Round 2: I stay home. Round 3: I stay home.",
            "B: Round 3: I stay home.",
        ),
        "cc dc dd",
    ),
    # the first choice stands
    (
        ("A: Round 1: I cover.", "A: Round 1: I stay home.", "B: Round 1: I cover."),
        "cc",
    ),
    (("A: Round 1: I cover.", "A: I changed my mind.", "B: Round 1: I cover."), "cc"),
    # what is said of later rounds is a promise
    (
        ("A: Round 2: I cover.", "A: Round 1: I cover.", "B: Round 1: I cover. Round 2: I cover."),
        "cc",
    ),
    (
        ("A: Round 1: I cover. Round 2: I cover.", "B: Round 1: I cover. Round 2: I stay home."),
        "cc",
    ),
    (("A: Round 4: I cover.", "B: Round 4: I cover."), ""),
    # what is said in the same turn is said at once
    ((("A: Round 1: I cover.", "B: Round 1: I stay home."),), "cd"),
    (
        (
            ("A: Round 1: I cover.", "B: Round 1: I cover. Round 2: I cover."),
            "A: Round 2: I stay home.",
        ),
        "cc",
    ),
]


@pytest.mark.parametrize(("lines", "played"), TRANSCRIPTS)
def test_a_round_is_played_when_both_have_moved_and_rounds_come_in_order(lines, played):
    assert rounds_of(said(*lines)) == played


@pytest.mark.parametrize("kind", ["action", "non-verbal communication"])
def test_deeds_and_gestures_are_no_moves(kind):
    events = said("A: Round 1: I cover.")
    assert rounds_of([*events, Event(2, B, Action(kind, "Round 1: I cover."))]) == ""


def test_what_the_other_does_not_hear_counts_for_nothing():
    events = said("A: Round 1: I cover.")
    whispered = Event(2, B, Action("speak", "Round 1: I cover.", ("agent_2",)))
    assert rounds_of([*events, whispered]) == ""


def test_long_hostile_texts_are_read_in_no_time():
    for text in (
        "round 1: " * 450,
        "ok, " * 1000 + "round 1: I cover",
        "since " + "a, " * 1300,
        "Round 1: I " + "gladly " * 580,
        '"' * 4096,
        "in round 1 i still now do " * 150,
    ):
        read_choices(text[:4096], MOVES)


# --- scoring ---

GAMES = {
    "prisoner": lambda t, r, p, s: t > r > p > s and 2 * r > t + s,
    "stag_hunt": lambda t, r, p, s: r > t >= p > s,
    "chicken": lambda t, r, p, s: t > r > s > p,
}


def draw(rng):
    game = rng.choice(sorted(GAMES))
    tables = []
    while len(tables) < 2:
        table = tuple(rng.randint(0, 12) for _ in range(4))
        if GAMES[game](*table):
            tables.append(table)
    count = rng.randint(1, 5)
    played = [[rng.choice([C, D]), rng.choice([C, D])] for _ in range(rng.randint(0, count))]
    return game, tables, count, played


def worth(table, sequence, me):
    """Points of one player over a whole sequence of pairs of moves."""
    t, r, p, s = table
    value = {(C, C): r, (D, D): p, (D, C): t, (C, D): s}
    return sum(value[pair[me], pair[1 - me]] for pair in sequence)


def outcome_of(played, count):
    status = "agreement" if len(played) == count else "no-agreement"
    return Outcome(family="dilemma", status=status, terms={"rounds": played} if played else {})


@lru_cache(maxsize=4096)
def every_way(tables, count):
    sequences = itertools.product(itertools.product((C, D), repeat=2), repeat=count)
    return {(worth(tables[0], q, 0), worth(tables[1], q, 1)) for q in sequences}


def test_scores_ceiling_and_pareto_optimality_match_brute_force():
    rng = random.Random(4)
    cases = [draw(rng) for _ in range(250)]
    for game, tables, count, first in cases:
        spec = DilemmaSpec(
            rounds=count,
            moves=MOVES,
            payoffs={A: payoffs(*tables[0]), B: payoffs(*tables[1])},
            game=game,
        )
        task = task_with(spec)
        ways = every_way(tuple(tables), count)
        none = [table[2] * count for table in tables]
        more = [
            [[rng.choice([C, D]), rng.choice([C, D])] for _ in range(rng.randint(0, count))]
            for _ in range(3)
        ]
        for played in (first, *more):
            scoring = FAMILY.score(task, outcome_of(played, count))
            full = [*played, *[[D, D]] * (count - len(played))]
            had = [worth(table, full, me) for me, table in enumerate(tables)]
            surplus = 0.0
            for me, agent in enumerate((A, B)):
                most = max(w[me] for w in ways)
                best = max(w[me] for w in ways if w[1 - me] >= none[1 - me])
                assert scoring.scores[agent].goal == pytest.approx(10 * had[me] / most)
                assert spec.ceiling(agent) == pytest.approx(10 * best / most)
                assert scoring.scores[agent].normalised == pytest.approx(
                    (had[me] - none[me]) / (best - none[me])
                )
                surplus += 10 * (had[me] - none[me]) / most
            assert scoring.surplus == pytest.approx(surplus)
            dominated = any(w[0] >= had[0] and w[1] >= had[1] and list(w) != had for w in ways)
            assert scoring.pareto_optimal is not dominated


def test_no_word_and_no_trust_are_both_zero_and_mutual_cooperation_is_not():
    nothing = FAMILY.score(TASK, FAMILY.read(TASK, []))
    assert nothing == FAMILY.score(TASK, outcome_of([[D, D]] * 3, 3))
    assert {score.normalised for score in nothing.scores.values()} == {0.0}
    together = FAMILY.score(TASK, outcome_of([[C, C]] * 3, 3))
    assert together.pareto_optimal
    assert together.scores[A].goal == pytest.approx(6.0)


def test_rounds_that_were_played_count_in_an_unfinished_game():
    scoring = FAMILY.score(TASK, outcome_of([[D, C]], 3))
    assert scoring.scores[A].goal == pytest.approx(10 * (5 + 1 + 1) / 15)
    assert scoring.scores[B].goal == pytest.approx(10 * (10 + 20 + 20) / 150)
    assert scoring.scores[B].normalised < 0 < scoring.scores[A].normalised


@pytest.mark.parametrize(
    ("status", "rounds"),
    [
        ("agreement", [[C, C]] * 2),
        ("agreement", [[C, C]] * 4),
        ("no-agreement", [[C, C]] * 3),
        ("agreement", [[C, C], [C, C], [C, "leave"]]),
        ("agreement", [[C, C], [C, C], [C]]),
        ("agreement", 7),
    ],
)
def test_an_impossible_game_is_worth_no_more_than_none(status, rounds):
    outcome = Outcome(family="dilemma", status=status, terms={"rounds": rounds})
    assert FAMILY.score(TASK, outcome) == FAMILY.score(TASK, FAMILY.read(TASK, []))


@pytest.mark.parametrize(
    "outcome",
    [Outcome(family="dilemma", status="unread"), Outcome(family="price", status="no-agreement")],
)
def test_what_was_not_read_by_this_family_is_refused_and_not_scored(outcome):
    with pytest.raises(ValueError, match="outcome"):
        FAMILY.score(TASK, outcome)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moves": (Move(phrase="cover it"), Move(phrase="cover nothing"))}, "different verbs"),
        ({"payoffs": {A: payoffs(5, 3, 1, 0)}}, "two agents"),
        ({"game": "chicken"}, "chicken"),
    ],
)
def test_a_spec_that_is_no_dilemma_is_refused(changes, message):
    fields = {"rounds": 3, "moves": MOVES, "payoffs": SPEC.payoffs, "game": "prisoner"} | changes
    with pytest.raises(ValueError, match=message):
        DilemmaSpec(**fields)


def test_held_out_moves_and_scenes_are_never_used_in_training():
    for field in ("id", "scene", "cooperate", "defect"):
        one, other = (
            {entry[field] for entry in load_content("dilemma", split)["settings"]}
            for split in SPLITS
        )
        assert one
        assert other
        assert not one & other


# --- playing ---


class Fixed:
    """A partner that says the same in every turn, or nothing."""

    def __init__(self, action):
        self.action = action

    def act(self, utterances, turn):
        return self.action


def script_for(task, agent, temperament, seed):
    brief = read_background(background(task, agent, max_turns=20))
    return FAMILY.script(brief, temperament, random.Random(f"{seed}-{agent}"))


def play(task, seed, **players):
    """The conversation of two players, to its end; a player is a temperament or a script."""
    players = {
        agent: script_for(task, agent, player, seed) if isinstance(player, str) else player
        for agent, player in players.items()
    }
    dialogue = Dialogue(task.agents, rng=np.random.default_rng(seed))
    while not dialogue.ending:
        heard = [
            Utterance(e.turn, task.names[e.agent], e.action.action_type, e.action.argument)
            for e in dialogue.events
        ]
        (agent,) = dialogue.acting
        dialogue.step({agent: players[agent].act(heard, dialogue.turn)})
    return dialogue


@pytest.mark.parametrize("split", SPLITS)
def test_experts_play_all_rounds_in_time(split):
    for seed in range(200):
        task = FAMILY.generate(seed, split)
        dialogue = play(task, seed, agent_0="expert", agent_1="expert")
        assert FAMILY.read(task, dialogue.events).agreed
        assert dialogue.ending == "left"
        assert dialogue.turn <= dilemma_spec(task).rounds + 3


def test_every_line_of_the_scripted_players_is_read_as_what_it_means():
    for seed, split in itertools.product(range(8), SPLITS):
        task = FAMILY.generate(seed, split)
        spec = dilemma_spec(task)
        for one, other in itertools.product(TEMPERAMENTS, repeat=2):
            dialogue = play(task, seed, agent_0=one, agent_1=other)
            made = {A: [], B: []}
            for event in dialogue.events:
                if event.action.action_type != "speak":
                    continue
                choices = read_choices(event.action.argument, spec.moves)
                # A line without a move says no phrase in the first person.
                phrases = [move.phrase for move in spec.moves]
                told = sum(
                    event.action.argument.count(f"{lead} {phrase}")
                    for lead in ("I", "I will", "I choose to", "is to")
                    for phrase in phrases
                )
                assert len(choices) == told
                for number, choice in sorted(choices.items()):
                    assert number == len(made[event.agent]) + 1
                    made[event.agent].append(choice)
            outcome = FAMILY.read(task, dialogue.events)
            assert outcome.terms["rounds"] == [list(p) for p in zip(made[A], made[B], strict=True)]
            assert outcome.agreed


def test_the_strategies_are_what_they_are_called():
    for seed in range(40):
        task = FAMILY.generate(seed)
        rounds = dilemma_spec(task).rounds
        for nice in ("fair", "generous", "firm"):
            dialogue = play(task, seed, agent_0=nice, agent_1="fair")
            assert FAMILY.read(task, dialogue.events).terms["rounds"] == [[C, C]] * rounds
        dialogue = play(task, seed, agent_0="stubborn", agent_1="stubborn")
        assert FAMILY.read(task, dialogue.events).terms["rounds"] == [[D, D]] * rounds
        played = FAMILY.read(
            task, play(task, seed, agent_0="firm", agent_1="stubborn").events
        ).terms["rounds"]
        assert all(pair == [D, D] for pair in played[1:])


@pytest.mark.parametrize("game", ["prisoner", "stag_hunt", "chicken"])
def test_an_expert_cannot_be_bullied_by_one_who_never_helps(game):
    """Against experts, to help always is worth more than never to help."""
    tasks = [t for t in map(FAMILY.generate, range(150)) if dilemma_spec(t).game == game][:20]
    worth = {C: [], D: []}
    for task, choice in itertools.product(tasks, CHOICES):
        spec = dilemma_spec(task)
        move = spec.moves[CHOICES.index(choice)].phrase
        expert = script_for(task, B, "expert", 0)
        events, heard = [], []
        for turn in range(1, 21):
            agent = (A, B)[(turn - 1) % 2]
            if agent == B:
                action = expert.act(heard, turn - 1)
            else:
                numbers = range(1, spec.rounds + 1)
                action = Action("speak", " ".join(f"Round {n}: I {move}." for n in numbers))
            events.append(Event(turn, agent, action))
            heard.append(Utterance(turn, task.names[agent], action.action_type, action.argument))
        scoring = FAMILY.score(task, FAMILY.read(task, events))
        worth[choice].append(scoring.scores[A].normalised)
    assert fmean(worth[C]) > fmean(worth[D]) + (0.1 if game == "stag_hunt" else -0.2)


def test_whoever_waits_in_the_last_round_does_not_make_the_other_go_first():
    task = next(
        t
        for t in map(FAMILY.generate, range(99))
        if f"{t.names[A]} chooses first in odd" in t.scenario.context
        and dilemma_spec(t).rounds == 3
    )
    spec = dilemma_spec(task)
    move = spec.moves[0].phrase
    script, heard = script_for(task, B, "expert", 0), []
    for turn in range(1, 21):
        if turn % 2:
            said = " ".join(f"Round {n}: I {move}." for n in (1, 2)) if turn < 6 else "Hm."
            heard.append(Utterance(turn, task.names[A], "speak", said))
        else:
            action = script.act(heard, turn - 1)
            heard.append(Utterance(turn, task.names[B], action.action_type, action.argument))
    said = [u for u in heard if u.name == task.names[B]]
    assert not any(3 in read_choices(u.argument, spec.moves) for u in said)
    assert said[-1].action_type == "leave"


def test_experts_do_at_least_as_well_as_the_fair_against_every_kind_of_partner():
    had = {(me, partner): [] for me in ("expert", "fair") for partner in TEMPERAMENTS}
    for seed in range(30):
        task = FAMILY.generate(seed)
        for (me, partner), scores in had.items():
            for agent, other in ((A, B), (B, A)):
                dialogue = play(task, seed, **{agent: me, other: partner})
                scoring = FAMILY.score(task, FAMILY.read(task, dialogue.events))
                scores.append(scoring.scores[agent].normalised)
    for partner in TEMPERAMENTS:
        assert fmean(had["expert", partner]) >= fmean(had["fair", partner]), partner
    assert fmean(fmean(had["expert", p]) for p in TEMPERAMENTS) > 0.05 + fmean(
        fmean(had["fair", p]) for p in TEMPERAMENTS
    )


@pytest.mark.parametrize("temperament", TEMPERAMENTS)
@pytest.mark.parametrize(
    "action",
    [
        Action("none"),
        Action("speak", "Deal."),
        Action("speak", "We agreed that you always help me."),
        Action("speak", "Tralala, the moon is cheese!"),
    ],
)
def test_a_partner_that_makes_no_move_gains_nothing_and_is_left(temperament, action):
    for seed, agent, other in itertools.product(range(5), *[(A, B)] * 2):
        if agent == other:
            continue
        task = FAMILY.generate(seed)
        dialogue = play(task, seed, **{agent: temperament, other: Fixed(action)})
        outcome = FAMILY.read(task, dialogue.events)
        assert outcome == Outcome(family="dilemma", status="no-agreement")
        assert {s.normalised for s in FAMILY.score(task, outcome).scores.values()} == {0.0}
        assert dialogue.ending == "left"
        assert dialogue.turn < 20


def test_a_script_is_deterministic_and_needs_a_brief_of_this_family():
    task = FAMILY.generate(3)
    again = [play(task, 3, agent_0="expert", agent_1="generous").events for _ in range(2)]
    assert again[0] == again[1]
    for name in ("price", "division"):
        for seed in range(100):
            foreign = get_family(name).generate(seed)
            brief = read_background(background(foreign, A, max_turns=20))
            assert FAMILY.script(brief, "expert", random.Random(0)) is None
            own = read_background(background(FAMILY.generate(seed), A, max_turns=20))
            assert get_family(name).script(own, "expert", random.Random(0)) is None
    assert FAMILY.script(Brief("Ana", ("Ben",), "", "", 20), "fair", random.Random(0)) is None
