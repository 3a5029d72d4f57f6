"""Where a web app is served."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from sotopia_gym.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Address:
    """Where an app is served, and how people reach it.

    Attributes:
        host: What to listen at.
        port: The port; 0 for a free one.
        url: The address that people open, where something else (a proxy) stands before the app;
            None for that of host and port.

    Raises:
        ConfigError: If ``url`` is not the address of a host.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    url: str | None = None

    def __post_init__(self) -> None:
        if self.url is None:
            return
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ConfigError(
                f"the address people open is http:// or https:// and a host, without a path; got "
                f"{self.url!r}."
            )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.url is not None:
            return False
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names under which the app answers; empty for any."""
        if self.local:
            return ("localhost", "127.0.0.1", "[::1]", self.host)
        if self.url is not None:
            return (urlsplit(self.url).hostname or "",)
        return ()
