"""Environment ids: our registry, mirrored into PettingZoo's and Gymnasium's.

PettingZoo knows each id as ``sotopia/ID`` (parallel and AEC); Gymnasium knows the single-agent
view ``sotopia/Solo-v0``. Both exist once ``sotopia_gym`` is imported.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium
import pettingzoo

from sotopia_gym.errors import ConfigError, UnknownIdError, did_you_mean

if TYPE_CHECKING:
    from sotopia_gym.envs.aec import SocialAECEnv
    from sotopia_gym.envs.parallel import SocialEnv

_ID = re.compile(r"[A-Za-z0-9_-]+-v\d+")
SOLO_ID = "sotopia/Solo-v0"


@dataclass(frozen=True)
class EnvSpec:
    """How an environment id is made.

    Attributes:
        id: Name and version, e.g. ``"sotopia-v0"``.
        kwargs: Arguments of :class:`~sotopia_gym.envs.parallel.SocialEnv`.
        description: One line for people.
    """

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    description: str = ""


_registry: dict[str, EnvSpec] = {}


def register(id: str, *, description: str = "", **kwargs: Any) -> EnvSpec:
    """Register an environment id, here and with PettingZoo.

    Args:
        id: A new id that ends in a version, e.g. ``"my-tasks-v0"``.
        description: One line for people.
        **kwargs: Arguments of :class:`~sotopia_gym.envs.parallel.SocialEnv`.

    Raises:
        ValueError: If the id is malformed or taken.
    """
    if not _ID.fullmatch(id):
        raise ConfigError(
            f"an environment id is a name and a version such as 'my-tasks-v0', got {id!r}."
        )
    if id in _registry:
        raise ConfigError(f"the id {id!r} is taken; register another version.")
    spec = EnvSpec(id, kwargs, description)
    _registry[id] = spec
    pettingzoo.register(
        "parallel", f"sotopia/{id}", "sotopia_gym.registration:make", kwargs={"id": id}
    )
    pettingzoo.register(
        "aec", f"sotopia/{id}", "sotopia_gym.registration:make_aec", kwargs={"id": id}
    )
    return spec


def spec(id: str) -> EnvSpec:
    """The spec of an environment id.

    Raises:
        UnknownIdError: If there is none; the message suggests the nearest.
    """
    try:
        found = _registry[id]
        return dataclasses.replace(found, kwargs=dict(found.kwargs))
    except KeyError:
        raise UnknownIdError(f"no environment {id!r}. {did_you_mean(id, _registry)}") from None


def list_envs() -> list[str]:
    """All registered environment ids, sorted."""
    return sorted(_registry)


def make(id: str, **kwargs: Any) -> SocialEnv:
    """Make a social environment.

    Args:
        id: A registered id; :func:`list_envs` lists them.
        **kwargs: Arguments of :class:`~sotopia_gym.envs.parallel.SocialEnv`; they override the
            registered ones.

    Returns:
        The environment; its ``spec`` says how it was made, with the judge that ``"auto"`` is.

    Raises:
        UnknownIdError: If there is no such id, or its suite is not on this machine.
        JudgeError: If the judge can never score the suite.
    """
    from sotopia_gym.envs.parallel import SocialEnv

    registered = spec(id)
    arguments = {**registered.kwargs, **kwargs}
    env = SocialEnv(**arguments)
    if arguments.get("judge", "auto") == "auto":
        arguments["judge"] = env.judge_name
    env.spec = dataclasses.replace(registered, kwargs=arguments)
    return env


def make_aec(id: str, **kwargs: Any) -> SocialAECEnv:
    """Make the agent-by-agent view of a social environment; see :func:`make`."""
    from sotopia_gym.envs.aec import SocialAECEnv

    return SocialAECEnv(make(id, **kwargs))


register(
    "sotopia-v0",
    description="Bargaining and dividing with ground truth; the suite that ships (starter).",
    suite="starter",
)
register(
    "sotopia-families-v0",
    description="Every family of tasks with ground truth for two characters (families).",
    suite="families",
)
register(
    "sotopia-plan-v0",
    description="Three characters agree on a plan, with private side messages (plan-3).",
    suite="plan-3",
)
register(
    "sotopia-open-v0",
    description="Open-ended social tasks of many kinds; needs a judge that reads (open).",
    suite="open",
)
register(
    "sotopia-all-v0",
    description="All 90 scenarios and 450 tasks of SOTOPIA, once imported.",
    suite="sotopia-all",
)
register(
    "sotopia-hard-v0",
    description="The 14 hard scenarios and 70 tasks of SOTOPIA, once imported.",
    suite="sotopia-hard",
)
gymnasium.register(SOLO_ID, entry_point="sotopia_gym.envs.solo:SoloEnv")
