"""The arithmetic of sampling from a model of transformers: keys and values, batches, draws.

Prompts are read one at a time, each onto the keys and values of what was read before it, and
answers are written together, one token for every row in a step. So no row is ever padded in the
middle, and rows may join and leave between any two steps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ContextDecorator, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch.backends import cuda
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer

from sotopia_gym.errors import ConfigError, ModelError

_SLACK: Final = 128
"""Columns that a slab has beyond its longest row, so that it is not made anew at every step."""

_EXACT: Final = "sotopia_gym_exact"
"""Name of the attention that reads every row by itself."""

_LANES: Final = 8
"""An exact batch is filled up to a multiple of so many rows, so that matrices of one row are
multiplied by the same kernels as those of many."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """The distribution that tokens are drawn from.

    With the defaults it is the model's own, as policy gradients need it. Logits are divided by
    ``temperature``; then only the most probable tokens that together have at least ``top_p`` are
    kept, and their probabilities scaled to sum to 1.

    Attributes:
        temperature: Above 0; or 0 for the most probable token always, whose log-probability is
            then 0, since nothing else can be drawn.
        top_p: Above 0, at most 1; 1 keeps all.
        max_tokens: Longest answer, in tokens.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 160

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ConfigError(f"temperature must be at least 0, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p}.")
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, got {self.max_tokens}.")


def draw(
    logits: torch.Tensor, sampling: Sampling, uniforms: Sequence[float]
) -> tuple[list[int], list[float]]:
    """Draw one token for each row, by inverting its cumulative distribution over the ids.

    A row's token depends on its own logits and number alone.

    Args:
        logits: Shape (rows, vocabulary).
        sampling: The distribution.
        uniforms: A number in [0, 1) for each row.

    Returns:
        The ids, and the natural log-probability of each under the distribution drawn from.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1).tolist(), [0.0] * len(uniforms)
    logprobs = distribution(logits, sampling)
    mass = logprobs.double().exp().cumsum(-1)
    points = torch.tensor(uniforms, dtype=torch.float64, device=mass.device)[:, None]
    ids = torch.searchsorted(mass, points * mass[:, -1:], right=True)
    ids.clamp_(max=logits.shape[-1] - 1)
    return ids[:, 0].tolist(), logprobs.gather(-1, ids)[:, 0].tolist()


def distribution(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The log-probabilities that tokens are drawn with, -inf for those that cannot be.

    Args:
        logits: Shape (..., vocabulary).
        sampling: The distribution; its temperature must be above 0.
    """
    logprobs = torch.log_softmax(logits.float() / sampling.temperature, -1)
    if sampling.top_p == 1:
        return logprobs
    ordered, order = logprobs.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    kept = torch.zeros_like(logprobs, dtype=torch.bool).scatter(-1, order, before < sampling.top_p)
    return torch.log_softmax(logprobs.masked_fill(~kept, float("-inf")), -1)


