"""Which source token each drawn token attends to most, for policies that ask (AlignAtt, Papi et al. 2023, section 3).

The weights are those of the query that the token was drawn from, averaged over all heads and layers.
"""

from typing import Any

import mlx.core as mx
import numpy as np

from worker.core.rows import Lane
from worker.engine.batch import AttentionCapture, ForwardBatch
from worker.engine.kv.slots import FREE


class Alignments:
    """What the rows of a pass asked for, once it has run; `arrays` are to be evaluated before `values`."""

    def __init__(self, whole: ForwardBatch) -> None:
        self._gazes = [part.capture for part in whole.parts if part.capture is not None]
        self.arrays = [_slots(capture) for capture in self._gazes]

    def values(self) -> dict[Lane, tuple[int, ...]]:
        """For each lane that asks, the indices of the source tokens that its drawn tokens attend to."""
        found: dict[Lane, tuple[int, ...]] = {}
        for capture, slots in zip(self._gazes, self.arrays, strict=True):
            picked: Any = slots.tolist()
            for share, line in zip(capture.shares, picked, strict=True):
                ranks = share.allocation.slots.ranks[line[len(line) - share.row.num_samples :]]
                found[share.row.lane] = tuple(ranks.tolist())
        return found


def _slots(capture: AttentionCapture) -> mx.array:
    # Those of the source tokens that count, (A, T).
    length = capture.weights.shape[-1]
    ranks = np.stack([share.allocation.slots.ranks[:length] for share in capture.shares])
    since = np.array([share.row.sampling.aligned_from for share in capture.shares])[:, None]
    counts = mx.array((ranks >= since) & (ranks != FREE))[:, None]
    return mx.argmax(mx.where(counts, capture.weights, -1.0), axis=-1)
