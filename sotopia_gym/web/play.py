"""The web app in which people play roles against agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import ACTIVE_TYPES, MAX_ARGUMENT_LENGTH, Action, ActionType
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import ActionError
from sotopia_gym.tasks.background import background
from sotopia_gym.web import http
from sotopia_gym.web.database import digest, new_token
from sotopia_gym.web.form import plain_lines
from sotopia_gym.web.live import Lobby, Table
from sotopia_gym.web.pages import Line, lines

TITLE: Final = "Play a role"

_KINDS: Final[Mapping[ActionType, str]] = {
    "speak": "Say",
    "non-verbal communication": "Gesture",
    "action": "Do",
    "none": "Let the turn pass",
    "leave": "Leave",
}
_QUICK: Final = 1.0
"""Seconds to wait for an answer before the page says that one is being thought of."""

_POLL: Final = 20.0
"""Seconds after which a page that waits has to ask again."""


def play_app(lobby: Lobby, visitors: http.Visitors, *, hosts: Sequence[str] = ()) -> ASGIApp:
    """The app of live play.

    Args:
        lobby: Where conversations are begun; it is opened and closed with the app.
        visitors: Who may come in.
        hosts: Names under which it answers; empty for any.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await lobby.open()
        yield
        await lobby.close()

    pages = _Pages(lobby, visitors)
    routes = [
        Route("/", pages.welcome),
        Route("/play", pages.play),
        Route("/begin", pages.begin, methods=["POST"]),
        Route("/act", pages.act, methods=["POST"]),
        Route("/state", pages.state),
    ]
    return http.application(visitors, routes, title=TITLE, hosts=hosts, lifespan=lifespan)


class _Pages:
    """What is answered at each address."""

    def __init__(self, lobby: Lobby, visitors: http.Visitors) -> None:
        self._lobby, self._visitors = lobby, visitors

    async def welcome(self, request: Request) -> Response:
        response = self._page(request, "play_welcome.html")
        self._visitors.remember(request, response)
        return response

    async def play(self, request: Request) -> Response:
        found = await self._found(request)
        if isinstance(found, Table) and found.episode is None:
            return self._game(request, found)
        episode = found.episode if isinstance(found, Table) else found
        if episode is None:
            return self._page(request, "lobby.html", full=await self._lobby.full())
        return self._result(request, episode, full=await self._lobby.full())

    async def begin(self, request: Request) -> Response:
        await self._visitors.read(request)
        response = http.redirect("/play")
        session = self._visitors.session(request)
        if session is None:
            session = new_token()
            self._visitors.begin(request, response, session)
        await self._lobby.begin(digest(session))
        return response

    async def act(self, request: Request) -> Response:
        fields = await self._visitors.read(request)
        found = await self._found(request)
        turn = fields.get("turn", "")
        if isinstance(found, Table) and turn == str(int(found.observe()["turn"])):
            try:
                action = _read(fields, found)
            except ActionError as error:
                return self._game(request, found, fields, str(error))
            await found.act(int(turn), action)
            await found.settled(_QUICK)
        return http.redirect("/play")

    async def state(self, request: Request) -> Response:
        """Whether there is anything new; the answer waits until there is."""
        found = await self._found(request)
        turn = request.query_params.get("turn", "")
        if not isinstance(found, Table) or turn not in map(str, range(found.observe()["turn"] + 1)):
            return JSONResponse({"changed": True})
        return JSONResponse({"changed": await found.moved(int(turn), _POLL)})

    async def _found(self, request: Request) -> Table | Episode | None:
        session = self._visitors.session(request)
        return None if session is None else await self._lobby.table(digest(session))

    def _game(
        self,
        request: Request,
        table: Table,
        fields: Mapping[str, str] | None = None,
        problem: str = "",
    ) -> Response:
        seen = table.observe()
        return self._page(
            request,
            "game.html",
            background=seen["background"].split("\n"),
            chat=_chat(seen["dialogue"], table.names.values()),
            me=table.names[table.role],
            others={a: name for a, name in table.names.items() if a != table.role},
            turn=int(seen["turn"]),
            waits=table.waits,
            over=table.over,
            kinds=_KINDS,
            fields=fields or {},
            problem=problem,
            max_text=MAX_ARGUMENT_LENGTH,
            status=422 if problem else 200,
        )

    def _result(self, request: Request, episode: Episode, *, full: bool) -> Response:
        names = episode.task.names
        me = next(role for role, player in episode.agents.items() if player == "human")
        seen = (transcript.line(e, names) for e in episode.events if e.visible_to(me))
        return self._page(
            request,
            "result.html",
            background=background(episode.task, me, max_turns=episode.max_turns or 0).split("\n"),
            chat=_chat("\n".join(seen), names.values()),
            episode=episode,
            me=me,
            names=names,
            goals={agent: episode.task.goal(agent) for agent in names if agent != me},
            full=full,
        )

    def _page(self, request: Request, name: str, **values: Any) -> Response:
        return self._visitors.form(request, name, {"title": TITLE, **values})


def _chat(dialogue: str, names: Any) -> tuple[Line, ...]:
    return lines(transcript.parse(dialogue), names)


def _read(fields: Mapping[str, str], table: Table) -> Action:
    """The action that a form asks for.

    Raises:
        ActionError: If it asks for none.
    """
    kind = next((kind for kind in _KINDS if kind == fields.get("kind")), None)
    if kind is None:
        raise ActionError("Choose what to do.")
    if kind not in ACTIVE_TYPES:
        return Action(kind)
    text = plain_lines(fields.get("text", "")).strip()
    if not text:
        raise ActionError("Write what you say or do.")
    if len(text) > MAX_ARGUMENT_LENGTH:
        raise ActionError(f"That is {len(text)} characters; shorten it to {MAX_ARGUMENT_LENGTH}.")
    others = (agent for agent in table.names if agent != table.role)
    return Action(kind, text, tuple(agent for agent in others if f"to.{agent}" in fields))
