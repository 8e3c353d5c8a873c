"""A model with group positions: any unmodified rotary mlx-lm model, driven through dual caches.

`model(tokens, cache=…, is_reading=…) -> logits` is the surface of the documents; `StreamingModel.forward` takes a row
that reads and writes in one pass.
"""

from collections.abc import Sequence
from threading import RLock
from typing import Any, TypeAlias

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache
from mlx_lm.models.qwen2 import Model as Qwen2
from mlx_lm.models.qwen2 import ModelArgs

from worker.engine.adapters import attention, kernels
from worker.engine.adapters.rope import Positions, Table, wrap
from worker.engine.errors import UnsupportedModel
from worker.engine.kv.dual_cache import DualStreamingCache
from worker.engine.visibility import GroupLayout, Layout

# Architectures whose logits are their head applied to the last hidden states, and nothing more: computing only the
# logits that are asked for spares a third of a small model's pass.
_PLAIN_HEADS = frozenset({"llama", "mistral", "qwen2", "qwen3"})

# What mlx-lm's other caches hold, for messages.
_CACHES = {
    "ArraysCache": "recurrent states, as state-space and hybrid models do",
    "CacheList": "several caches a layer",
    "ChunkedKVCache": "chunks of the text",
}

Head: TypeAlias = tuple[int, int]
"""(layer, head): an attention head of a model."""

__all__ = ["Head", "Model", "ModelArgs", "StreamingModel"]


class StreamingModel:
    """An mlx-lm model whose calls route source and target into dual caches.

    `position_offset` is φ, the position of the first target token: 0 for a model trained with group positions.
    `alignment_heads` are the heads whose attention tells AlignAtt what a token comes from; none: all. `window_tokens`
    is the width of its narrowest sliding window, which a segment must fit into; None: it has none.
    Raises UnsupportedModel where the model has no rotary positions or keeps more of its past than keys and values.
    """

    def __init__(self, model: nn.Module, *, position_offset: int = 0, name: str = "") -> None:
        self.inner = model
        self.position_offset = position_offset
        self.alignment_heads: tuple[Head, ...] = ()
        self.name = name or str(getattr(model, "model_type", type(model).__name__))
        self._positions = Positions()
        self.lock = TracingLock()
        self.window_tokens = _window_tokens(model, self.name)
        self.num_layers = len(model.layers)
        kernels.apply_to(model)
        attention.apply_to(model)
        if not wrap(list(model.layers), self._positions):
            raise UnsupportedModel(
                f"{self.name} has no rotary position embedding (RoPE): group positions need one. Use a RoPE model, "
                "such as Qwen2/Qwen3, Llama, Mistral or Gemma"
            )
        self.evaluate()

    def evaluate(self) -> None:
        """Evaluate all arrays that this thread has set and not computed yet: from then on, any thread may use them."""
        mx.eval([module[name] for module in self.inner.modules() for name in module])

    @classmethod
    def from_pretrained(cls, path_or_repo: str) -> "StreamingModel":
        """Load the model of a directory or a hub id, as `load` does."""
        from worker.engine.loading import load

        return load(path_or_repo)[0]

    def __repr__(self) -> str:
        return (
            f"StreamingModel({self.name}, {self.num_parameters / 1e6:.1f}M parameters, φ={self.position_offset}, "
            f"{str(self.dtype).removeprefix('mlx.core.')}, {mx.default_device().type.name})"
        )

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # read before __init__ has set it (copy, pickle)
            raise AttributeError(name)
        return getattr(self.inner, name)

    @property
    def dtype(self) -> mx.Dtype:
        """The model's type of computation."""
        return _floats(self.inner)[0].dtype

    @property
    def num_parameters(self) -> int:
        """Parameters, quantised ones counted as stored."""
        return sum(array.size for array in _arrays(self.inner))

    @property
    def has_plain_head(self) -> bool:
        """Whether its logits are its head applied to the last hidden states, and nothing more."""
        return self.inner.model_type in _PLAIN_HEADS

    @property
    def layout(self) -> Layout:
        """The positions of target tokens, and what they see."""
        return GroupLayout(self.position_offset)

    def make_cache(self, layout: Layout | None = None) -> list[DualStreamingCache]:
        """Return fresh dual caches, one a layer, with the model's layout unless another is given."""
        return [DualStreamingCache(layout or self.layout) for _ in range(self.num_layers)]

    def __call__(
        self,
        inputs: mx.array,
        cache: Sequence[Any] | None = None,
        is_reading: bool = True,
        position_ids: mx.array | None = None,
        mask: mx.array | None = None,
    ) -> mx.array:
        """Read tokens into the source or write them into the target; return logits (B, T, V) of `inputs` (B, T) int.

        `cache`: from `make_cache`, or mlx-lm's own caches (then one plain sequence), or None (no past). `position_ids`
        (T,) or (B, T) int replaces the positions that the cache gives; `mask` (T, L) bool, true where a query sees a
        key, replaces the dual cache's own. Raises ValueError for inputs or positions of another shape.
        """
        if inputs.ndim != 2:
            raise ValueError(
                f"the model takes tokens of shape (B, T), got {tuple(inputs.shape)}; wrap one sequence as tokens[None]"
            )
        num_tokens = inputs.shape[1]
        if cache is None and (position_ids is not None or mask is not None):
            cache = self.make_cache()
        if cache is None or not isinstance(cache[0], DualStreamingCache):
            return self._run(inputs, cache, position_ids)
        counts = (num_tokens, 0) if is_reading else (0, num_tokens)
        for layer in cache:
            layer.announce(*counts, mask=mask)
        return self._run(inputs, cache, position_ids)

    def forward(
        self,
        source: Sequence[int],
        target: Sequence[int],
        cache: Sequence[DualStreamingCache],
        mask: mx.array | None = None,
    ) -> mx.array:
        """Read `source`, then write `target`, which sees it, in one pass; return logits (1, S + T, V)."""
        for layer in cache:
            layer.announce(len(source), len(target), mask=mask)
        positions = mx.array(cache[0].positions()) if source and target else None
        return self._run(mx.array([[*source, *target]]), cache, positions)

    def rope_tables(self, position_ids: mx.array, last: int) -> list[Table]:
        """Return the rotary tables for these positions, of which `last` is the highest, as `batch` takes them; none
        before the first pass.
        """
        return self._positions.tables(position_ids, last)

    def batch(
        self, tokens: mx.array, cache: Sequence[Any], position_ids: mx.array, queries: mx.array,
        rope_tables: Sequence[Table] = (),
    ) -> mx.array:  # fmt: skip
        """Return the logits (Q, V) behind some tokens of one pass over many rows, the head applied to those alone.

        `tokens` and `position_ids` (1, N) int32, row after row; `cache` are those of a `ForwardBatch`, which tell rows
        apart; `queries` (Q,) int32, indices into N. Q may be 0. `rope_tables`: of the positions, if they are known.
        """
        with self._positions.using(position_ids, rope_tables):
            out: mx.array = (self.inner.model if self.has_plain_head else self.inner)(tokens, cache=cache)
        chosen = out.reshape(-1, out.shape[-1])[queries]
        return _head(self.inner, chosen) if self.has_plain_head else chosen

    def _run(self, inputs: mx.array, cache: Sequence[Any] | None, position_ids: mx.array | None) -> mx.array:
        if position_ids is not None:
            if position_ids.shape[-1] != inputs.shape[1] or position_ids.ndim > 2:
                raise ValueError(
                    f"position_ids must hold one position for each of the {inputs.shape[1]} tokens, got shape "
                    f"{position_ids.shape}"
                )
            position_ids = position_ids.astype(mx.int32)
        with self.lock, self._positions.using(position_ids):
            logits: mx.array = self.inner(inputs, cache=cache)
        return logits


