"""Compiled graphs for passes of one row and few tokens, where building the graph would take a third of the time.

A graph is traced once for each number of tokens and pool size, and kept; these are few.
"""

from collections.abc import Sequence
from typing import Any, Final

import mlx.core as mx

from worker.engine.adapters import kernels
from worker.engine.adapters.rope import Table
from worker.engine.batch import BatchAttention, ForwardBatch, SingleGroup, SlotMapping
from worker.engine.kv.pool import LayerArrays, Pool
from worker.engine.kv.quantization import KVQuantization
from worker.engine.model import StreamingModel

MOST_TOKENS: Final = 8
"""More tokens are rare, and compiling gains less the more there are."""


class CompiledForward:
    """The compiled passes of one model, whose keys and values are packed by `quantization`."""

    def __init__(self, model: StreamingModel, quantization: KVQuantization) -> None:
        self._model, self._quantization = model, quantization
        # Weights are looked up in each pass, as they are in one that is not compiled.
        self._graph: Any = mx.compile(self._forward, inputs=model.inner.state)

    def can_run(self, batch: ForwardBatch) -> bool:
        """Tell whether the pass can be compiled and gains by it; only where mlx compiles for a CPU."""
        return (
            batch.attention.is_single
            and batch.attention.groups[0].observer is None
            and batch.tokens.size <= MOST_TOKENS
            and self._model.has_plain_head
            and kernels.can_fuse()
            and batch.attention.groups[0].pool.has_arrays
        )

    def logits(self, batch: ForwardBatch, queries: list[int]) -> mx.array:
        """Return what `StreamingModel.batch` gives for these queries of a pass that can be run: (Q, V)."""
        group = batch.attention.groups[0]
        layers = group.pool.donate_arrays()
        # All tokens' logits or none: each number between would need a graph of its own.
        padded = [*queries, *[0] * (batch.tokens.size - len(queries))] if queries else []
        # The cosines and sines are computed outside: inside, they would add a dozen kernels to build.
        rope_tables = self._model.rope_tables(batch.positions, batch.last_position)
        with self._model.lock:
            logits, layers = self._graph(
                batch.tokens, batch.positions, rope_tables, mx.array(padded, mx.int32), tuple(group.slot_mapping),
                group.mask, layers,
            )  # fmt: skip
        group.pool.set_arrays(layers)
        chosen: mx.array = logits[: len(queries)]
        return chosen

    def _forward(
        self, tokens: mx.array, positions: mx.array, rope_tables: Sequence[Table], queries: mx.array,
        slot_mapping: tuple[mx.array, mx.array], mask: mx.array, layers: Sequence[LayerArrays],
    ) -> tuple[mx.array, Sequence[LayerArrays]]:  # fmt: skip
        pool = Pool(len(layers), mask.shape[-1], self._quantization)
        pool.set_arrays(layers)
        # The row is an input, not a constant of the graph; a pool with only one row needs no copy of it.
        pool_rows = slice(1) if layers[0][0].shape[0] == 1 else slot_mapping[0][:1]
        attention = BatchAttention([SingleGroup(pool, SlotMapping(*slot_mapping), pool_rows, mask)])
        logits = self._model.batch(tokens, attention.caches(len(layers)), positions, queries, rope_tables)
        return logits, pool.donate_arrays()
