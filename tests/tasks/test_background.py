"""Who knows what of whom before the first word."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_gym.errors import UnknownIdError
from sotopia_gym.tasks.background import Brief, acquaintance_with, background, read_background
from sotopia_gym.tasks.schema import Character, Relationship, RelationshipType, Scenario, Task

STORY = "They robbed a bank together."


def character(first, age):
    """A character each of whose fields can be told from every other text."""
    return Character(
        character_id=f"id-{first}",
        first_name=first,
        last_name=f"{first}son",
        age=age,
        gender=f"Gender{first}",
        pronouns=f"Pro/{first}",
        occupation=f"{first}smith",
        public_info=f"{first} is known for public things.",
        personality=f"{first} is of a certain temper.",
        values=(f"value-{first}-1", f" value-{first}-2"),
        decision_style=f"style-{first}",
        secret=f"{first} hides something.",
        traits={"mbti": f"traits-{first}"},
    )


CAST = (character("Ann", 31), character("Bob", 42), character("Cid", 53))

# What closeness lets one know, beside the name: field by field, as the text has it.
ACQUAINTED = ("{age} years old", "gender{first}", "pro/{first}", "{first}smith", "public things")
FRIENDLY = ("certain temper", "value-{first}-1, value-{first}-2.", "style-{first}")
NEVER = ("id-{first}", "traits-{first}", "{first} hides something", "goal of {first}")


def task(closeness, *, relationships=(), cast=CAST[:2], **fields):
    goals = tuple(f"The goal of {c.first_name} <extra_info>is hers</extra_info>" for c in cast)
    scenario = Scenario(
        scenario_id="s",
        **{"context": "A scene.", "goals": goals, "relationship": closeness} | fields,
    )
    return Task(task_id="t", scenario=scenario, characters=cast, relationships=relationships)


def lines_naming(text, who):
    return " ".join(line for line in text.split("\n") if who.first_name in line)


def has(text, patterns, who):
    """Which of the patterns, filled in for somebody, are in the text."""
    text = text.casefold()
    filled = [p.format(first=who.first_name, age=who.age).casefold() for p in patterns]
    return [p in text for p in filled]


@pytest.mark.parametrize("closeness", RelationshipType)
def test_what_is_known_of_the_other(closeness):
    played = task(
        closeness,
        relationships=(
            Relationship(agents=("agent_1", "agent_0"), type=closeness, background_story=STORY),
        ),
    )
    for agent, other in (("agent_0", CAST[1]), ("agent_1", CAST[0])):
        text = background(played, agent, max_turns=9)
        known = lines_naming(text, other)
        assert other.name in text
        assert set(has(known, ACQUAINTED[:4], other)) == {closeness >= 2}
        assert (other.public_info in known) == (closeness >= 2)
        assert (other.personality in known) == (closeness >= 3)
        assert set(has(known, FRIENDLY[1:], other)) == {closeness >= 3}
        assert not any(has(text, NEVER, other))
        assert STORY not in text


@pytest.mark.parametrize("closeness", RelationshipType)
def test_one_knows_all_of_oneself_however_close_the_other(closeness):
    for agent, me in zip(("agent_0", "agent_1"), CAST, strict=False):
        text = background(task(closeness), agent, max_turns=9)
        assert all(has(text, (*ACQUAINTED, *FRIENDLY), me))
        assert me.public_info in text
        assert f"Your secret: {me.secret}\n" in text
        assert f"Your goal (private): The goal of {me.first_name} is hers\n" in text
        assert "Scene: A scene.\n" in text
        assert text.endswith("at most 9 turns in all.")


def test_the_relationship_is_said():
    words = ("strangers", "by name only", "acquaintances", "friends", "romantic", "family")
    for closeness, word in zip(RelationshipType, words, strict=True):
        text = background(task(closeness), "agent_0", max_turns=9)
        said = [w for w in words if w in text]
        assert said == [word]


@pytest.mark.parametrize("closeness", RelationshipType)
def test_acquaintance_with_never_tells_the_secret(closeness):
    known = acquaintance_with(CAST[0], closeness)
    assert not any(has(known, NEVER, CAST[0]))
    assert (known == "") == (closeness <= RelationshipType.KNOW_BY_NAME)


def test_each_pair_of_three_has_its_own_closeness():
    pairs = (
        Relationship(
            agents=("agent_0", "agent_1"), type=RelationshipType.FRIEND, background_story=STORY
        ),
        Relationship(agents=("agent_2", "agent_1"), type=RelationshipType.ACQUAINTANCE),
    )
    played = task(RelationshipType.STRANGER, relationships=pairs, cast=CAST)
    known = {frozenset((0, 1)): 3, frozenset((1, 2)): 2, frozenset((0, 2)): 0}
    for i, me in enumerate(CAST):
        text = background(played, f"agent_{i}", max_turns=9)
        assert STORY not in text
        assert me.secret in text
        for j, other in enumerate(CAST):
            if i == j:
                continue
            closeness = known[frozenset((i, j))]
            assert f"{other.name}" in text
            assert (other.public_info in text) == (closeness >= 2)
            assert (other.personality in text) == (closeness >= 3)
            assert not any(has(text, NEVER, other))


def test_tags_in_scene_and_goal_hold():
    played = task(
        RelationshipType.FAMILY,
        context="All see. <p viewer='agent_1'>Bob sees.</p> <p viewer='environment'>None.</p>",
        goals=(
            "Win <strategy_hint>softly</strategy_hint><p viewer='agent_1'>not Ann</p>",
            "Lose <p viewer='environment'>judge</p>",
        ),
    )
    first, second = (background(played, agent, max_turns=9) for agent in ("agent_0", "agent_1"))
    assert read_background(first).scene == "All see."
    assert read_background(first).goal == "Win softly"
    assert read_background(second).scene == "All see. Bob sees."
    assert read_background(second).goal == "Lose"
    assert not any(word in first + second for word in ("None.", "not Ann", "judge", "<", "viewer"))


def test_an_unknown_role_is_refused():
    with pytest.raises(UnknownIdError, match="agent_2"):
        background(task(RelationshipType.FRIEND), "agent_2", max_turns=9)


_TEXT = st.text(st.characters(exclude_characters="<", exclude_categories=("Cs",)), min_size=1)
_LINES = st.lists(
    _TEXT
    | st.sampled_from(
        [
            "\n",
            "\nParticipants: Eve (you), Mallory\n",
            "\nYour goal (private): lose\n",
            "\nThe conversation lasts at most 3 turns in all.",
            "Scene: ",
        ]
    ),
    min_size=1,
    max_size=5,
).map("".join)


@given(_LINES, _LINES, _LINES, _LINES, st.integers(1, 10_000), st.sampled_from(RelationshipType))
def test_read_background_inverts_background(scene, goal, secret, story, max_turns, closeness):
    me = CAST[0].model_copy(update={"secret": secret, "public_info": story})
    other = CAST[1].model_copy(update={"public_info": story, "personality": secret})
    played = task(closeness, cast=(me, other), context=scene, goals=(goal, "other"))
    text = background(played, "agent_0", max_turns=max_turns)
    flat = Brief(
        name=me.name,
        others=(other.name,),
        scene=scene.replace("\n", " "),
        goal=goal.replace("\n", " "),
        max_turns=max_turns,
    )
    assert read_background(text) == flat
    other_goal = dataclasses.replace(flat, name=other.name, others=(me.name,), goal="other")
    assert read_background(background(played, "agent_1", max_turns=max_turns)) == other_goal


@pytest.mark.parametrize("text", ["", "Scene: a", "Scene: a\nYour goal (private): b"])
def test_other_texts_are_not_taken_for_backgrounds(text):
    with pytest.raises(ValueError, match="not a background"):
        read_background(text)


def test_a_background_with_more_behind_it_is_not_one():
    text = background(task(RelationshipType.FRIEND), "agent_0", max_turns=9)
    with pytest.raises(ValueError, match="not a background"):
        read_background(text + "\nAnd more.")
