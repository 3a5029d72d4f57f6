"""The web app in which people rate episodes.

Pages are made on the server and work without a script. What a rater submits is on disk before the
answer goes out, and everything else can be made again from it, so a restart loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import UnknownIdError
from sotopia_gym.web import http
from sotopia_gym.web.form import CHECK, Problem, read_rating
from sotopia_gym.web.pages import conversation
from sotopia_gym.web.quota import CHECK_SCALE
from sotopia_gym.web.store import Assignment, Rater, StudyStore

T = TypeVar("T")

_ASSIGNMENT = "assignment"


def annotation_app(
    store: StudyStore,
    practice: Mapping[str, Episode],
    visitors: http.Visitors,
    *,
    hosts: Sequence[str] = (),
) -> ASGIApp:
    """The app of a study.

    Args:
        store: The study's file.
        practice: Its practice episodes by id, the examples among them.
        visitors: Who may come in.
        hosts: Names under which it answers; empty for any.
    """
    pages = _Pages(store, practice, visitors)
    routes = [
        Route("/", pages.welcome),
        Route("/start", pages.start),
        Route("/consent", pages.consent, methods=["POST"]),
        Route("/return", pages.come_back, methods=["POST"]),
        Route("/instructions", pages.instructions),
        Route("/examples", pages.examples),
        Route("/rate", pages.rate, methods=["GET"]),
        Route("/rate", pages.submit, methods=["POST"]),
    ]
    return http.application(visitors, routes, title=store.study.title, hosts=hosts)


class _Pages:
    """What is answered at each address."""

    def __init__(
        self, store: StudyStore, practice: Mapping[str, Episode], visitors: http.Visitors
    ) -> None:
        self._store, self._visitors = store, visitors
        self._study = store.study
        self._examples = [practice[name] for name in self._study.examples]

    async def welcome(self, request: Request) -> Response:
        """The way in, from wherever somebody comes.

        A browser that follows a link of another site sends no cookies, so nothing here depends on
        who it is; what lies behind the button does.
        """
        response = self._page(request, "welcome.html")
        self._visitors.remember(request, response)
        return response

    async def start(self, request: Request) -> Response:
        if await self._rater(request) is not None:
            return http.redirect("/rate")
        return self._page(request, "consent.html", problem="")

    async def consent(self, request: Request) -> Response:
        fields = await self._visitors.read(request)
        if await self._rater(request) is not None:
            return http.redirect("/rate")
        if fields.get("agree") != "yes":
            problem = "To take part, tick the box above the button."
            return self._page(request, "consent.html", problem=problem, status=422)
        rater, session, code = await run_in_threadpool(self._store.enroll)
        response = self._page(request, "joined.html", rater=rater, code=code)
        self._visitors.begin(request, response, session)
        return response

    async def come_back(self, request: Request) -> Response:
        fields = await self._visitors.read(request)
        code = fields.get("code", "").strip()
        session = await run_in_threadpool(self._store.come_back, code)
        if session is None:
            problem = "Nobody has this code. Copy the whole of it."
            return self._page(request, "consent.html", problem=problem, status=422)
        response = http.redirect("/rate")
        self._visitors.begin(request, response, session)
        return response

    async def instructions(self, request: Request) -> Response:
        return await self._for_rater(
            request, lambda rater: self._page(request, "instructions.html", rater=rater)
        )

    async def examples(self, request: Request) -> Response:
        shown = [(conversation(each), each.judgement) for each in self._examples]
        return await self._for_rater(
            request, lambda rater: self._page(request, "examples.html", rater=rater, examples=shown)
        )

    async def rate(self, request: Request) -> Response:
        rater = await self._rater(request)
        if rater is None:
            return http.redirect("/start")
        given = await run_in_threadpool(self._store.next, rater.rater)
        if isinstance(given, Assignment):
            return self._form(request, rater, given, {}, ())
        return self._page(request, "end.html", rater=rater, ending=given)

    async def submit(self, request: Request) -> Response:
        fields = await self._visitors.read(request)
        rater = await self._rater(request)
        if rater is None:
            return http.redirect("/start")
        token = fields.get(_ASSIGNMENT, "")
        given = await self._found(self._store.assignment, rater.rater, token)
        if given is None:
            return http.redirect("/rate")
        names = given.episode.task.names
        rating, problems = read_rating(fields, names, check=given.asked is not None)
        if problems:
            return self._form(request, rater, given, fields, problems)
        await self._found(self._store.submit, rater.rater, token, rating)
        return http.redirect("/rate")

    async def _found(self, ask: Callable[..., T], *args: Any) -> T:
        try:
            return await run_in_threadpool(ask, *args)
        except UnknownIdError:
            raise HTTPException(404) from None

    async def _rater(self, request: Request) -> Rater | None:
        session = self._visitors.session(request)
        return None if session is None else await run_in_threadpool(self._store.rater, session)

    async def _for_rater(self, request: Request, make: Callable[[Rater], Response]) -> Response:
        rater = await self._rater(request)
        return http.redirect("/start") if rater is None else make(rater)

    def _form(
        self,
        request: Request,
        rater: Rater,
        given: Assignment,
        fields: Mapping[str, str],
        problems: Sequence[Problem],
    ) -> Response:
        return self._page(
            request,
            "rate.html",
            rater=rater,
            given=given,
            talk=conversation(given.episode),
            fields=fields,
            problems=problems,
            wrong={problem.field: problem.message for problem in problems},
            check_field=CHECK,
            check_scale=CHECK_SCALE,
            status=422 if problems else 200,
        )

    def _page(self, request: Request, name: str, **values: Any) -> Response:
        shared = {"study": self._study, "title": self._study.title, "rater": None}
        return self._visitors.form(request, name, {**shared, **values})
