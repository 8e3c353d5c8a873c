"""Which source token each drawn token attends to most, for policies that ask (AlignAtt, Papi et al. 2023, section 3).

The weights are those of the query that the token was drawn from, averaged over all heads and layers.
"""

from typing import Any

import mlx.core as mx
import numpy as np

from worker.core.ports import Lane
from worker.engine.passes import Gaze, Pass
from worker.engine.slots import FREE


class Alignments:
    """What the rows of a pass asked for, once it has run; `arrays` are to be evaluated before `values`."""

    def __init__(self, whole: Pass) -> None:
        self._gazes = [part.gaze for part in whole.parts if part.gaze is not None]
        self.arrays = [_slots(gaze) for gaze in self._gazes]

    def values(self) -> dict[Lane, tuple[int, ...]]:
        """For each lane that asks, the indices of the source tokens that its drawn tokens attend to."""
        found: dict[Lane, tuple[int, ...]] = {}
        for gaze, slots in zip(self._gazes, self.arrays, strict=True):
            picked: Any = slots.tolist()
            for share, line in zip(gaze.shares, picked, strict=True):
                ranks = share.tenant.slots.ranks[line[len(line) - share.row.num_samples :]]
                found[share.row.lane] = tuple(ranks.tolist())
        return found


def _slots(gaze: Gaze) -> mx.array:
    # Those of the source tokens that count, (A, T).
    length = gaze.weights.shape[-1]
    ranks = np.stack([share.tenant.slots.ranks[:length] for share in gaze.shares])
    since = np.array([share.row.draw.aligned_from for share in gaze.shares])[:, None]
    counts = mx.array((ranks >= since) & (ranks != FREE))[:, None]
    return mx.argmax(mx.where(counts, gaze.weights, -1.0), axis=-1)
