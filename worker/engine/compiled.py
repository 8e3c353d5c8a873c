"""Passes of one row and few tokens as compiled graphs: there, to make the graph anew would take a third of the time.

A graph is traced once for each number of tokens, and kept: for other sizes of the pool, too, but those are few.
"""

from collections.abc import Sequence
from typing import Any, Final

import mlx.core as mx

from worker.engine.adapters import kernels
from worker.engine.adapters.rope import Table
from worker.engine.batch import ForwardBatch, SingleGroup
from worker.engine.kv.pool import Pool
from worker.engine.kv.quantization import KVQuantization
from worker.engine.model import StreamingModel

MOST_TOKENS: Final = 8
"""More are rare, and the more there are, the less there is to gain."""

Layers = Sequence[tuple[mx.array, ...]]


class CompiledPasses:
    """The compiled passes of one model, whose lanes are packed in this way."""

    def __init__(self, model: StreamingModel, quantization: KVQuantization) -> None:
        self._model, self._quantization = model, quantization
        # Weights are looked up in each pass, as they are in one that is not compiled.
        self._graph: Any = mx.compile(self._traced, inputs=model.inner.state)

    def takes(self, whole: ForwardBatch) -> bool:
        """Tell whether the pass can be a compiled one, and gains by it. It is so where mlx compiles for a CPU."""
        return (
            whole.is_single
            and whole.parts[0].capture is None
            and whole.tokens.size <= MOST_TOKENS
            and self._model.has_plain_head
            and kernels.can_fuse()
            and whole.parts[0].pool.is_reserved
        )

    def logits(self, whole: ForwardBatch, queries: list[int]) -> mx.array:
        """What `StreamingModel.batch` gives for these queries of a pass that is taken: (Q, V)."""
        part = whole.parts[0]
        layers = part.pool.hand_out()
        # All tokens' logits or none's: numbers between would each be a graph of their own.
        padded = [*queries, *[0] * (whole.tokens.size - len(queries))] if queries else []
        # The cosines and sines are made outside: within, a dozen kernels more would have to be built.
        rope_tables = self._model.rope_tables(whole.positions, whole.last_position)
        logits, layers = self._graph(
            whole.tokens, whole.positions, rope_tables, mx.array(padded, mx.int32), part.at, part.mask, layers
        )
        part.pool.take_back(layers)
        chosen: mx.array = logits[: len(queries)]
        return chosen

    def _traced(
        self, tokens: mx.array, positions: mx.array, rope_tables: Sequence[Table], queries: mx.array,
        at: tuple[mx.array, mx.array], mask: mx.array, layers: Layers,
    ) -> tuple[mx.array, Layers]:  # fmt: skip
        pool = Pool(len(layers), mask.shape[-1], self._quantization)
        pool.take_back(layers)
        # The row is no constant of the graph; a pool that has but one needs no copy of it.
        rows = slice(1) if layers[0][0].shape[0] == 1 else at[0][:1]
        whole = ForwardBatch([SingleGroup(pool, at, rows, mask)], tokens, positions)
        logits = self._model.batch(tokens, whole.caches(len(layers)), positions, queries, rope_tables)
        return logits, pool.hand_out()
