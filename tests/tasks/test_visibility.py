"""Who sees which part of a text, and what is malformed."""

from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_gym.errors import TagError
from sotopia_gym.tasks.visibility import ENVIRONMENT, TAGS, check, close_tags, render

VIEWERS = ("agent_0", "agent_1", "agent_12", ENVIRONMENT)


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("tag", TAGS)
def test_without_viewer_a_tag_hides_nothing(tag, viewer):
    assert render(f"Sell it (<{tag}>for 5 or more</{tag}>).", viewer) == "Sell it (for 5 or more)."


@pytest.mark.parametrize("tag", TAGS)
def test_every_tag_may_name_its_viewer(tag):
    text = f"Before <{tag} viewer='agent_1'>only one</{tag}> after"
    assert render(text, "agent_1") == "Before only one after"
    assert render(text, ENVIRONMENT) == "Before only one after"
    assert render(text, "agent_0") == "Before  after"
    assert render(text, "agent_12") == "Before  after"


@pytest.mark.parametrize("quote", ["'", '"'])
def test_environment_text_is_for_the_environment_only(quote):
    text = f"A party. <p viewer={quote}environment{quote}>They both know Ann.</p>"
    assert render(text, ENVIRONMENT) == "A party. They both know Ann."
    assert [render(text, viewer) for viewer in VIEWERS[:3]] == ["A party."] * 3


def test_inner_tags_never_show_more_than_outer_ones():
    text = (
        "<p viewer='agent_0'>a<p viewer='agent_1'>b</p><extra_info>c"
        "<p viewer='environment'>d</p></extra_info></p>e"
    )
    assert render(text, ENVIRONMENT) == "abcde"
    assert render(text, "agent_0") == "ace"
    assert render(text, "agent_1") == "e"


def test_no_agent_is_taken_for_another_with_a_longer_number():
    text = "<p viewer='agent_1'>one</p><p viewer='agent_12'>twelve</p>"
    assert render(text, "agent_1") == "one"
    assert render(text, "agent_12") == "twelve"


def test_space_in_a_tag_and_line_ends_in_its_content():
    text = "x<p \n viewer='agent_0' >a\nb</p >y"
    assert render(text, "agent_0") == "xa\nby"
    assert render(text, "agent_1") == "xy"


@pytest.mark.parametrize(
    "text",
    [
        "I <3 you",
        "a < b",
        "a < b > c",
        "1 <2",
        "p < 0.05",
        "x<",
        "<",
        "<>",
        "<<3>>",
        "a > b",
        "5 <= 6 >= 4",
        "<!-- no comment -->",
        "<- look, <= here",
        "extra_info> and /p>",
        "AT&T &lt;p&gt;",
    ],
)
def test_a_lone_angle_is_text(text):
    assert [render(text, viewer) for viewer in VIEWERS] == [text] * 4
    assert render(f"{text}<p>.</p>", "agent_0") == f"{text}."
    assert close_tags(text) == (text, ())
    check(text, where="here")


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("ab<p>c", 2, "<p> at character 2 is never closed"),
        ("<extra_info>a<p>b</p>", 0, "<extra_info> at character 0 is never closed"),
        ("ab</p>", 2, "</p> closes nothing: no tag is open"),
        ("<p>a</extra_info>", 4, "</extra_info> closes nothing: <p> is open"),
        ("<extra_info><p>a</extra_info></p>", 16, "</extra_info> closes nothing: <p> is open"),
        ("a <b>c</b>", 2, "malformed or unknown tag '<b>'"),
        ("a <b", 2, "malformed or unknown tag '<b'"),
        ("<P>a</P>", 0, "malformed or unknown tag '<P>'"),
        ("<p>a</P>", 4, "malformed or unknown tag '</P>'"),
        ("<p/>a", 0, "malformed or unknown tag '<p/>'"),
        ("<p viewer='agent_0'/>a", 0, "malformed or unknown tag"),
        ("a</>", 1, "malformed or unknown tag '</>'"),
        ("</ p>", 0, "malformed or unknown tag '</ p>'"),
        ("<p>a</3", 4, "malformed or unknown tag '</3'"),
        ("<p viewer=agent_0>a</p>", 0, "malformed or unknown tag"),
        ("<p viewer = 'agent_0'>a</p>", 0, "malformed or unknown tag"),
        ("<p viewer='agent_0\">a</p>", 0, "malformed or unknown tag"),
        ("<p viewer=\u201cagent_0\u201d>a</p>", 0, "malformed or unknown tag"),
        ("<p view='agent_0'>a</p>", 0, "malformed or unknown tag"),
        ("<p viewer='agent_0' viewer='agent_1'>a</p>", 0, "malformed or unknown tag"),
        ("<pviewer='agent_0'>a</p>", 0, "malformed or unknown tag"),
        ("<p viewer='agent_0'a</p>", 0, "malformed or unknown tag"),
        ("<p>a</p viewer='agent_0'>", 4, "malformed or unknown tag"),
        ("<p viewer='agent_0", 0, "malformed or unknown tag"),
        ("<p viewer='agent_x'>a</p>", 0, "unknown viewer 'agent_x'"),
        ("<p viewer='Environment'>a</p>", 0, "unknown viewer 'Environment'"),
        ("<p viewer='environment '>a</p>", 0, "unknown viewer 'environment '"),
        ("<p viewer=''>a</p>", 0, "unknown viewer ''"),
        ("<p viewer='agent_0, agent_1'>a</p>", 0, "unknown viewer 'agent_0, agent_1'"),
        ("<p viewer='environment'><p viewer='x'>a</p></p>", 24, "unknown viewer 'x'"),
        ("a < p viewer='environment'>b", 2, "malformed or unknown tag"),
        ("<\textra_info>a", 0, "malformed or unknown tag"),
        ("< /p>", 0, "malformed or unknown tag '< /p>'"),
    ],
)
def test_malformed_tags_are_errors_that_name_the_place(text, place, problem):
    for viewer in VIEWERS:  # also for those who would not see it
        with pytest.raises(TagError) as raised:
            render(text, viewer, where="goal of agent_7")
        message = str(raised.value)
        assert message.startswith("goal of agent_7: ")
        assert problem in message
        assert f"at character {place}" in message
        assert repr(text[place : place + 5])[1:-1].strip("'\"\\") in message
    with pytest.raises(TagError, match=r"^the scene: "):
        check(text, where="the scene")


