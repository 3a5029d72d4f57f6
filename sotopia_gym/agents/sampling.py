"""A model of transformers that answers many conversations at once."""

from __future__ import annotations

import copy
import random
import threading
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch

from sotopia_gym.agents.decoding import (
    Batch,
    Row,
    Sampling,
    any_length,
    check_exact,
    draw,
    read,
)
from sotopia_gym.agents.guide import Guide, Vocabulary
from sotopia_gym.agents.template import ChatTemplate, common_prefix
from sotopia_gym.errors import ContextOverflowError, ModelError, missing_extra
from sotopia_gym.llm import convert

_CACHE_BYTES: Final = 2 << 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What was sampled for one prompt.

    Attributes:
        ids: The ids, the one that ends the answer included; without it, it was cut off.
        logprobs: Natural log-probability of each under the distribution it was drawn from.
        reused: How many ids of the prompt were not read, because their keys and values were kept.
        version: The version of the weights.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    reused: int
    version: int


@dataclass(eq=False, slots=True)
class _Request:
    prompt: tuple[int, ...]
    random: random.Random
    episode: Hashable
    future: Future[Answer]
    guide: Guide | None = None
    row: Row | None = None
    reused: int = 0


class Sampler:
    """One model, one tokenizer, and the batch of all who wait for an answer.

    Requests come from any thread or event loop, and one thread of the sampler's own does the
    work. It starts at once: whoever comes while others are being answered joins them at the next
    token, and nobody waits for a batch to fill or to end. An answer depends on its prompt, its
    seed and the weights; on what else is in the batch only through the last bits of floating-point
    sums, and with ``exact`` not at all: then episodes are the same whatever is played beside them,
    as long as ``cache_bytes`` holds those in flight.

    Between the turns of an episode the keys and values of its ids are kept, those longest unused
    dropped first, so that a turn reads only what is new. So are those of the prompts that episodes
    began with lately: members of a group, and a task against several partners, begin alike.

    Args:
        model: A causal language model of transformers, or of peft. It is put into
            evaluation mode, so that whoever trains it between rollouts sets training mode anew.
        tokenizer: Its tokenizer, with a chat template.
        name: What episodes call it, e.g. the path of its folder.
        sampling: The distribution that tokens are drawn from.
        max_batch: Most answers written at the same time.
        cache_bytes: Most memory for the keys and values of episodes between their turns, and an
            eighth of it more for prompts that episodes began with; 0 keeps none.
        exact: Whether answers must be the same, bit for bit, whatever else is in the batch. It
            works in float32 on a CPU, and costs some of the speed.

    Attributes:
        model: The model. After its parameters were changed in place, call :meth:`update`.
        template: The chat template.
        sampling: The distribution that tokens are drawn from.
        context: Most tokens of a prompt and its answer.
        weights_version: How often the weights were changed.

    Raises:
        ConfigError: If ``exact`` cannot be had.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        sampling: Sampling | None = None,
        max_batch: int = 32,
        cache_bytes: int = _CACHE_BYTES,
        exact: bool = False,
    ) -> None:
        if exact:
            check_exact(model.eval())
        self.name = name
        self.sampling = sampling or Sampling()
        ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        self.template = ChatTemplate(tokenizer, [ends] if isinstance(ends, int) else ends or [])
        self.context = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 20)
        self.weights_version = 0
        self.model, self.tokenizer, self._exact = model, tokenizer, exact
        self._max_batch, self._cache_bytes = max_batch, cache_bytes
        self._kept = _Memories(cache_bytes)
        self._openings = _Openings(cache_bytes // 8)
        self._lock = threading.Lock()
        self._waiting: deque[_Request] = deque()
        self._changes: deque[tuple[Mapping[str, Any] | None, Future[None]]] = deque()
        self._working = False
        self._thread: ThreadPoolExecutor | None = None

    @classmethod
    def load(
        cls, path: str, *, device: str | None = None, dtype: str | None = None, **options: Any
    ) -> Sampler:
        """The model in a folder that ``save_pretrained`` wrote, or an adapter of peft there.

        Args:
            path: The folder; or, where the hub can be reached, the name of a model there.
            device: Where it computes; a GPU if there is one.
            dtype: Its precision, e.g. ``"bfloat16"``; by default float32 on a CPU, and what it was
                saved in on a GPU.
            **options: As for :class:`Sampler`.

        Raises:
            MissingDependencyError: If the adapter needs peft, which is not installed.
            ModelError: If it cannot be loaded.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or ("float32" if device == "cpu" else "auto")
        try:
            model, tokenizer = _loaded(path, dtype)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"no model could be loaded from {path!r}; expected a folder that save_pretrained "
                f"wrote, with a tokenizer: {error}"
            ) from error
        return cls(model.to(device).eval(), tokenizer, name=path, **options)

    def frozen(self, name: str) -> Sampler:
        """A sampler of a copy of the model, which stays as it is when this one's weights change."""
        return Sampler(
            copy.deepcopy(self.model),
            self.tokenizer,
            name=name,
            sampling=self.sampling,
            max_batch=self._max_batch,
            cache_bytes=self._cache_bytes,
            exact=self._exact,
        )

    def save(self, folder: Path) -> None:
        """Write model and tokenizer to a folder that :meth:`load` loads."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @property
    def dtype(self) -> str:
        """The precision of the weights, e.g. ``"float32"``."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def room(self) -> int:
        """Most tokens of a prompt."""
        return self.context - self.sampling.max_tokens

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        size = self.model.get_output_embeddings().weight.shape[0]
        return Vocabulary(self.tokenizer, size, self.model.device, self.template.stops)

    def guide(self, schema: Mapping[str, Any]) -> Guide:
        """What holds one answer to the actions that a schema allows.

        Raises:
            ConfigError: If ``max_tokens`` is too few for one.
        """
        return Guide(self.template, self._vocabulary, schema, self.sampling.max_tokens)

    def submit(
        self,
        prompt: Sequence[int],
        *,
        seed: str,
        episode: Hashable,
        guide: Guide | None = None,
    ) -> Future[Answer]:
        """Ask for an answer.

        Args:
            prompt: The ids of the prompt.
            seed: Equal seeds give equal answers to equal prompts.
            episode: Prompts of one episode begin alike, so that much of one need not be read again.
            guide: What the answer is held to. The ids that it leaves no choice in are part of the
                answer, with a log-probability of 0.

        Raises:
            ContextOverflowError: If the prompt leaves no room for an answer.
        """
        self._check_room(prompt)
        request = _Request(tuple(prompt), random.Random(seed), episode, Future(), guide)
        with self._lock:
            self._waiting.append(request)
            self._wake()
        return request.future

    def update(self, state: Mapping[str, Any] | None = None) -> int:
        """Change the weights, once the answers being written are done; return when it is done.

        Args:
            state: The new weights, as ``state_dict`` gives them; None if the model's parameters
                were changed in place.

        Returns:
            The new :attr:`weights_version`.
        """
        done: Future[None] = Future()
        with self._lock:
            self._changes.append((state, done))
            self._wake()
        done.result()
        return self.weights_version

    def close(self) -> None:
        """Let go of the thread and of what was kept between turns; it may be used again."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown()
        self._kept.clear()
        self._openings.clear()

    def _check_room(self, prompt: Sequence[int]) -> None:
        if len(prompt) > self.room:
            raise ContextOverflowError(
                f"the prompt has {len(prompt)} tokens, at most {self.room} leave room for an "
                f"answer in the context of {self.context} tokens."
            )

    # --- in the sampler's thread ----------------------------------------------------------

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="policy")
        if not self._working:
            self._working = True
            self._thread.submit(self._work)

    @any_length
    def _work(self) -> None:
        self.model.eval()
        batch, running = Batch(self.model, exact=self._exact), list[_Request]()
        while True:
            try:
                with torch.inference_mode():
                    if not self._round(batch, running):
                        return
            except Exception as error:  # whatever it is, nobody may wait for ever
                for request in running:
                    _fail(request, error)
                batch, running = Batch(self.model, exact=self._exact), []

    def _round(self, batch: Batch, running: list[_Request]) -> bool:
        """Take in who waits and write one token of every answer; False if there is nothing."""
        if not running:
            self._change()
        while (request := self._next(len(running))) is not None:
            if request.future.set_running_or_notify_cancel() and self._begin(request):
                assert request.row is not None
                running.append(request)
                batch.join(request.row)
        if not running:
            return not self._rests()
        self._draw(batch, running)
        batch.step()
        return True

    def _next(self, running: int) -> _Request | None:
        """Who joins; nobody while weights wait to be changed."""
        with self._lock:
            if self._changes or not self._waiting or running >= self._max_batch:
                return None
            return self._waiting.popleft()

    def _rests(self) -> bool:
        """Whether there is nothing to do; if so, it takes another :meth:`_wake` to go on."""
        with self._lock:
            self._working = bool(self._waiting or self._changes)
            return not self._working

    def _begin(self, request: _Request) -> bool:
        """Read the prompt; False if there is nothing to draw."""
        forced = () if request.guide is None else request.guide.forced()
        if forced and forced[-1] == self.template.stop:
            whole = Answer(forced, (0.0,) * len(forced), 0, self.weights_version)
            request.future.set_result(whole)
            return False
        memory, request.reused = self._kept.take(request.episode, request.prompt)
        try:
            ids = (*request.prompt, *forced)
            if memory is None and (row := self._openings.get(ids)) is not None:
                request.row, request.reused = row, len(request.prompt)
            else:
                request.row = read(self.model, ids, memory)
                if memory is None:
                    self._openings.keep(ids, request.row)
            request.row.ids += forced
            request.row.logprobs += [0.0] * len(forced)
        except Exception as error:  # one prompt must not cost others their answers
            _fail(request, error)
            return False
        return True

    def _draw(self, batch: Batch, running: list[_Request]) -> None:
        """Draw a token for every row; those that end leave."""
        rows = batch.rows
        of = {id(request.row): request for request in running}
        uniforms = [of[id(row)].random.random() for row in rows]
        logits = [_restricted(row.logits, of[id(row)].guide) for row in rows]
        ids, logprobs = draw(torch.stack(logits), self.sampling, uniforms)
        for row, id_, logprob in zip(list(rows), ids, logprobs, strict=True):
            row.ids.append(id_)
            row.logprobs.append(logprob)
            if (guide := of[id(row)].guide) is not None:
                guide.take(id_)
            if id_ in self.template.stops or len(row.ids) == self.sampling.max_tokens:
                batch.leave(row)
                request = of[id(row)]
                running.remove(request)
                self._finish(request, row)

    def _finish(self, request: _Request, row: Row) -> None:
        read_ids = (*request.prompt, *row.ids)[: row.length]
        self._kept.keep(request.episode, read_ids, row.memory)
        request.future.set_result(
            Answer(tuple(row.ids), tuple(row.logprobs), request.reused, self.weights_version)
        )

    def _change(self) -> None:
        """Make the changes of weights that were asked for."""
        while self._changes:
            state, done = self._changes.popleft()
            try:
                if state is not None:
                    self.model.load_state_dict(state)
            except Exception as error:  # it belongs to who asked for the change
                done.set_exception(error)
                continue
            self._kept.clear()
            self._openings.clear()
            self.weights_version += 1
            done.set_result(None)


class _Memories:
    """The keys and values of episodes between their turns, the longest unused dropped first."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._kept: OrderedDict[Hashable, tuple[tuple[int, ...], Any]] = OrderedDict()

    def take(self, episode: Hashable, prompt: tuple[int, ...]) -> tuple[Any, int]:
        """What is kept of the beginning of ``prompt``, and of how many ids; None and 0 if none."""
        ids, memory = self._kept.pop(episode, ((), None))
        if memory is None:
            return None, 0
        self._bytes -= memory.nbytes
        # The logits come from reading at least one token.
        shared = min(common_prefix(ids, prompt), len(prompt) - 1)
        return (memory[..., :shared, :], shared) if shared else (None, 0)

    def keep(self, episode: Hashable, ids: tuple[int, ...], memory: Any) -> None:
        if memory.nbytes > self._most:
            return
        self.take(episode, ids)
        self._kept[episode] = ids, memory
        self._bytes += memory.nbytes
        while self._bytes > self._most:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0