def _head(inner: nn.Module, hidden: mx.array) -> mx.array:
    is_tied = bool(inner.args.tie_word_embeddings)
    scores: mx.array = inner.model.embed_tokens.as_linear(hidden) if is_tied else inner.lm_head(hidden)
    return scores


class TracingLock:
    """A lock for building graphs: while mlx traces a compiled pass on one thread, the weights are placeholders to all.

    A deep copy, whose weights are its own, gets a new one.
    """

    def __init__(self) -> None:
        self._lock = RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type["TracingLock"], tuple[()]]:
        return TracingLock, ()


class Model(StreamingModel):
    """A Qwen2-architecture model with random weights and φ = 0, as in the documents: `Model(ModelArgs(…))`.

    `Model.from_pretrained(path_or_repo)` gives the `StreamingModel` of any supported architecture.
    """

    def __init__(self, args: ModelArgs) -> None:
        super().__init__(Qwen2(args), position_offset=0, name=args.model_type)


def _window_tokens(model: nn.Module, name: str) -> int | None:
    # Within the window, a layer that slides sees all, as from the plain cache that a dual one takes the place of.
    if not hasattr(model, "layers"):
        raise UnsupportedModel(f"{name} shows no `layers`; expected a decoder model of mlx-lm")
    caches = make_prompt_cache(model)
    others = sorted({type(cache).__name__ for cache in caches if type(cache) not in (KVCache, RotatingKVCache)})
    if others:
        kinds = " and ".join(f"{_CACHES.get(kind, 'caches of its own')} ({kind})" for kind in others)
        raise UnsupportedModel(
            f"{name}, of the architecture {getattr(model, 'model_type', type(model).__name__)}, keeps its past in "
            f"{kinds}; a dual cache can only take the place of plain keys and values. Use a model with plain attention "
            "in all layers, such as a Qwen or Llama model"
        )
    return min((cache.max_size for cache in caches if isinstance(cache, RotatingKVCache)), default=None)


def _arrays(model: nn.Module) -> list[mx.array]:
    return [array for _, array in tree_flatten(model.parameters())]


def _floats(model: nn.Module) -> list[mx.array]:
    return [array for array in _arrays(model) if mx.issubdtype(array.dtype, mx.floating)]
