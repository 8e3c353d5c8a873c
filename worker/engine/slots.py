"""Which slot of a lane holds which token: bookkeeping of one row of keys and values, without the arrays.

Attention does not care about the order of keys, so a slot only remembers its kind. A target token that is rolled back
leaves a hole, which the next token fills.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FREE, SOURCE, TARGET = 0, 1, 2
Ints = NDArray[np.int64]


class Slots:
    """The slots of one lane: `kinds` (L,) uint8, and where the target tokens are, in their order.

    `position_offset` is φ; None puts the target right behind the source that is read with its first token.
    """

    def __init__(self, length: int, position_offset: int | None) -> None:
        self.kinds: NDArray[np.uint8] = np.zeros(length, np.uint8)
        self.num_source = 0
        self.targets: list[int] = []
        self.top = 0  # slots from here on were never used
        self._holes: list[int] = []
        self._position_offset = position_offset

    @property
    def num_used(self) -> int:
        """Slots that hold a token."""
        return self.num_source + len(self.targets)

    @property
    def length(self) -> int:
        """Slots there are."""
        return len(self.kinds)

    def grow(self, length: int) -> None:
        """There are so many slots."""
        self.kinds = np.concatenate([self.kinds, np.zeros(length - self.length, np.uint8)])

    def trim(self, num_targets: int) -> None:
        """Only the first so many target tokens are left. Raises ValueError where there are fewer."""
        if num_targets > len(self.targets):
            raise ValueError(f"the lane holds {len(self.targets)} target tokens, the row starts behind {num_targets}")
        dropped = self.targets[num_targets:]
        del self.targets[num_targets:]
        self.kinds[dropped] = FREE
        self._holes += dropped

    def place(self, num_source: int, num_target: int) -> tuple[list[int], list[int]]:
        """The slots and the positions of the coming tokens, source first; there is room for them."""
        first_source = self.num_source
        self.num_source += num_source
        if self._position_offset is None and num_target:
            self._position_offset = self.num_source
        first_target = (self._position_offset or 0) + len(self.targets)
        slots = [self._take() for _ in range(num_source + num_target)]
        self.kinds[slots[:num_source]] = SOURCE
        self.kinds[slots[num_source:]] = TARGET
        self.targets += slots[num_source:]
        source = range(first_source, first_source + num_source)
        return slots, [*source, *range(first_target, first_target + num_target)]

    def _take(self) -> int:
        if self._holes:
            return self._holes.pop()
        self.top += 1
        return self.top - 1

    def check_invariants(self) -> None:
        """Raises AssertionError where used and free slots are not all, or a slot has two tokens."""
        used = set(np.flatnonzero(self.kinds).tolist())
        holes = set(self._holes)
        sound = (
            len(used) == self.num_used
            and set(self.targets) == set(np.flatnonzero(self.kinds == TARGET).tolist())
            and len(set(self.targets)) == len(self.targets)
            and not used & holes
            and used | holes == set(range(self.top))
            and self.top <= self.length
        )
        if not sound:
            raise AssertionError(
                f"slots do not add up: {self.num_source} source and {len(self.targets)} target tokens in {sorted(used)}"
                f", holes {sorted(holes)}, {self.top} of {self.length} ever used"
            )


def visible(kinds: NDArray[np.uint8], born: Ints, counts: Sequence[tuple[int, int]], width: int) -> NDArray[np.bool_]:
    """Who sees whom in a pass over R rows of up to `width` tokens: (R, T, L) bool, true where a query sees a key.

    `kinds` (R, L) are those after the pass's tokens were placed; `born` (R, L) is 1 + a token's index in the pass, 0
    for slots of earlier passes; `counts` are each row's source and target tokens. Source queries see source up to
    themselves, target queries all source and target up to themselves; padding sees what the last token sees.
    """
    num_source = np.array([source for source, _ in counts])[:, None]
    last = np.array([source + target for source, target in counts])[:, None] - 1
    order = np.minimum(np.arange(width)[None, :], last)  # (R, T)
    is_target = (order >= num_source)[:, :, None]
    kinds, born = kinds[:, None, :], born[:, None, :]
    known = born <= order[:, :, None] + 1
    seen: NDArray[np.bool_] = known & ((kinds == SOURCE) | (is_target & (kinds == TARGET)))
    return seen
