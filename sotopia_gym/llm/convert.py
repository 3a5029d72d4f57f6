"""The embedded models as folders of transformers, to be trained."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sotopia_gym.errors import ConfigError, missing_extra
from sotopia_gym.llm import models


def to_hf(name: str, folder: Path) -> Path:
    """Write an embedded model as a folder that ``from_pretrained`` loads.

    Its weights are those of the GGUF file, no more precise, as float32. It takes half a minute;
    loading the folder converts nothing.

    Args:
        name: The model, e.g. ``"smollm2-135m"``.
        folder: Where to; it must not exist, or be empty.

    Returns:
        The folder.

    Raises:
        UnknownIdError: If there is no such model.
        ModelError: If its weights are not on this machine; the message says how to get them.
        ConfigError: If there is something in the folder.
        MissingDependencyError: If the extra ``train`` is not installed.
    """
    weights = models.find(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty; name a folder that does not exist yet.")
    try:
        import gguf  # noqa: F401  # transformers needs it, and says so less clearly
        import torch
        import transformers
    except ImportError as error:
        package = error.name or "torch"
        raise missing_extra(package, "train", f"converting the model {name!r}") from error

    source = {"gguf_file": weights.name}
    read = transformers.AutoModelForCausalLM.from_pretrained(
        weights.parent, dtype=torch.float32, **source
    )
    # While the config says that the weights are quantised, save_pretrained refuses.
    config = read.config
    del config.quantization_config
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights.parent, **source)
    _split_digits(tokenizer)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A folder that is there is whole.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
        whole = Path(made) / "model"
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        if folder.exists():
            folder.rmdir()
        whole.rename(folder)
    return folder


def _split_digits(tokenizer: Any) -> None:
    """Tokenise as SmolLM2 was trained, every digit alone.

    A GGUF file only names its pre-tokenizer; transformers reads them all as that of GPT-2.
    """
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
