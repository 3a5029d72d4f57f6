"""What keeps the web apps safe: headers, sessions, tokens in forms, limits on what is sent."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sotopia_gym.web.database import Database, new_token
from sotopia_gym.web.pages import page

CSRF: Final = "csrf"
"""The field of a form that shows that it is ours."""

_MAX_BODY: Final = 1_000_000
_MAX_FIELDS: Final = 200
_SECONDS: Final = 30.0
_DAYS: Final = 60
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{20,100}")
_STATIC: Final = "/static"

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_TOLD: Final[Mapping[int, str]] = {
    400: "Your browser sent something that this page cannot read.",
    403: "This form is not from your session. Go back to the start and try again.",
    404: "There is no such page.",
    405: "This page cannot be used like that.",
    408: "What you sent took too long to arrive. Please send it again.",
    413: "What you sent is too long. Go back, shorten it, and send it again.",
    415: "This is not a form that this page knows.",
    500: "Something went wrong here. What you submitted before is kept. Please try again.",
}


class Visitors:
    """Tells visitors apart by their cookies, and their forms from those of others.

    The names of the cookies hold an id of the database, so that two apps at one host do not
    mistake each other's visitors.

    Args:
        database: Where the key is kept, so that sessions outlive a restart.
        restricted: Whether only those may come in who have the access token.

    Attributes:
        access: The token that lets people in; None if everybody may come in.
    """

    def __init__(self, database: Database, *, restricted: bool) -> None:
        self._key = database.setting("key", new_token()).encode()
        self.access = database.setting("access", new_token()) if restricted else None
        name = hashlib.sha256(self._key).hexdigest()[:8]
        self._session, self._visit, self._entry = (
            f"{kind}_{name}" for kind in ("session", "visit", "entry")
        )

    def session(self, request: Request) -> str | None:
        """The secret of the session, if there is one."""
        return _secret(request.cookies.get(self._session))

    def begin(self, request: Request, response: Response, secret: str) -> None:
        """Start a session."""
        self._set(request, response, self._session, secret)

    def form(self, request: Request, name: str, values: Mapping[str, Any]) -> Response:
        """A page with forms, which are tied to the session, or to this visit before there is one.

        The visit has a cookie of its own: who comes from elsewhere sends no cookies at first, and
        must not lose the session by that.
        """
        holder = self.session(request) or _secret(request.cookies.get(self._visit))
        fresh = new_token() if holder is None else None
        token = self._csrf(holder or fresh or "")
        status = values.get("status", 200)
        response = HTMLResponse(page(name, {**values, CSRF: token}), status_code=status)
        if fresh is not None:
            self._set(request, response, self._visit, fresh)
        return response

    async def read(self, request: Request) -> dict[str, str]:
        """The fields of a form that was sent, once it is known to be ours.

        Raises:
            HTTPException: If it is not, or cannot be read.
        """
        fields = await read_form(request)
        holders = (self.session(request), _secret(request.cookies.get(self._visit)))
        given = fields.get(CSRF, "").encode()
        if not any(
            hmac.compare_digest(self._csrf(holder).encode(), given)
            for holder in holders
            if holder is not None
        ):
            raise HTTPException(403)
        return fields

    def let_in(self, request: Request) -> bool:
        """Whether the visitor may come in."""
        if self.access is None:
            return True
        given = (request.cookies.get(self._entry), request.query_params.get("access"))
        access = self.access.encode()
        return any(each and hmac.compare_digest(each.encode(), access) for each in given)

    def remember(self, request: Request, response: Response) -> None:
        """Let a visitor who came with the access token in the address in from now on."""
        if self.access is not None and "access" in request.query_params:
            self._set(request, response, self._entry, self.access)

    def _csrf(self, holder: str) -> str:
        return hmac.new(self._key, f"csrf/{holder}".encode(), "sha256").hexdigest()

    def _set(self, request: Request, response: Response, name: str, value: str) -> None:
        response.set_cookie(
            name,
            value,
            max_age=_DAYS * 86_400,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )


def application(
    visitors: Visitors,
    routes: Sequence[BaseRoute],
    *,
    title: str,
    hosts: Sequence[str] = (),
    **kwargs: Any,
) -> ASGIApp:
    """An app with what all apps share: headers, static files, the gate, pages for errors.

    Args:
        visitors: Who may come in.
        routes: Its pages.
        title: What its pages are called.
        hosts: Names under which it answers, against pages of others that pose as this machine;
            empty for any.
        **kwargs: What Starlette takes.
    """

    async def failed(_request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return _refusal(title, status, _TOLD.get(status, _TOLD[400]))

    static = StaticFiles(directory=str(files("sotopia_gym.web") / "static"))
    app = Starlette(
        routes=[*routes, Mount(_STATIC, static)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts] or None)],
        exception_handlers={HTTPException: failed, Exception: failed},
        **kwargs,
    )
    return _Guard(app, visitors, title)


class _Guard:
    """Lets in who may, and puts the headers on everything that goes out, errors included."""

    def __init__(self, app: ASGIApp, visitors: Visitors, title: str) -> None:
        self._app, self._visitors, self._title = app, visitors, title

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        static = scope["path"].startswith(f"{_STATIC}/")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers["Cache-Control"] = "no-cache" if static else "no-store"
            await send(message)

        app = self._app
        if not static and not self._visitors.let_in(Request(scope)):
            app = _refusal(self._title, 403, "You need the whole link that you were sent.")
        await app(scope, receive, sending)


def _refusal(title: str, status: int, told: str) -> Response:
    return HTMLResponse(page("error.html", {"title": title, "told": told}), status_code=status)


def redirect(path: str) -> Response:
    """Go on at another page, with a GET."""
    return RedirectResponse(path, status_code=303)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a URL-encoded form; of a field that comes twice, the last.

    Raises:
        HTTPException: If it is too long, too slow, or no form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415)
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY:
                    raise HTTPException(413)
    except TimeoutError:
        raise HTTPException(408) from None
    except ClientDisconnect:
        raise HTTPException(400) from None
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        raise HTTPException(400) from None
    return dict(pairs)


def _secret(value: str | None) -> str | None:
    return value if value is not None and _TOKEN.fullmatch(value) else None
