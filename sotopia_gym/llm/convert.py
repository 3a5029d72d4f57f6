"""The embedded models as folders of transformers, to be trained, and back as GGUF files."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sotopia_gym.errors import ConfigError, ModelError, missing_extra
from sotopia_gym.llm import models

_FILE_TYPES: Final = MappingProxyType(
    {"q8_0": "MOSTLY_Q8_0", "f16": "MOSTLY_F16", "f32": "ALL_F32"}
)
"""What a GGUF file says it is, by the precision of its matrices."""

_ADAPTER: Final = "adapter_config.json"
"""The file that says that a folder holds an adapter of peft."""

_EMBEDDING: Final = "token_embd.weight"
_OUTPUT: Final = "output.weight"


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


def to_gguf(folder: Path, path: Path, *, like: str = "smollm2-135m", dtype: str = "q8_0") -> Path:
    """Write a trained model as a GGUF file, which llama.cpp plays.

    It becomes the file of the model that training started from, with other weights: metadata,
    tokenizer and chat template are copied from there, not from the folder.

    Args:
        folder: What ``save_pretrained`` wrote, of a model or of an adapter of peft, which is
            merged into its base.
        path: Where to; it must end in ``.gguf`` and not exist.
        like: The model that training started from: an embedded one, or the path of a GGUF file.
        dtype: Precision of the matrices: ``"q8_0"`` (8.5 bits a weight), ``"f16"`` or ``"f32"``.
            Vectors, which are the norms, stay float32.

    Returns:
        The file.

    Raises:
        ConfigError: If there is no such precision, or ``path`` is none for a new GGUF file.
        UnknownIdError: If there is no model ``like``.
        ModelError: If there is no model in the folder, if it is another than ``like``, or if not
            all of its weights are finite; nothing is written then.
        MissingDependencyError: If the extra ``train`` is not installed.
    """
    if dtype not in _FILE_TYPES:
        raise ConfigError(f"no dtype {dtype!r}; expected one of {', '.join(_FILE_TYPES)}.")
    if path.suffix != ".gguf":
        raise ConfigError(f"the name of a GGUF file ends in .gguf, got {path}.")
    if path.exists():
        raise ConfigError(f"{path} exists; name a file that does not exist yet.")
    source = models.weights(like)
    try:
        import gguf
        import torch  # noqa: F401  # transformers needs it, and says so less clearly
        import transformers  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise missing_extra(error.name or "torch", "train", f"writing {path}") from error

    try:
        layout = gguf.GGUFReader(source)
    except ValueError as error:
        raise ModelError(f"{source} cannot be read as a GGUF file: {error}") from error
    tensors = list(_tensors(trained(folder), layout, f"{folder} is not like {like}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file that is there is whole.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as made:
        whole = Path(made) / "model.gguf"
        writer = gguf.GGUFWriter(whole, "llama")
        writer.data_alignment = layout.alignment
        writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[dtype]])
        for field in layout.fields.values():
            # What begins so is the header, which the writer makes.
            if not field.name.startswith("GGUF.") and field.name not in writer.kv_data[0]:
                is_array = field.types[0] == gguf.GGUFValueType.ARRAY
                kinds = field.types[0], field.types[-1] if is_array else None
                writer.add_key_value(field.name, field.contents(), *kinds)
        for name, weight in tensors:
            kind = gguf.GGMLQuantizationType["F32" if weight.ndim == 1 else dtype.upper()]
            writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        whole.rename(path)
    return path


def is_adapter(path: Path | str) -> bool:
    """Whether a folder holds an adapter of peft in place of a model."""
    return (Path(path) / _ADAPTER).is_file()


def tokenizer(path: Path | str) -> Any:
    """The tokenizer in a folder; for an adapter without one, that of its base.

    Args:
        path: The folder, or the name of a model on the hub.
    """
    from transformers import AutoTokenizer

    if is_adapter(path) and not (Path(path) / "tokenizer_config.json").is_file():
        path = json.loads((Path(path) / _ADAPTER).read_bytes())["base_model_name_or_path"]
    return AutoTokenizer.from_pretrained(path)


def trained(folder: Path) -> Any:
    """The model in a folder, in float32; an adapter is merged into its base.

    Args:
        folder: What ``save_pretrained`` wrote.

    Raises:
        ModelError: If there is no model in it, or not all of one.
        MissingDependencyError: If it is an adapter, and peft is not installed.
    """
    import torch
    from transformers import AutoModelForCausalLM

    adapter = is_adapter(folder)
    # Without the check, transformers would look for a model of this name in the network.
    if not adapter and not (folder / "config.json").is_file():
        raise ModelError(
            f"there is no model in {folder}; expected a folder that save_pretrained wrote, with a "
            "config.json, or an adapter_config.json if it is an adapter."
        )
    if adapter:
        try:
            from peft import AutoPeftModelForCausalLM
        except ImportError as error:
            raise missing_extra("peft", "train", f"the adapter in {folder}") from error
    try:
        if adapter:
            adapted = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            return adapted.merge_and_unload()
        model, told = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        raise ModelError(f"the model in {folder} cannot be loaded: {error}") from error
    # transformers only warns, and makes up what it does not find.
    if told["missing_keys"]:
        raise ModelError(
            f"the model in {folder} is not whole: {sorted(told['missing_keys'])[0]} is missing. "
            "Save it anew with save_pretrained."
        )
    return model


def _tensors(model: Any, layout: Any, problem: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The weights of a Llama by the names, and with the rows in the order, of a GGUF file.

    Args:
        model: The model of transformers.
        layout: A reader of the GGUF file.
        problem: How messages begin.
    """
    import gguf

    fields = {name: field.contents() for name, field in layout.fields.items()}
    config, architecture = model.config, fields["general.architecture"]
    if (config.model_type, architecture) != ("llama", "llama"):
        raise ModelError(
            f"{problem}: expected the architecture 'llama' of both, found {config.model_type!r} "
            f"and {architecture!r}."
        )
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, fields["llama.block_count"])
    weights: dict[str, npt.NDArray[Any]] = {}
    for name, weight in model.state_dict().items():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        weights[known or name] = weight.numpy()
    shapes = {tensor.name: tuple(tensor.shape[::-1].tolist()) for tensor in layout.tensors}
    if _OUTPUT not in shapes:
        if np.array_equal(weights[_OUTPUT], weights[_EMBEDDING]):
            del weights[_OUTPUT]  # llama.cpp takes the embedding in its place
        else:
            shapes[_OUTPUT] = shapes[_EMBEDDING]
    for name in [*shapes, *weights]:
        expected, found = shapes.get(name), weights[name].shape if name in weights else None
        if found != expected:
            raise ModelError(
                f"{problem}: the tensor {name} has the shape {found or '(it is missing)'}, "
                f"expected {expected or 'no such tensor'}."
            )
    heads = _heads(config, fields, problem)
    for name in shapes:
        if not np.isfinite(weights[name]).all():
            raise ModelError(
                f"the tensor {name} has weights that are not finite, so that the training "
                "diverged; export an earlier state of it."
            )
        part = name.split(".")[-2]
        yield name, _paired(weights[name], heads[part]) if part in heads else weights[name]


def _heads(config: Any, fields: dict[str, Any], problem: str) -> dict[str, int]:
    """How many heads queries and keys have, once all that no shape tells is found to be equal."""
    settings = {
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.freq_base": config.rope_parameters["rope_theta"],
    }
    for key, found in settings.items():
        if key not in fields or not math.isclose(fields[key], found, rel_tol=1e-6):
            raise ModelError(f"{problem}: {key} is {found}, expected {fields.get(key)}.")
    return {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}


def _paired(weight: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """The rows of a projection as llama.cpp has them.

    To encode positions, transformers rotates feature i of a head with feature i + half, and
    llama.cpp neighbours.
    """
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


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