@dataclass(eq=False, slots=True)
class Row:
    """One answer being written.

    Attributes:
        logits: What the next token is drawn from, shape (vocabulary,).
        length: How many tokens its keys and values are of.
        memory: The keys and values, shape (layers, 2, heads, length, features); None while they
            are in a batch.
        ids: The tokens drawn so far.
        logprobs: Their log-probabilities.
    """

    logits: torch.Tensor
    length: int
    memory: torch.Tensor | None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def read(model: Any, ids: Sequence[int], memory: torch.Tensor | None) -> Row:
    """Read a prompt.

    Args:
        model: The model.
        ids: The whole prompt.
        memory: Keys and values of its first tokens, fewer than all; None for none.

    Raises:
        ModelError: If the model keeps something else than keys and values of one shape.
    """
    past = 0 if memory is None else memory.shape[-2]
    layers = [] if memory is None else [_filled(keys, values) for keys, values in memory]
    cache = Cache(layers=layers) if layers else Cache(layer_class_to_replicate=DynamicLayer)
    device = model.device
    out = model(
        input_ids=torch.tensor([ids[past:]], device=device),
        position_ids=torch.arange(past, len(ids), device=device)[None],
        attention_mask=torch.ones((1, len(ids)), dtype=torch.long, device=device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    try:
        pairs = [torch.cat((layer.keys, layer.values)) for layer in cache.layers]
        stacked = torch.stack(pairs)
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be sampled from here: its layers must all keep keys "
            f"and values of one shape ({error})."
        ) from error
    return Row(out.logits[0, -1], len(ids), stacked)


class Batch:
    """Rows that are decoded together.

    Their keys and values lie in one slab, each row's ending at the same column, so that a step
    writes one column and copies nothing. Rows differ in position and in how many columns on the
    left they do not see.

    Args:
        model: The model.
        exact: Whether a row's logits must be the same, bit for bit, whatever other rows there are.
            Attention then reads every row by itself, and idle rows fill the batch up.
    """

    def __init__(self, model: Any, *, exact: bool = False) -> None:
        self.rows: list[Row] = []
        self._model, self._exact = model, exact
        self._slab: torch.Tensor | None = None  # (layers, 2, slots, heads, columns, features)
        self._end = 0

    def join(self, row: Row) -> None:
        """Take in a row with its memory."""
        slab = self._slab
        full = slab is None or len(self.rows) == slab.shape[2] or self._end == slab.shape[4]
        if full or row.length > self._end:
            self._arrange(row)
        self._place(row, len(self.rows))
        self.rows.append(row)

    def leave(self, row: Row) -> None:
        """Let go of a row; it gets its memory back."""
        place, last = self.rows.index(row), self.rows.pop()
        row.memory = self._columns(place, row.length).clone()
        if last is not row:
            self._columns(place, last.length).copy_(self._columns(len(self.rows), last.length))
            self.rows[place] = last
        if not self.rows:
            self._slab = None

    def step(self) -> None:
        """Read the latest token of every row; their logits become those of the next."""
        if self._slab is None:
            return
        if self._end == self._slab.shape[4]:
            self._arrange()
        end, device, count = self._end, self._slab.device, len(self.rows)
        idle = -count % _LANES if self._exact else 0
        known = [row.length for row in self.rows]
        lengths = torch.tensor(known + [0] * idle, device=device)[:, None]
        seen = torch.arange(end + 1, device=device)[None] >= end - lengths
        latest = [[row.ids[-1]] for row in self.rows] + [[0]] * idle
        with _attention(self._model, _EXACT if self._exact else None):
            out = self._model(
                input_ids=torch.tensor(latest, device=device),
                position_ids=lengths,
                attention_mask=seen.long(),
                past_key_values=Cache(layers=self._layers()),
                use_cache=True,
                logits_to_keep=1,
                **({"row_lengths": [length + 1 for length in known]} if self._exact else {}),
            )
        self._end += 1
        for row, logits in zip(self.rows, out.logits[:count, -1], strict=True):
            row.length += 1
            row.logits = logits

    def _layers(self) -> list[DynamicLayer]:
        slab, count = self._slab, len(self.rows)
        assert slab is not None
        return [_Column(keys[:count], values[:count], self._end) for keys, values in slab]

    def _columns(self, place: int, length: int) -> torch.Tensor:
        assert self._slab is not None
        return self._slab[:, :, place, :, self._end - length : self._end]

    def _place(self, row: Row, place: int) -> None:
        self._columns(place, row.length).copy_(row.memory)
        row.memory = None

    def _arrange(self, joining: Row | None = None) -> None:
        """Make a new slab with room for the rows, one that joins, and some more tokens."""
        memories = [self._columns(i, row.length) for i, row in enumerate(self.rows)]
        rows = [*self.rows, *([joining] if joining else [])]
        sample: Any = memories[0] if joining is None else joining.memory
        layers, _, heads, _, features = sample.shape
        slots = 1 << (len(rows) - 1).bit_length()
        self._end = max(row.length for row in rows)
        # What is not seen is multiplied by 0, which must not meet the NaN of unused memory.
        self._slab = sample.new_zeros((layers, 2, slots, heads, self._end + _SLACK, features))
        for place, (row, memory) in enumerate(zip(self.rows, memories, strict=True)):
            self._columns(place, row.length).copy_(memory)


class _Column(DynamicLayer):
    """One layer of a slab, as transformers wants it: it takes in one column."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, end: int) -> None:
        super().__init__()
        self.keys, self.values, self._end = keys, values, end
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        end, count = self._end + 1, len(self.keys)
        self.keys[:, :, self._end : end] = key_states[:count]
        self.values[:, :, self._end : end] = value_states[:count]
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self._end


def check_exact(model: Any) -> None:
    """Raise unless a row's logits are the same alone and beside others, here and now.

    Raises:
        ConfigError: If they are not: this model, its precision or this machine cannot be exact.
    """
    prompts = [[3 + (7 * i + j) % 97 for j in range(9 + 5 * i)] for i in range(_LANES + 3)]

    def logits(chosen: Sequence[int], steps: int = 2) -> list[torch.Tensor]:
        batch = Batch(model, exact=True)
        for index in chosen:
            row = read(model, prompts[index], None)
            row.ids.append(index)
            batch.join(row)
        for _ in range(steps):
            batch.step()
        return [row.logits for row in batch.rows]

    with torch.inference_mode():
        together = logits(range(len(prompts)))
        alone = [logits([index])[0] for index in range(len(prompts))]
    if not all(torch.equal(one, other) for one, other in zip(together, alone, strict=True)):
        raise ConfigError(
            f"{type(model).__name__} on {model.device} in {model.dtype} does not answer alike, bit "
            "for bit, alone and beside others. Use float32 on a CPU, or exact=False."
        )


class _AnyLength(ContextDecorator):
    """While entered, by however many threads, attention is never that of cuDNN.

    On some GPUs torch prefers it, and compiles it anew for every length that it meets, which here
    is another one at every step: sampling took three to four times as long on an H200.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, True

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = cuda.cudnn_sdp_enabled()
                cuda.enable_cudnn_sdp(False)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cuda.enable_cudnn_sdp(self._before)


any_length: Final = _AnyLength()
"""Around whatever samples: torch knows one setting for all threads."""


@contextmanager
def _attention(model: Any, name: str | None) -> Iterator[None]:
    """Have the model attend in another way meanwhile."""
    if name is None:
        yield
        return
    known = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = known


def _row_by_row(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    row_lengths: Sequence[int],
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one token a row to the last ``row_lengths`` columns of its own row."""
    refused = [name for name in ("sliding_window", "softcap", "s_aux") if kwargs.get(name)]
    if refused:
        raise ConfigError(
            f"{type(module).__name__} attends with {', '.join(refused)}, which exact sampling does "
            "not know; use exact=False."
        )
    out = query.new_zeros(query.shape[0], 1, *query.shape[1::2])
    groups = query.shape[1] // key.shape[1]
    for index, length in enumerate(row_lengths):
        seen = slice(index, index + 1), slice(None), slice(key.shape[2] - length, None)
        asked = query[index].reshape(1, key.shape[1], groups, -1)
        read_ = scaled_dot_product_attention(asked, key[seen], value[seen], scale=scaling)
        out[index, 0] = read_.reshape(query.shape[1], -1)
    return out, None


AttentionInterface.register(_EXACT, _row_by_row)


def _filled(keys: torch.Tensor, values: torch.Tensor) -> DynamicLayer:
    layer = DynamicLayer()
    layer.update(keys[None], values[None])
    return layer
