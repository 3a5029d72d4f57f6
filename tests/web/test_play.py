"""Playing a role over HTTP: what a person sees, what is kept, and several at a time."""

import asyncio
import re
import threading
from contextlib import contextmanager
from html import unescape

import pytest
from starlette.testclient import TestClient

from sotopia_gym import Action, Agent, load_suite
from sotopia_gym.agents import from_spec
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.errors import ModelError
from sotopia_gym.judges import Judge, OutcomeJudge
from sotopia_gym.web import live
from sotopia_gym.web.games import GameStore
from sotopia_gym.web.http import Visitors
from sotopia_gym.web.live import Lobby, Setting
from sotopia_gym.web.play import play_app
from tests.episodes.test_report import MARKUP

TASK = "price-v1-heldout-0"


class Slow(Agent):
    """Answers when it is allowed to."""

    name = "slow"

    def __init__(self):
        self.allowed = threading.Event()

    def act(self, observation):
        self.allowed.wait(60)
        return Action("speak", "At last.")


class Broken(Agent):
    name = "broken"

    def act(self, observation):
        raise ModelError("the key sk-123 is wrong")


class BrokenJudge(Judge):
    name = "broken"

    def judge(self, episode):
        raise RuntimeError("the judge is out")


@contextmanager
def serving(path, partner="scripted/fair", judge=None, restricted=False, **fields):
    """The app as it runs, with its journal and store."""
    setting = Setting(
        suite=load_suite("starter"),
        role=fields.pop("role", "agent_0"),
        partner=from_spec(partner),
        judge=judge or OutcomeJudge(),
        task=fields.pop("task", TASK),
        **fields,
    )
    store = GameStore(path / "games.db")
    lobby = Lobby(setting, store, Journal(path / "played.jsonl"))
    app = play_app(lobby, Visitors(store.database, restricted=restricted))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def played(path):
    return list(Journal(path / "played.jsonl"))


class Player:
    """Somebody with a browser of their own."""

    def __init__(self, client):
        self._client, self.cookies = client, {}

    def _ask(self, method, path, **kwargs):
        self._client.cookies.clear()
        self._client.cookies.update(self.cookies)
        answer = self._client.request(method, path, **kwargs)
        self.cookies = dict(self._client.cookies)
        return answer

    def get(self, path="/play"):
        return self._ask("GET", path)

    def post(self, path, **values):
        token = re.search(r'name="csrf" value="(\w+)"', self.get().text)
        return self._ask("POST", path, data={"csrf": token[1] if token else "", **values})

    def begin(self):
        self.post("/begin")
        return self.settled()

    def settled(self):
        """The page once the person may act, or once it is over."""
        while state := re.search(r'data-state="([^"]+)"', page := self.get().text):
            self.get(state[1])
        return page

    @property
    def turn(self):
        match = re.search(r'name="turn" value="(\d+)"', self.get().text)
        return match and match[1]

    def send(self, text="", kind="speak", **values):
        return self.post("/act", **{"turn": self.turn, "kind": kind, "text": text, **values})

    def act(self, text="", kind="speak", **values):
        self.send(text, kind, **values)
        return self.settled()


def test_a_person_plays_to_the_end_and_reads_how_it_went(tmp_path):
    with serving(tmp_path, seed=1) as client:
        player = Player(client)
        assert "Begin, or go on" in player.get("/").text
        page = unescape(player.begin())
        task = load_suite("starter")[TASK]
        assert task.goal("agent_0") in page
        assert task.goal("agent_1") not in page
        assert "scripted" not in page
        page = player.act("Hello! What would you pay?")
        assert page.count('<p class="said"') == 2
        end = unescape(player.act(kind="leave"))
        assert "The conversation is over" in end
        assert re.search(r"Your goal score: <b>\d+\.\d</b> of 10", end)
        assert task.goal("agent_1") in end
        assert "Play another" in end
    (episode,) = played(tmp_path)
    assert episode.agents == {"agent_0": "human", "agent_1": "scripted/fair"}
    assert episode.events[0].action == Action("speak", "Hello! What would you pay?")
    assert episode.ending == "left"
    assert episode.judgement.goal("agent_0") is not None
    assert episode.extra["person"].startswith("p")
    assert "resumed" not in episode.extra


