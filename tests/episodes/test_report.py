"""The report as a file: what it holds, and that nothing in it can be more than text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from eval.red_team import load
from sotopia_gym import Action, SocialEnv, play
from sotopia_gym.cli import app
from sotopia_gym.envs.dialogue import Event
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.report import write_report
from sotopia_gym.episodes.schema import DimensionScore, Judgement, Usage
from sotopia_gym.errors import JournalError, UnknownIdError
from sotopia_gym.stats import mean_interval

MARKUP = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "</style><style>*{display:none}</style>",
    "]]></title><h1>x",
    "javascript:alert(1)",
    "&lt;b&gt; &amp; {{policy}} <!--data-->",
    "a\u2028b\u2029c\u202ed\x00\x1b[2Je\u200bf",
    '"><iframe srcdoc="<p>x">',
)


def some_episodes(count=6):
    """Episodes of scripts, one after the other."""
    env = SocialEnv("starter", split="heldout", judge="outcome", max_turns=12)
    casts = [("scripted/expert", "scripted/fair"), ("scripted/stubborn", "scripted/expert")]
    return [
        play(env, dict(zip(env.possible_agents, casts[n % 2], strict=True)), seed=n)
        for n in range(count)
    ]


STATES = ("failed", "interrupted", "unscored", "unjudged", "scored")
PLAIN = some_episodes()
HOSTILE = [*MARKUP, *(attack.text(PLAIN[0], "agent_0") for attack in load())]


def hostile_episode(episode=PLAIN[0], texts=HOSTILE):
    """``episode`` with hostile text wherever others may write."""
    task = episode.task
    first, second = (texts * 2)[:2]
    people = tuple(
        person.model_copy(update={"secret": first, "public_info": second, "occupation": first})
        for person in task.characters
    )
    # As if it came from elsewhere: tags in it are checked when a scenario is built.
    scenario = task.scenario.model_copy(update={"codename": first, "source": second})
    judged = [
        Judgement(
            judge=text,
            scores={"agent_0": {"goal": DimensionScore(score=3, reasoning=text), text: _one(text)}},
            models=(text,),
            prompt=text,
        )
        for text in texts[:8]
    ]
    return episode.model_copy(
        update={
            "task": task.model_copy(
                update={"task_id": first, "characters": people, "scenario": scenario}
            ),
            "key": first,
            "events": tuple(
                Event(n, f"agent_{n % 2}", Action("speak", text), note=text)
                for n, text in enumerate(texts, start=1)
            ),
            "agents": {"agent_0": first, "agent_1": second},
            "judgements": (*judged, Judgement(judge=second, error="; ".join(texts[:10]))),
            "extra": {text: text for text in texts},
        }
    )


def _one(text):
    return DimensionScore(score=1, reasoning=text)


class Reader(HTMLParser):
    """The elements of a page, and the data that its script elements hold."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.data, self.code = [], {}, []
        self._inside = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = (tag, dict(attrs))

    def handle_data(self, data):
        tag, attributes = self._inside or ("", {})
        if tag == "script" and attributes.get("type") == "application/json":
            self.data[attributes["id"]] = json.loads(data)
        elif tag in ("script", "style"):
            self.code.append((tag, data))

    def handle_endtag(self, tag):
        self._inside = None

    @property
    def policy(self):
        (policy,) = [a["content"] for _, a in self.elements if "http-equiv" in a]
        return policy


def report(tmp_path, episodes, **kwargs):
    path = tmp_path / "report.html"
    assert write_report(iter(episodes), path, **kwargs) == len(episodes)
    return Reader(path.read_bytes().decode())


def skeleton(page):
    """The elements, but for those that hold an episode."""
    return [
        (tag, attributes)
        for tag, attributes in page.elements
        if not attributes.get("id", "").startswith("episode-") and "http-equiv" not in attributes
    ]


