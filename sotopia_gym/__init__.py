"""Social tasks as reinforcement-learning environments.

    import sotopia_gym

    env = sotopia_gym.make("sotopia-v0")
    observations, infos = env.reset(seed=0)

Importing registers the environment ids and loads nothing heavy; the names below come on use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sotopia_gym.registration import EnvSpec, list_envs, make, make_aec, register, spec

if TYPE_CHECKING:
    from sotopia_gym.agents.base import Agent as Agent
    from sotopia_gym.envs.aec import SocialAECEnv as SocialAECEnv
    from sotopia_gym.envs.dialogue import Action as Action
    from sotopia_gym.envs.numeric import NumericEnv as NumericEnv
    from sotopia_gym.envs.numeric import NumericSoloEnv as NumericSoloEnv
    from sotopia_gym.envs.parallel import SocialEnv as SocialEnv
    from sotopia_gym.envs.solo import SoloEnv as SoloEnv
    from sotopia_gym.episodes.schema import Episode as Episode
    from sotopia_gym.episodes.schema import Judgement as Judgement
    from sotopia_gym.judges.base import Judge as Judge
    from sotopia_gym.rollout.engine import Rollout as Rollout
    from sotopia_gym.rollout.jobs import Rules as Rules
    from sotopia_gym.rollout.play import play as play
    from sotopia_gym.tasks.families.base import Outcome as Outcome
    from sotopia_gym.tasks.schema import Character as Character
    from sotopia_gym.tasks.schema import Scenario as Scenario
    from sotopia_gym.tasks.schema import Suite as Suite
    from sotopia_gym.tasks.schema import Task as Task
    from sotopia_gym.tasks.suites import list_suites as list_suites
    from sotopia_gym.tasks.suites import load_suite as load_suite
    from sotopia_gym.version import __version__ as __version__

_LAZY = {
    "Action": "envs.dialogue",
    "Agent": "agents.base",
    "Character": "tasks.schema",
    "Episode": "episodes.schema",
    "Judge": "judges.base",
    "Judgement": "episodes.schema",
    "NumericEnv": "envs.numeric",
    "NumericSoloEnv": "envs.numeric",
    "Outcome": "tasks.families.base",
    "Rollout": "rollout.engine",
    "Rules": "rollout.jobs",
    "Scenario": "tasks.schema",
    "SocialAECEnv": "envs.aec",
    "SocialEnv": "envs.parallel",
    "SoloEnv": "envs.solo",
    "Suite": "tasks.schema",
    "Task": "tasks.schema",
    "__version__": "version",
    "list_suites": "tasks.suites",
    "load_suite": "tasks.suites",
    "play": "rollout.play",
}

__all__ = [
    "Action",
    "Agent",
    "Character",
    "EnvSpec",
    "Episode",
    "Judge",
    "Judgement",
    "NumericEnv",
    "NumericSoloEnv",
    "Outcome",
    "Rollout",
    "Rules",
    "Scenario",
    "SocialAECEnv",
    "SocialEnv",
    "SoloEnv",
    "Suite",
    "Task",
    "__version__",
    "list_envs",
    "list_suites",
    "load_suite",
    "make",
    "make_aec",
    "play",
    "register",
    "spec",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
