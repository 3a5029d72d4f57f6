"""Serving a web app."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from sotopia_gym.web.address import Address

_GRACE: Final = 3
"""Seconds that answers under way have when the server is stopped."""


def serve(app: ASGIApp, address: Address, access: str | None, tell: Callable[[str], None]) -> None:
    """Serve an app until the process is told to stop.

    Args:
        app: The app.
        address: Where.
        access: The token that lets people in, for the link that is told; None for no token.
        tell: Called with the link once the app can be reached.

    Raises:
        OSError: If nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.create_server((address.host, address.port), family=family) as listening:
        port = listening.getsockname()[1]
        host = f"[{address.host}]" if family == socket.AF_INET6 else address.host
        url = (address.url or f"http://{host}:{port}").rstrip("/")
        tell(f"{url}/" if access is None else f"{url}/?access={access}")
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