def test_unknown_tags_are_answered_with_the_known_ones():
    with pytest.raises(TagError) as raised:
        render("<hint>a</hint>", "agent_0")
    assert all(f"<{tag}>" in str(raised.value) for tag in TAGS)


# --- close_tags ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mended", "names"),
    [
        ("a <p>b", "a <p>b</p>", ("p",)),
        ("a (<extra_info>b)", "a (<extra_info>b</extra_info>)", ("extra_info",)),
        (
            "(<extra_info>a <strategy_hint>b)",
            "(<extra_info>a <strategy_hint>b</strategy_hint></extra_info>)",
            ("strategy_hint", "extra_info"),
        ),
        ("<p>a</p> <p viewer='agent_0'>b", "<p>a</p> <p viewer='agent_0'>b</p>", ("p",)),
    ],
)
def test_open_tags_are_closed(text, mended, names):
    assert close_tags(text) == (mended, names)
    check(mended, where="mended")


@pytest.mark.parametrize(
    "text",
    ["", "plain", "<p>a</p>", "<p>a</extra_info>", "a</p>", "<p>a<b c>", "<p>a <p", "</p><p>a"],
)
def test_what_else_is_wrong_is_left_as_it_is(text):
    assert close_tags(text) == (text, ())


# --- against a reference, written with XML ------------------------------------------------------

_CHARACTERS = st.characters(exclude_characters="<", exclude_categories=("Cs", "Cc", "Cn"))
_WORDS = st.lists(
    st.text(_CHARACTERS, max_size=8)
    | st.sampled_from(["<3", " a < b ", "<1>", "\n", " ", "&amp;", "1 <= 2", "p>", "agent_0", ")"]),
    max_size=3,
).map("".join)
_VIEWER = st.none() | st.sampled_from(VIEWERS)
# A node is a text, or a tag's name, viewer, quotation mark and content.
_NODES = st.recursive(
    st.lists(_WORDS, max_size=2),
    lambda nodes: st.lists(
        _WORDS | st.tuples(st.sampled_from(TAGS), _VIEWER, st.sampled_from("'\""), nodes),
        max_size=4,
    ),
    max_leaves=12,
)


def written(nodes):
    """The nodes in SOTOPIA's notation."""
    parts = []
    for node in nodes:
        if isinstance(node, str):
            parts.append(node)
        else:
            name, viewer, quote, content = node
            attribute = "" if viewer is None else f" viewer={quote}{viewer}{quote}"
            parts.append(f"<{name}{attribute}>{written(content)}</{name}>")
    return "".join(parts)


def as_xml(nodes):
    parts = []
    for node in nodes:
        if isinstance(node, str):
            parts.append(escape(node))
        else:
            name, viewer, _, content = node
            attribute = "" if viewer is None else f" viewer={quoteattr(viewer)}"
            parts.append(f"<{name}{attribute}>{as_xml(content)}</{name}>")
    return "".join(parts)


def reference(element, viewer):
    """What the viewer sees of an XML element."""
    allowed = {None, viewer}
    if viewer != "environment" and element.get("viewer") not in allowed:
        return ""
    inner = (reference(child, viewer) + (child.tail or "") for child in element)
    return (element.text or "") + "".join(inner)


@given(_NODES)
def test_rendering_equals_the_reference(nodes):
    root = ElementTree.fromstring(f"<all>{as_xml(nodes)}</all>")
    text = written(nodes)
    check(text, where="text")
    for viewer in VIEWERS:
        expected = reference(root, viewer)
        assert render(text, viewer) == (expected.strip() if "<" in text else expected)


@given(_NODES, st.lists(st.tuples(st.sampled_from(TAGS), _VIEWER, _WORDS), max_size=3))
def test_closing_makes_well_formed_and_changes_nothing_else(nodes, open_tags):
    whole = written(nodes)
    start = whole + "".join(
        f"<{name}{'' if viewer is None else f' viewer={viewer!r}'}>{words}"
        for name, viewer, words in open_tags
    )
    mended, names = close_tags(start)
    assert names == tuple(name for name, _, _ in reversed(open_tags))
    assert close_tags(mended) == (mended, ())
    shown = render(whole, ENVIRONMENT) if "<" in whole else whole
    content = render(mended, ENVIRONMENT)
    for part in (shown, *(words for _, _, words in open_tags)):
        assert part.strip().strip(")").strip() in content


_PIECES = st.sampled_from(
    [
        "<",
        ">",
        "</",
        "/",
        "p",
        "<p>",
        "</p>",
        " viewer=",
        "'",
        "agent_0",
        "environment",
        " ",
        "extra",
    ]
)


@given(st.lists(_PIECES, max_size=15).map("".join))
def test_any_text_is_rendered_or_refused(text):
    try:
        check(text, where="text")
    except TagError:
        for viewer in VIEWERS:
            with pytest.raises(TagError):
                render(text, viewer)
    else:
        for viewer in VIEWERS:
            render(text, viewer)
        assert close_tags(text) == (text, ())
