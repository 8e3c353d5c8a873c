"""The source token that each drawn token attends to most, for policies that ask (AlignAtt, Papi et al. 2023, sec. 3).

The weights are those of the query that the token was drawn from, averaged over the model's alignment heads: those that
`decalage calibrate` found to align target and source, else all heads of all layers.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np

from worker.core.rows import Lane
from worker.engine.adapters import kernels
from worker.engine.batch import BatchAttention, BatchRow, SingleGroup
from worker.engine.model import Head
from worker.engine.visibility import FREE


class AttentionCapture:
    """Alignment of the drawn tokens of a batch, for those rows that ask; make it before the pass, read it afterwards.

    `heads`: the heads to average over; none: all. Evaluate `arrays` before `aligned_sources`.
    """

    def __init__(self, attention: BatchAttention, heads: Sequence[Head] = ()) -> None:
        by_layer: defaultdict[int, list[int]] = defaultdict(list)
        for layer, head in heads:
            by_layer[layer].append(head)
        self._groups = [_GroupCapture(group, by_layer) for group in attention.groups if any(map(_is_asked, group.rows))]

    @cached_property
    def arrays(self) -> list[mx.array]:
        """For each group, the slots that the drawn tokens attend to most, (A, T) int."""
        return [group.attended_slots() for group in self._groups]

    def aligned_sources(self) -> dict[Lane, tuple[int, ...]]:
        """Return the indices of the source tokens that the drawn tokens attend to, for each lane that asks."""
        aligned: dict[Lane, tuple[int, ...]] = {}
        for group, array in zip(self._groups, self.arrays, strict=True):
            slots: Any = array.tolist()
            for row, line in zip(group.rows, slots, strict=True):
                ranks = row.allocation.slots.ranks[line[len(line) - row.row.num_samples :]]
                aligned[row.row.lane] = tuple(ranks.tolist())
        return aligned


class _GroupCapture:
    # The queries (A, T) that tokens are drawn from, of each asking row the last T, and their weights. `heads` are those
    # of each layer that count; empty: all do.

    def __init__(self, group: SingleGroup, heads: Mapping[int, list[int]]) -> None:
        group.observer = self
        self._heads = heads
        asking_rows = [i for i, row in enumerate(group.rows) if _is_asked(row)]
        self.rows = [group.rows[i] for i in asking_rows]
        self._pool = group.pool
        self._pool_rows = mx.array([row.allocation.pool_row for row in self.rows])
        num_drawn = max(row.row.num_samples for row in self.rows)
        columns = [np.maximum(0, len(row.tokens) + np.arange(-num_drawn, 0)) for row in self.rows]
        places = [group.start_of(i) + column for i, column in zip(asking_rows, columns, strict=True)]
        self._shape = len(asking_rows), num_drawn
        self._tokens = mx.array(np.concatenate(places).astype(np.int32))
        visible = [group.visible_to(i, mx.array(column)) for i, column in zip(asking_rows, columns, strict=True)]
        self._mask = mx.stack(visible)[:, None]  # (A, 1, T, L)
        self._weights = mx.array(0.0)  # (A, T, L): summed over heads and layers

    def add_layer(self, layer: int, queries: mx.array, scale: float) -> None:
        """Add the weights of a layer, by the batch's queries (1, H, N, D)."""
        if self._heads and layer not in self._heads:
            return
        drawn = mx.take(queries[0], self._tokens, axis=1)
        lines = drawn.reshape(drawn.shape[0], *self._shape, drawn.shape[-1]).transpose(1, 0, 2, 3)
        keys, _ = self._pool.fetch(layer, self._pool_rows, self._mask.shape[-1])
        if self._heads:  # each head with the keys that it shares with others
            heads, num_sharing = np.array(self._heads[layer]), lines.shape[1] // keys.shape[1]
            lines, keys = lines[:, mx.array(heads)], keys[:, mx.array(heads // num_sharing)]
        self._weights = self._weights + kernels.weights(lines, keys, mask=self._mask, scale=scale).sum(axis=1)

    def attended_slots(self) -> mx.array:
        """Return the most attended slots among those of the source tokens that count, (A, T) int."""
        length = self._mask.shape[-1]
        ranks = np.stack([row.allocation.slots.ranks[:length] for row in self.rows])
        since = np.array([row.row.sampling.aligned_from for row in self.rows])[:, None]
        counts = mx.array((ranks >= since) & (ranks != FREE))[:, None]
        return mx.argmax(mx.where(counts, self._weights, -mx.inf), axis=-1)


def _is_asked(row: BatchRow) -> bool:
    return row.row.sampling.aligned_from is not None and row.row.num_samples > 0
