"""Environment ids: our registry, mirrored into PettingZoo's and Gymnasium's.

PettingZoo knows each id as ``sotopia/ID`` (parallel and AEC; ids in numbers parallel only);
Gymnasium knows the single-agent views ``sotopia/Solo-v0`` and, in numbers,
``sotopia/NumericPrice-v0`` and so on. All exist once ``sotopia_gym`` is imported.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

import gymnasium
import pettingzoo

from sotopia_gym.errors import ConfigError, UnknownIdError, did_you_mean

if TYPE_CHECKING:
    from sotopia_gym.envs.aec import SocialAECEnv
    from sotopia_gym.envs.numeric import NumericEnv
    from sotopia_gym.envs.parallel import SocialEnv

_ID = re.compile(r"[A-Za-z0-9_-]+-v\d+")
SOLO_ID = "sotopia/Solo-v0"
NUMERIC_SOLO_IDS = {
    "price": "sotopia/NumericPrice-v0",
    "division": "sotopia/NumericDivision-v0",
    "joint_choice": "sotopia/NumericJointChoice-v0",
}
"""Gymnasium's id of each family in numbers."""

NumericId = Literal[
    "sotopia-numeric-price-v0", "sotopia-numeric-division-v0", "sotopia-numeric-joint-choice-v0"
]
View = Literal["text", "numeric"]


@dataclass(frozen=True)
class EnvSpec:
    """How an environment id is made.

    Attributes:
        id: Name and version, e.g. ``"sotopia-v0"``.
        kwargs: Arguments of the environment.
        description: One line for people.
        view: Whether agents see and say text (:class:`~sotopia_gym.envs.parallel.SocialEnv`) or
            numbers (:class:`~sotopia_gym.envs.numeric.NumericEnv`).
    """

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    view: View = "text"


_registry: dict[str, EnvSpec] = {}


def register(id: str, *, description: str = "", view: View = "text", **kwargs: Any) -> EnvSpec:
    """Register an environment id, here and with PettingZoo.

    Args:
        id: A new id that ends in a version, e.g. ``"my-tasks-v0"``.
        description: One line for people.
        view: ``"text"`` or ``"numeric"``.
        **kwargs: Arguments of :class:`~sotopia_gym.envs.parallel.SocialEnv`, or for numbers of
            :class:`~sotopia_gym.envs.numeric.NumericEnv`.

    Raises:
        ValueError: If the id is malformed or taken.
    """
    if not _ID.fullmatch(id):
        raise ConfigError(
            f"an environment id is a name and a version such as 'my-tasks-v0', got {id!r}."
        )
    if id in _registry:
        raise ConfigError(f"the id {id!r} is taken; register another version.")
    spec = EnvSpec(id, kwargs, description, view)
    _registry[id] = spec
    pettingzoo.register(
        "parallel", f"sotopia/{id}", "sotopia_gym.registration:make", kwargs={"id": id}
    )
    if view == "text":
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


@overload
def make(id: NumericId, **kwargs: Any) -> NumericEnv: ...
@overload
def make(id: str, **kwargs: Any) -> SocialEnv: ...
def make(id: str, **kwargs: Any) -> SocialEnv | NumericEnv:
    """Make an environment.

    Args:
        id: A registered id; :func:`list_envs` lists them.
        **kwargs: Arguments of :class:`~sotopia_gym.envs.parallel.SocialEnv`, or for numbers of
            :class:`~sotopia_gym.envs.numeric.NumericEnv`; they override the registered ones.

    Returns:
        The environment; its ``spec`` says how it was made, with the judge that ``"auto"`` is.

    Raises:
        UnknownIdError: If there is no such id, or its suite is not on this machine.
        JudgeError: If the judge can never score the suite.
    """
    registered = spec(id)
    arguments = {**registered.kwargs, **kwargs}
    env = _view(registered.view)(**arguments)
    if arguments.get("judge", "auto") == "auto":
        arguments["judge"] = env.judge_name
    env.spec = dataclasses.replace(registered, kwargs=arguments)
    return env


def make_aec(id: str, **kwargs: Any) -> SocialAECEnv:
    """Make the agent-by-agent view of a social environment; see :func:`make`.

    Raises:
        ConfigError: If the id is one in numbers.
    """
    from sotopia_gym.envs.aec import SocialAECEnv

    if spec(id).view == "numeric":
        raise ConfigError(
            f"{id} has a parallel view only; make() it, and convert that with "
            "pettingzoo.utils.conversions.parallel_to_aec."
        )
    return SocialAECEnv(make(id, **kwargs))


def _view(view: View) -> type[SocialEnv] | type[NumericEnv]:
    if view == "numeric":
        from sotopia_gym.envs.numeric import NumericEnv

        return NumericEnv
    from sotopia_gym.envs.parallel import SocialEnv

    return SocialEnv


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
register(
    "sotopia-numeric-price-v0",
    view="numeric",
    description="Bargaining over a price in numbers, for classical reinforcement learning.",
    family="price",
)
register(
    "sotopia-numeric-division-v0",
    view="numeric",
    description="Dividing items in numbers, for classical reinforcement learning.",
    family="division",
)
register(
    "sotopia-numeric-joint-choice-v0",
    view="numeric",
    description="Settling on an option in numbers, for classical reinforcement learning.",
    family="joint_choice",
)
gymnasium.register(SOLO_ID, entry_point="sotopia_gym.envs.solo:SoloEnv")
for _family, _id in NUMERIC_SOLO_IDS.items():
    gymnasium.register(
        _id, entry_point="sotopia_gym.envs.numeric:NumericSoloEnv", kwargs={"family": _family}
    )
