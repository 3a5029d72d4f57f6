"""Playing episodes: one at a time, or many at once."""

from sotopia_gym.rollout.engine import Progress, Rollout
from sotopia_gym.rollout.jobs import Job, Rules
from sotopia_gym.rollout.ray_engine import RayEngine

__all__ = ["Job", "Progress", "RayEngine", "Rollout", "Rules"]