def test_the_page_allows_itself_its_own_style_and_script_only(tmp_path):
    page = report(tmp_path, PLAIN)
    hashes = {
        tag: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for tag, text in page.code
    }
    assert len(page.code) == 2
    directives = dict(part.strip().partition(" ")[::2] for part in page.policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["style-src"] == f"'sha256-{hashes['style']}'"
    assert directives["script-src"] == f"'sha256-{hashes['script']}'"
    assert directives["require-trusted-types-for"] == "'script'"
    assert not any({"src", "style", "onclick"} & a.keys() for _, a in page.elements)
    assert [a["href"] for _, a in page.elements if "href" in a] == ["#main"]
    code = dict(page.code)["script"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch", code)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import", str(page.code))


def test_hostile_text_is_data_and_comes_back_as_it_was(tmp_path):
    calm = report(tmp_path, PLAIN[:1], title="x")
    episode = hostile_episode()
    page = report(tmp_path, [episode], title="x")
    assert skeleton(page) == skeleton(calm)
    assert page.code == calm.code
    assert page.policy == calm.policy
    raw = (tmp_path / "report.html").read_text(encoding="utf-8")
    for element in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', raw):
        assert not set("<>&\u2028\u2029\x00\x1b") & set(element)
    shown = page.data["episode-0"]
    assert [event["text"] for event in shown["events"]] == HOSTILE
    assert [event["note"] for event in shown["events"]] == HOSTILE
    assert set(shown["extra"]) == set(HOSTILE)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_title_is_text_too(tmp_path, text):
    calm = report(tmp_path, PLAIN[:1])
    page = report(tmp_path, PLAIN[:1], title=text)
    assert skeleton(page) == skeleton(calm)
    assert page.code == calm.code
    assert page.policy == calm.policy
    assert page.data["summary"]["title"] == text


def test_a_title_that_is_no_utf8_is_kept(tmp_path):
    assert report(tmp_path, PLAIN[:1], title="a\udc80").data["summary"]["title"] == "a\udc80"


def test_numbers_that_json_does_not_have_break_nothing(tmp_path):
    odd = PLAIN[0].model_copy(update={"extra": {"loss": float("nan"), "round": float("inf")}})
    assert report(tmp_path, [odd]).data["episode-0"]["extra"] == {"loss": None, "round": None}


def test_what_has_no_result_is_counted_and_says_why(tmp_path):
    failed = PLAIN[0].model_copy(
        update={"ending": "failed", "error": "ModelError: no answer", "judgements": ()}
    )
    stopped = PLAIN[1].model_copy(update={"ending": "interrupted", "judgements": ()})
    unscored = PLAIN[2].with_judgement(Judgement(judge="strict", error="unreadable"))
    unjudged = PLAIN[3].model_copy(update={"judgements": ()})
    found = report(tmp_path, [failed, stopped, unscored, unjudged, PLAIN[4]]).data["summary"]
    assert found["states"] == dict.fromkeys(STATES, 1)
    assert found["causes"] == {
        "failed": [["ModelError: no answer", 1]],
        "interrupted": [["no cause recorded", 1]],
        "unscored": [["unreadable", 1]],
    }
    assert [row["state"] for row in found["rows"]] == list(STATES)
    assert found["rows"][2]["error"] == "unreadable"
    # What was not played to its end counts nowhere.
    assert sum(row["values"]["turns"][3] for row in found["talk"] if row["role"] == "agent_0") == 3


def test_means_and_intervals_are_those_of_the_episodes(tmp_path):
    found = report(tmp_path, PLAIN, limit=2).data["summary"]
    assert (found["episodes"], len(found["rows"])) == (6, 2)
    (judge,) = found["judges"]
    rows = {(row["player"], row["role"]): row["values"] for row in judge["table"]}
    both = [
        (e.judgement.goal(a), e.task.scenario.scenario_id)
        for a in ("agent_0", "agent_1")
        for e in PLAIN
        if e.agents[a] == "scripted/expert"
    ]
    mean, low, high, count = rows["scripted/expert", "all roles"]["goal"]
    expected = mean_interval([g for g, _ in both], [s for _, s in both], resamples=1000)
    assert (mean, low, high, count) == (expected.mean, expected.low, expected.high, 6)
    fair = [e.judgement.outcome.agreed for e in PLAIN if e.agents["agent_1"] == "scripted/fair"]
    assert rows["scripted/fair", "agent_1"]["agreed"][0] == sum(fair) / len(fair)
    bins = {player["player"]: player["bins"] for player in judge["players"]}
    assert sum(bins["scripted/expert"]) == 6


def test_a_learning_curve_goes_over_rounds_where_there_are_any(tmp_path):
    rounds = [
        e.model_copy(update={"extra": {"round": n // 2}}) for n, e in enumerate(PLAIN, start=0)
    ]
    (judge,) = report(tmp_path, rounds).data["summary"]["judges"]
    curve = {p["player"]: p["curve"] for p in judge["players"]}["scripted/expert"]
    assert curve["by"] == "round"
    assert [(x, n) for x, *_, n in curve["points"]] == [(0, 2), (1, 2), (2, 2)]
    (judge,) = report(tmp_path, PLAIN).data["summary"]["judges"]
    assert all(player["curve"] is None for player in judge["players"])
    (judge,) = report(tmp_path, PLAIN * 10).data["summary"]["judges"]
    curve = {p["player"]: p["curve"] for p in judge["players"]}["scripted/expert"]
    assert [x for x, *_ in curve["points"]] == [10, 20, 30, 40, 50, 60]


def test_each_view_holds_what_that_character_knows_and_hears(tmp_path):
    whisper = Event(1, "agent_0", Action("speak", "Between us.", ("agent_0",)))
    episode = PLAIN[0].model_copy(update={"events": (whisper, *PLAIN[0].events)})
    found = report(tmp_path, [episode]).data["episode-0"]
    assert found["events"][0]["seen"] == ["agent_0"]
    assert found["events"][1]["seen"] == ["agent_0", "agent_1"]
    mine, theirs = (" ".join(found["views"][a]) for a in ("agent_0", "agent_1"))
    assert episode.task.goal("agent_0") in mine
    assert episode.task.goal("agent_0") not in theirs


def test_the_same_key_twice_is_two_episodes(tmp_path):
    twice = [PLAIN[0].model_copy(update={"key": "k"})] * 2
    assert [r["key"] for r in report(tmp_path, twice).data["summary"]["rows"]] == ["k", "k~2"]


def test_costs_are_of_playing_and_judging(tmp_path):
    used = Usage(requests=1, prompt_tokens=10, completion_tokens=5, cost=0.5)
    judged = PLAIN[0].judgement.model_copy(update={"usage": used})
    episode = PLAIN[0].model_copy(update={"usage": {"agent_0": used}, "judgements": (judged,)})
    found = report(tmp_path, [episode, episode]).data["summary"]["usage"]
    assert found == {"requests": 4, "tokens": 60, "cost": 2.0}


def test_without_episodes_there_is_no_report_and_what_was_there_stays(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    with pytest.raises(JournalError, match="at least one episode"):
        write_report([], path)
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_all_real_records_can_be_reported(tmp_path, data):
    from sotopia_gym.episodes.importers import import_episodes

    episodes = import_episodes([data / "episodes" / "release_schema_20.jsonl"]).episodes
    page = report(tmp_path, episodes)
    (judge,) = page.data["summary"]["judges"]
    assert "overall" in judge["table"][0]["values"]
    assert len(page.data) == 21


# --- the command line -------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "played.jsonl"
    for episode in PLAIN:
        Journal(path).append(episode)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False).stdout


def test_a_report_from_the_command_line(tmp_path, journal):
    out = tmp_path / "out" / "r.html"
    assert "12 episodes; 9 of them only counted" in run(
        "report", journal, journal, "--out", out, "--limit", "3"
    )
    found = Reader(out.read_text(encoding="utf-8")).data
    assert found["summary"]["title"] == "played.jsonl, played.jsonl"
    assert len(found) == 4


def test_a_report_never_replaces_the_episodes_it_is_made_of(journal):
    before = journal.read_bytes()
    with pytest.raises(ValueError, match="choose another file"):
        run("report", journal, "--out", journal)
    assert journal.read_bytes() == before


def test_a_replay_shows_every_turn_and_the_scores(journal):
    shown = run("replay", journal, "1")
    assert [line for line in shown.splitlines() if line.startswith("Turn ")] == [
        line for line in run("episodes", "show", journal, "1").splitlines() if "Turn " in line
    ]
    assert f"Ending: {PLAIN[0].ending}" in shown
    assert "Judge: outcome" in shown
    assert shown.count(" wants: ") == 2


def test_a_replay_as_one_of_them_hides_what_that_one_does_not_know(tmp_path):
    path = tmp_path / "hostile.jsonl"
    whisper = Event(1, "agent_0", Action("speak", "Between us.", ("agent_0",)))
    Journal(path).append(PLAIN[0].model_copy(update={"events": (whisper, *PLAIN[0].events)}))
    mine, theirs = (run("replay", path, "1", "--as", a) for a in ("agent_0", "agent_1"))
    assert "Between us." in mine
    assert "Between us." not in theirs
    assert "Your goal (private)" in theirs
    with pytest.raises(UnknownIdError, match="agent_1"):
        run("replay", path, "1", "--as", "agent_9")


def test_a_replay_prints_nothing_that_a_terminal_would_obey(tmp_path):
    path = tmp_path / "hostile.jsonl"
    Journal(path).append(hostile_episode())
    for viewer in ("everything", "agent_0"):
        shown = run("replay", path, "1", "--as", viewer)
        assert all(c.isprintable() or c == "\n" for c in shown)
