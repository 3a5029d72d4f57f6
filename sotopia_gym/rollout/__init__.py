"""Playing episodes: one at a time, or many at once."""

from sotopia_gym.rollout.engine import Progress, Rollout
from sotopia_gym.rollout.jobs import Job, Rules

__all__ = ["Job", "Progress", "Rollout", "Rules"]
