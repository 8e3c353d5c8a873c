"""Which source token each drawn token attends to most, for policies that ask (AlignAtt, Papi et al. 2023, section 3).

The weights are those of the query that the token was drawn from, averaged over all heads and layers.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from worker.core.ports import Lane
from worker.engine.passes import Pass, Share
from worker.engine.slots import FREE


def is_asked(shares: Sequence[Share]) -> bool:
    """Tell whether a row of the pass asks."""
    return any(_asks(share) for share in shares)


class Alignments:
    """What the rows of a pass asked for, whose weights are there; `arrays` are to be evaluated before `values`."""

    def __init__(self, whole: Pass, shares: Sequence[Share]) -> None:
        self.arrays: list[mx.array] = []  # the slots (T,) of each row that asks
        self._shares: list[Share] = []
        end = 0
        for share in shares:
            end += len(share.tokens)
            if _asks(share):
                self.arrays.append(_slots(whole, share, end))
                self._shares.append(share)

    def values(self) -> dict[Lane, tuple[int, ...]]:
        """For each lane that asks, the indices of the source tokens that its drawn tokens attend to."""
        found = {}
        for share, slots in zip(self._shares, self.arrays, strict=True):
            picked: Any = slots.tolist()
            found[share.row.lane] = tuple(share.tenant.slots.ranks[picked].tolist())
        return found


def _asks(share: Share) -> bool:
    return share.row.draw.aligned_from is not None and share.row.num_samples > 0


def _slots(whole: Pass, share: Share, end: int) -> mx.array:
    number, part = next((i, part) for i, part in enumerate(whole.parts) if part.span.start < end <= part.span.stop)
    weights = whole.weights[number]
    first = end - share.row.num_samples - part.span.start
    ranks = share.tenant.slots.ranks[: weights.shape[-1]]
    is_source = (ranks >= (share.row.draw.aligned_from or 0)) & (ranks != FREE)
    seen = mx.where(mx.array(np.asarray(is_source)), weights[first : end - part.span.start], -1.0)
    return mx.argmax(seen, axis=-1)
