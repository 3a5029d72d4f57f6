"""Agents play roles; a spec string names one everywhere."""

from __future__ import annotations

from typing import Final

from sotopia_gym.agents.base import Agent
from sotopia_gym.errors import UnknownIdError, did_you_mean

__all__ = ["Agent", "from_spec"]

_SPECS: Final = ("scripted/NAME", "local/MODEL", "human")


def from_spec(spec: str | Agent) -> Agent:
    """The agent that ``spec`` names.

    Args:
        spec: ``"scripted/NAME"`` (see :func:`sotopia_gym.agents.scripted.scripted`),
            ``"local/smollm2-135m"`` (the embedded language model), ``"human"`` (a person at the
            terminal), or an agent, which is returned as it is.

    Raises:
        UnknownIdError: If no agent has this name.
        ModelError: If a model is not on this machine; the message says how to get it.
        MissingDependencyError: If an extra is missing.
    """
    if isinstance(spec, Agent):
        return spec
    kind, _, name = spec.partition("/")
    if kind == "scripted":
        from sotopia_gym.agents.scripted import scripted

        return scripted(name)
    if kind == "local":
        from sotopia_gym.agents.local import LocalAgent

        return LocalAgent(name)
    if spec == "human":
        from sotopia_gym.agents.human import HumanAgent

        return HumanAgent()
    raise UnknownIdError(f"no agent {spec!r}. {did_you_mean(spec, _SPECS)}")
