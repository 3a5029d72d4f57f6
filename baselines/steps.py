"""Steps of a recipe: each a function and a folder of outputs, done once.

A step's folder holds its outputs and, once it is done, ``manifest.json``: what went in, by hash,
what came out, by hash, settings, seed, versions, machine, time and cost. A step that is done is
skipped; one that was killed goes on in its folder. Neither is mixed with other settings or inputs:
a step that was begun with others is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from baselines.estimate import Estimate
from sotopia_gym.errors import ConfigError
from sotopia_gym.files import write_whole

MANIFEST: Final = "manifest.json"
_BEGUN: Final = ".begun.json"
_LOCK: Final = ".lock"
_PACKAGES: Final = ("sotopia-gym", "torch", "transformers", "trl", "peft", "numpy", "xllamacpp")
_POLL: Final = 0.2
_LOG: Final = "log.txt"
_UNHASHED: Final = ("tensorboard",)
"""Folders of a step that nothing depends on."""

_NOTHING: Final = Estimate()

Work = Callable[[Path, Mapping[str, Path]], Mapping[str, Any]]
"""Does a step: gets its folder and those of the steps it needs; returns facts for the manifest."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: Its name, and its folder below the recipe's.
        work: What it does.
        needs: The steps whose outputs it reads.
        settings: All that its outputs depend on beside those.
        plan: What it will take.
        remade: Whether it takes so little that it is done anew, not refused, where settings or
            inputs have changed.
    """

    name: str
    work: Work
    needs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    plan: Estimate = _NOTHING
    remade: bool = False


class Pipeline:
    """Steps in an order in which each comes after those it needs.

    Args:
        steps: The steps.
        folder: Where their folders are.

    Raises:
        ConfigError: If a step needs one that does not come before it.
    """

    def __init__(self, steps: Sequence[Step], folder: Path) -> None:
        self.folder = folder
        self.steps: dict[str, Step] = {}
        for step in steps:
            for need in step.needs:
                if need not in self.steps:
                    raise ConfigError(f"step {step.name} needs {need}, which does not come before.")
            self.steps[step.name] = step

    def up_to(self, names: Sequence[str]) -> list[Step]:
        """These steps and all that they need, in order.

        Raises:
            ConfigError: If there is no such step.
        """
        wanted: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in self.steps:
                raise ConfigError(f"no step {name!r}; the steps are {', '.join(self.steps)}.")
            if name not in wanted:
                wanted.add(name)
                waiting += self.steps[name].needs
        return [step for step in self.steps.values() if step.name in wanted]

    def manifest(self, name: str) -> dict[str, Any] | None:
        """What the manifest of a step says; None if it is not done."""
        return self._read(name, MANIFEST)

    def done(self, step: Step) -> bool:
        """Whether a step is done, with these settings and inputs.

        Raises:
            ConfigError: If it is done, or was begun, with others.
        """
        manifest = self.manifest(step.name)
        known = manifest or self._read(step.name, _BEGUN)
        if known is None:
            return False
        now = self._made_with(step)
        differing = [
            f"{part} {key!r}"
            for part, values in now.items()
            for key in sorted({*values, *known[part]})
            if values.get(key) != known[part].get(key)
        ]
        if differing and step.remade:
            return False
        if differing:
            raise ConfigError(
                f"{self.folder / step.name} was made with another {', '.join(differing)}. Choose "
                "another folder with --out, or remove that one to have it made anew."
            )
        return manifest is not None

    def run(self, step: Step) -> bool:
        """Do one step here, unless it is done; returns whether there was anything to do.

        Raises:
            ConfigError: If a step that it needs is not done.
        """
        folder = self.folder / step.name
        folder.mkdir(parents=True, exist_ok=True)
        # Two runs may need the same step: the second waits, and finds it done.
        with FileLock(folder / _LOCK):
            if self.done(step):
                return False
            made_with = self._made_with(step)
            missing = [need for need, digest in made_with["inputs"].items() if digest is None]
            if missing:
                wanted = ", ".join(missing)
                raise ConfigError(f"step {step.name} needs {wanted}, which is not done.")
            _write(folder / _BEGUN, made_with)
            start = time.monotonic()
            facts = step.work(folder, {need: self.folder / need for need in step.needs})
            manifest = {
                "step": step.name,
                **made_with,
                "outputs": outputs(folder),
                "seconds": round(time.monotonic() - start, 1),
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": machine(),
                "versions": _versions(),
                **facts,
            }
            _write(folder / MANIFEST, manifest)
            (folder / _BEGUN).unlink()
        return True

    def run_all(
        self,
        steps: Sequence[Step],
        command: Callable[[Step], Sequence[str]],
        *,
        jobs: int,
        threads: int,
        tell: Callable[[str], None],
    ) -> None:
        """Do steps, each in a process of its own, as many at once as do not wait for each other.

        Args:
            steps: The steps, in order.
            command: The command line that does one.
            jobs: How many at once.
            threads: Threads that each computes with. What is computed depends on their number in
                the last bits, so that it is a setting and not what the machine happens to have.
            tell: Told of each beginning and end.

        Raises:
            ConfigError: If a step is done with other settings.
            RuntimeError: If a step failed; the message names its log.
        """
        ahead = _seconds_ahead(steps)
        waiting = [step for step in steps if not self.done(step)]
        # What most depends on is begun first, so that it is not waited for alone at the end.
        waiting.sort(key=lambda step: -ahead[step.name])
        running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "0"}
        try:
            while waiting or running:
                for name, (process, started) in list(running.items()):
                    if (code := process.poll()) is not None:
                        del running[name]
                        if code != 0:
                            raise RuntimeError(
                                f"step {name} failed with exit code {code}; its log is "
                                f"{self._log(name)}. Run the same command again to go on."
                            )
                        tell(f"{name}: done in {time.monotonic() - started:.0f} s")
                for step in list(waiting):
                    unmet = {need for need in step.needs if self.manifest(need) is None}
                    if len(running) < jobs and not unmet:
                        waiting.remove(step)
                        if self.done(step):
                            continue
                        tell(f"{step.name}: begins")
                        started = time.monotonic()
                        running[step.name] = self._begin(step, command, environment), started
                time.sleep(_POLL)
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.wait()

    def _begin(
        self,
        step: Step,
        command: Callable[[Step], Sequence[str]],
        environment: Mapping[str, str],
    ) -> subprocess.Popen[bytes]:
        log = self._log(step.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            return subprocess.Popen(command(step), stdout=file, stderr=file, env=environment)

    def _log(self, name: str) -> Path:
        return self.folder / name / _LOG

    def _read(self, name: str, file: str) -> dict[str, Any] | None:
        path = self.folder / name / file
        if not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _made_with(self, step: Step) -> dict[str, dict[str, Any]]:
        """Settings and inputs of a step, as its manifest has them."""
        return {"inputs": self._inputs(step), "settings": json.loads(json.dumps(step.settings))}

    def _inputs(self, step: Step) -> dict[str, str | None]:
        """The steps that it needs, by the hash of what they gave; None if they are not done."""
        found: dict[str, str | None] = {}
        for need in step.needs:
            manifest = self.manifest(need)
            found[need] = None if manifest is None else digest_of(manifest["outputs"])
        return found


def _seconds_ahead(steps: Sequence[Step]) -> dict[str, float]:
    """How long each step, and the longest row of steps that wait for it, are planned to take."""
    ahead = {step.name: 0.0 for step in steps}
    for step in reversed(steps):
        ahead[step.name] += step.plan.seconds
        for need in step.needs:
            if need in ahead:
                ahead[need] = max(ahead[need], ahead[step.name])
    return ahead


def outputs(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file that a step made, by its path in the step's folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part in _UNHASHED for part in parts)
        if path.is_file() and not hidden and path.name not in (MANIFEST, _LOG):
            with path.open("rb") as file:
                found["/".join(parts)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _write(path: Path, value: object) -> None:
    write_whole(path, [json.dumps(value, indent=1).encode() + b"\n"])


def digest_of(value: object) -> str:
    """A hash of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def machine() -> str:
    """What this machine is, for records of results."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"python {platform.python_version()}"
    )


def step_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of this checkout with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
