"""What commands of studies share: named arguments, and how results and numbers are written."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from sotopia_gym.errors import ConfigError


def named(option: str, what: str, given: Iterable[str], *, allowed: str = ".+") -> dict[str, str]:
    """Arguments with a name each, as NAME=WHAT.

    Args:
        option: The option they are of, for messages.
        what: What a name is given to, likewise.
        given: The arguments.
        allowed: A regular expression for names.

    Raises:
        ConfigError: If one has no name, one that is not allowed, or another's.
    """
    found: dict[str, str] = {}
    for each in given:
        name, _, value = each.partition("=")
        if not re.fullmatch(allowed, name) or not value or name in found:
            raise ConfigError(f"{option} takes NAME={what}, each name once; got {each!r}.")
        found[name] = value
    return found


def made_by(command: str) -> dict[str, str]:
    """What a result says of its making: the command, the date, and the machine without its name."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {platform.system()}, python {platform.python_version()}",
    }


def rounded(value: Any) -> Any:
    """Numbers to four places: the last ones differ between machines. None for what is no number.

    Of values called ``p`` or ``p_holm`` four digits are left, however small they are.
    """
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {
            key: float(f"{each:.4g}")
            if key in ("p", "p_holm") and isinstance(each, float)
            else rounded(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return value