def test_the_partner_may_begin(tmp_path):
    with serving(tmp_path, role="agent_1") as client:
        player = Player(client)
        player.begin()
        assert player.turn == "1"
        player.act("Deal.")
        player.act(kind="leave")
    (episode,) = played(tmp_path)
    assert episode.agents["agent_1"] == "human"


def test_several_play_at_once_each_their_own(tmp_path):
    with serving(tmp_path, task=None, seed=3) as client:
        players = [Player(client) for _ in range(4)]
        for player in players:
            player.begin()
        for number, player in enumerate(players):
            player.act(f"I am number {number}.")
        for number, player in enumerate(players):
            page = player.get().text
            assert [n for n in range(4) if f"I am number {n}." in page] == [number]
        for player in players:
            player.act(kind="leave")
    episodes = played(tmp_path)
    assert len({episode.extra["person"] for episode in episodes}) == 4
    assert len({episode.task.task_id for episode in episodes}) > 1


def test_while_the_partner_thinks_the_page_says_so_and_looks_again(tmp_path):
    partner = Slow()
    with serving(tmp_path, partner) as client:
        player = Player(client)
        player.begin()
        page = player.send("Hello?").text
        assert "thinking" in page
        assert '<noscript><meta http-equiv="refresh"' in page
        assert 'name="text"' not in page
        assert player.get("/state?turn=0").json() == {"changed": True}
        state = re.search(r'data-state="([^"]+)"', page)[1]
        partner.allowed.set()
        assert player.get(state).json() == {"changed": True}
        assert "At last." in player.get().text
        assert "refresh" not in player.get().text


def test_a_slow_partner_keeps_nobody_else_waiting(tmp_path):
    partner = Slow()
    with serving(tmp_path, partner) as client:
        first, second = Player(client), Player(client)
        first.begin()
        first.send("Hello?")
        second.begin()
        assert "Your turn" in second.get().text
        partner.allowed.set()


def test_an_action_counts_once(tmp_path):
    with serving(tmp_path) as client:
        player = Player(client)
        player.begin()
        turn = player.turn
        player.act("Once.")
        for text in ("Once.", "Something else."):
            page = player.act(text, turn=turn)
            assert page.count("Once.") == 1
            assert "Something else." not in page
        assert "x" * 9 not in player.act("x" * 9, turn="9" * 5000)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"text": " "}, "Write what you say or do."),
        ({"text": "x" * 4097}, "4097 characters"),
        ({"text": "x", "kind": "dance"}, "Choose what to do."),
    ],
)
def test_what_cannot_be_played_is_told_and_stays_to_be_mended(tmp_path, values, told):
    with serving(tmp_path) as client:
        player = Player(client)
        player.begin()
        answer = player.send(**values)
        assert answer.status_code == 422
        assert told in answer.text
        assert values["text"].strip() in answer.text
        assert player.turn == "0"


def test_what_people_write_stays_text(tmp_path):
    with serving(tmp_path, max_turns=40) as client:
        player = Player(client)
        player.begin()
        for text in MARKUP:
            page = player.act(text)
            assert not [t for t in ("<script>", "<img", "<svg", "<iframe", "<style") if t in page]
        assert MARKUP[0] in unescape(page)
        player.act(kind="leave")
    (episode,) = played(tmp_path)
    said = [event.action.argument for event in episode.events if event.agent == "agent_0"]
    assert said[:-1] == list(MARKUP)


