"""What each attention head of a model attends to while it writes a given target: the measurement behind calibration."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from worker.core.rows import Row, SampleSpec
from worker.engine.adapters import kernels
from worker.engine.batch import BatchRow, SingleGroup, make_batch
from worker.engine.errors import UnsupportedModel
from worker.engine.kv.pool import Pool
from worker.engine.kv.quantization import KVQuantization
from worker.engine.kv.slots import Slots
from worker.engine.model import Head, StreamingModel
from worker.engine.visibility import ContiguousLayout

_LANE: Final = (0, 0)


class HeadAttention(NamedTuple):
    """The weights that each of N heads gives to S source tokens, for each of T queries: (N, T, S) fp16."""

    heads: tuple[Head, ...]
    weights: NDArray[np.float16]


def head_attention(
    model: StreamingModel, source: Sequence[int], target: Sequence[int], *, num_queries: int, words: slice,
    is_contiguous: bool,
) -> HeadAttention:  # fmt: skip
    """Read the source, then write the target, in one pass; return what its last `num_queries` tokens attend to, among
    the source tokens of the slice `words`. `is_contiguous` as in `worker.core.rows.Prompt`.

    Raises UnsupportedModel where the layers do not attend by the engine's function.
    """
    row = Row(_LANE, tuple(source), tuple(target), 0, 0, SampleSpec(), is_contiguous=is_contiguous)
    pool = Pool(model.num_layers, len(source) + len(target), KVQuantization())
    pool.grow(1)
    layout = ContiguousLayout() if is_contiguous else model.layout
    batch = make_batch([(pool, [BatchRow(pool.allocate(_LANE, Slots(pool.length, layout)), row)])])
    observer = _HeadObserver(batch.attention.groups[0], num_queries, words)
    caches = batch.attention.caches(model.num_layers)
    mx.eval(model.batch(batch.tokens, caches, batch.positions, mx.array([], mx.int32)), pool.arrays)
    if batch.attention.num_attended_layers < model.num_layers:
        raise UnsupportedModel(
            f"{model.name} has an attention of its own, which does not show what it attends to: its heads cannot be "
            "calibrated, and it cannot translate with align-att; ask for another policy"
        )
    return HeadAttention(tuple(observer.heads), np.array(mx.concatenate(observer.weights)))


class _HeadObserver:
    # The source of a new lane is in its first slots, so that its slots are its tokens.

    def __init__(self, group: SingleGroup, num_queries: int, words: slice) -> None:
        group.observer = self
        self.heads: list[Head] = []
        self.weights: list[mx.array] = []  # (H, T, S) of each layer
        self._group, self._num_queries, self._words = group, num_queries, words

    def add_layer(self, layer: int, queries: mx.array, scale: float) -> None:
        """Note what the heads of a layer attend to."""
        keys, _ = self._group.fetch(layer)
        mask = self._group.mask[-self._num_queries :][None, None]
        weights = kernels.weights(queries[:, :, -self._num_queries :], keys, mask=mask, scale=scale)
        self.heads += [(layer, head) for head in range(queries.shape[1])]
        self.weights.append(weights[0, ..., self._words].astype(mx.float16))
