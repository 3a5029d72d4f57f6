"""The version of this library; ``pyproject.toml`` is where it is set."""

from importlib.metadata import version

__version__ = version("sotopia-gym")