def test_a_restart_in_the_midst_loses_nothing(tmp_path):
    with serving(tmp_path) as client:
        player = Player(client)
        player.begin()
        player.act("How about $60?")
        player.act("Or $65?")
        before = player.get().text
    assert played(tmp_path) == []
    with serving(tmp_path) as client:
        player._client = client
        assert player.get().text == before
        player.act(kind="leave")
    (episode,) = played(tmp_path)
    mine = [event.action.argument for event in episode.events if event.agent == "agent_0"]
    assert mine == ["How about $60?", "Or $65?", ""]
    assert episode.extra["resumed"] is True
    with serving(tmp_path) as client:
        player._client = client
        assert "The conversation is over" in player.get().text
    assert len(played(tmp_path)) == 1


def test_what_ended_unjudged_is_judged_after_a_restart(tmp_path):
    waiting = threading.Event()

    class Stuck(Judge):
        name = "stuck"

        async def ajudge(self, episode):
            waiting.set()
            await asyncio.Event().wait()

        def judge(self, episode):
            raise NotImplementedError

    with serving(tmp_path, judge=Stuck()) as client:
        player = Player(client)
        player.begin()
        assert "It is being scored" in player.send(kind="leave").text
        assert waiting.wait(60)
    with serving(tmp_path) as client:
        player._client = client
        assert player.get("/state?turn=1").json() == {"changed": True}
        assert "Your goal score" in player.get().text
    assert [episode.judgement.judge for episode in played(tmp_path)] == ["outcome"]


def test_a_partner_that_fails_ends_its_own_game_only(tmp_path):
    with serving(tmp_path, Broken()) as client:
        player, other = Player(client), Player(client)
        player.begin()
        other.begin()
        end = player.act("Hello?")
        assert "failed for a technical reason" in end
        assert "sk-123" not in end
        assert other.turn == "0"
    (episode,) = played(tmp_path)
    assert episode.ending == "failed"
    assert "sk-123" in episode.error


def test_a_judge_that_fails_costs_the_score_only(tmp_path):
    with serving(tmp_path, judge=BrokenJudge()) as client:
        player = Player(client)
        player.begin()
        assert "could not be scored" in player.act(kind="leave")
    (episode,) = played(tmp_path)
    assert "the judge is out" in episode.judgement.error


def test_there_may_be_a_limit(tmp_path):
    with serving(tmp_path, limit=2) as client:
        players = [Player(client) for _ in range(3)]
        for player in players:
            player.begin()
        assert [player.turn for player in players] == ["0", "0", None]
        assert "No more conversations" in players[2].get().text
        assert "No more conversations" in players[0].act(kind="leave")


def test_beginning_twice_begins_once(tmp_path):
    with serving(tmp_path) as client:
        player = Player(client)
        player.begin()
        player.act("Hello.")
        assert "Hello." in player.begin()
    assert GameStore(tmp_path / "games.db").count() == 1


def test_conversations_that_wait_are_put_away_and_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "_OPEN", 2)
    with serving(tmp_path) as client:
        players = [Player(client) for _ in range(5)]
        for number, player in enumerate(players):
            player.begin()
            player.act(f"Number {number}.")
        for number, player in enumerate(players):
            assert f"Number {number}." in player.get().text
            assert player.act("Again.").count("Again.") == 1
            player.act(kind="leave")
    assert len(played(tmp_path)) == 5


def test_nobody_plays_for_another(tmp_path):
    with serving(tmp_path) as client:
        player, stranger = Player(client), Player(client)
        player.begin()
        stranger.begin()
        token = re.search(r'name="csrf" value="(\w+)"', player.get().text)[1]
        forged = {"csrf": token, "turn": "0", "kind": "leave"}
        assert stranger._ask("POST", "/act", data=forged).status_code == 403
        assert stranger._ask("POST", "/begin", data={"csrf": ""}).status_code == 403
        assert player.turn == stranger.turn == "0"


def test_beyond_this_machine_players_need_the_whole_link(tmp_path):
    with serving(tmp_path, restricted=True) as client:
        player = Player(client)
        assert player.get().status_code == 403
        assert player.get("/state?turn=0").status_code == 403
        access = GameStore(tmp_path / "games.db").database.setting("access", "")
        assert player.get(f"/?access={access}").status_code == 200
        player.begin()
        assert player.turn == "0"
