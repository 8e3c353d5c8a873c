"""The slots of a lane and their tokens: the bookkeeping of one row of keys and values, without the arrays.

Attention does not care about the order of keys, so a slot only remembers its token's rank (`worker.engine.visibility`).
A target token that is rolled back leaves a hole, which the next token fills.
"""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from worker.engine.visibility import FREE, CacheState, Layout, TokenMetadata


class Slots:
    """The slots of one lane: `ranks` (L,) int32, and `target_slots`, the slots of the target tokens in their order."""

    def __init__(self, length: int, layout: Layout) -> None:
        self.ranks: NDArray[np.int32] = np.full(length, FREE, np.int32)
        self.state = CacheState()
        self.target_slots: list[int] = []
        self.top = 0  # slots from here on were never used
        self._holes: list[int] = []
        self._layout = layout

    @property
    def num_used(self) -> int:
        """Slots that hold a token."""
        return self.state.num_tokens

    @property
    def length(self) -> int:
        """All slots."""
        return len(self.ranks)

    def grow(self, length: int) -> None:
        """Add free slots up to this number."""
        self.ranks = np.concatenate([self.ranks, np.full(length - self.length, FREE, np.int32)])

    def trim_target(self, num_kept: int) -> None:
        """Drop all target tokens but the first `num_kept`. Raises ValueError where there are fewer."""
        if num_kept > len(self.target_slots):
            raise ValueError(f"the lane holds {len(self.target_slots)} target tokens, the row starts behind {num_kept}")
        dropped = self.target_slots[num_kept:]
        del self.target_slots[num_kept:]
        self.ranks[dropped] = FREE
        self._holes += dropped
        self.state = replace(self.state, num_target=num_kept)

    def append(
        self, num_source: int, num_target: int, visible_source: Sequence[int] = ()
    ) -> tuple[list[int], TokenMetadata]:
        """Take slots, of which there must be enough, for source and then target tokens; return the slot and metadata of
        each. `visible_source`: source tokens seen by the first target tokens, where they are fed again.
        """
        self.state, metadata = self.state.extend(self._layout, num_source, num_target, visible_source)
        slots = [self._take() for _ in range(num_source + num_target)]
        self.ranks[slots] = metadata.ranks
        self.target_slots += slots[num_source:]
        return slots, metadata

    def _take(self) -> int:
        if self._holes:
            return self._holes.pop()
        self.top += 1
        return self.top - 1

    def check_invariants(self) -> None:
        """Raise AssertionError where used and free slots are not all, or a slot has two tokens."""
        num_source, num_target = self.state.num_source, self.state.num_target
        used = np.flatnonzero(self.ranks != FREE).tolist()
        sound = (
            sorted(self.ranks[used].tolist()) == [*range(-num_target, 0), *range(num_source)]
            and self.ranks[self.target_slots].tolist() == [-1 - j for j in range(num_target)]
            and sorted(used + self._holes) == list(range(self.top))
            and self.top <= self.length
        )
        if not sound:
            raise AssertionError(
                f"slots do not add up: {num_source} source and {num_target} target tokens in {used}"
                f", holes {sorted(self._holes)}, {self.top} of {self.length} ever used"
            )