class _Openings:
    """Prompts that were read from their beginning, those longest unused dropped first.

    Whoever begins with the very same ids gets the very same numbers, so that nothing depends on
    whether they are here.
    """

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._kept: OrderedDict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = OrderedDict()

    def get(self, ids: tuple[int, ...]) -> Row | None:
        if ids not in self._kept:
            return None
        self._kept.move_to_end(ids)
        logits, memory = self._kept[ids]
        return Row(logits, len(ids), memory)

    def keep(self, ids: tuple[int, ...], row: Row) -> None:
        assert row.memory is not None
        self._kept[ids] = row.logits, row.memory
        self._bytes += row.memory.nbytes
        while self._bytes > self._most:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0


def _restricted(logits: torch.Tensor, guide: Guide | None) -> torch.Tensor:
    return logits if guide is None else guide.restrict(logits)


def _fail(request: _Request, error: Exception) -> None:
    if not isinstance(error, ModelError):
        wrapped = ModelError(f"the policy could not answer: {type(error).__name__}: {error}")
        wrapped.__cause__ = error
        error = wrapped
    request.future.set_exception(error)


def _loaded(path: str, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM

    if not convert.is_adapter(path):
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        return model, convert.tokenizer(path)
    try:
        from peft import AutoPeftModelForCausalLM
    except ImportError as error:
        raise missing_extra("peft", "train", f"the adapter in {path}") from error
    model = AutoPeftModelForCausalLM.from_pretrained(path, dtype=dtype)
    return model, convert.tokenizer(path)
