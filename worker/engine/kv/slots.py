"""Which slot of a lane holds which token: bookkeeping of one row of keys and values, without the arrays.

Attention does not care about the order of keys, so a slot only remembers its token's rank: i for source token i, -1 - j
for target token j. A query that sees s source and t target tokens sees the ranks from -t up to, without it, s. A target
token that is rolled back leaves a hole, which the next token fills.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

FREE = 2**31 - 1
Ints = NDArray[np.int32]


class Placed(msgspec.Struct, frozen=True):
    """Where the tokens of a pass go, source first: for each its slot, its position, and how many source and target
    tokens it sees.
    """

    slots: list[int]
    positions: list[int]
    visible_source: list[int]
    visible_target: list[int]


class Slots:
    """The slots of one lane: `ranks` (L,) int32, and where the target tokens are, in their order.

    `position_offset` is φ; None puts the target right behind the source that is read with its first token.
    """

    def __init__(self, length: int, position_offset: int | None) -> None:
        self.ranks: Ints = np.full(length, FREE, np.int32)
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
        return len(self.ranks)

    def grow(self, length: int) -> None:
        """There are so many slots."""
        self.ranks = np.concatenate([self.ranks, np.full(length - self.length, FREE, np.int32)])

    def trim(self, num_targets: int) -> None:
        """Only the first so many target tokens are left. Raises ValueError where there are fewer."""
        if num_targets > len(self.targets):
            raise ValueError(f"the lane holds {len(self.targets)} target tokens, the row starts behind {num_targets}")
        dropped = self.targets[num_targets:]
        del self.targets[num_targets:]
        self.ranks[dropped] = FREE
        self._holes += dropped

    def place(self, num_source: int, num_target: int, visible_source: Sequence[int] = ()) -> Placed:
        """The coming tokens are in slots; there is room for them. The first target tokens see as much source as
        `visible_source` say, the others all that has been read.
        """
        source = range(self.num_source, self.num_source + num_source)
        self.num_source += num_source
        if self._position_offset is None and num_target:
            self._position_offset = self.num_source
        target = range(len(self.targets), len(self.targets) + num_target)
        slots = [self._take() for _ in range(num_source + num_target)]
        self.ranks[slots] = [*source, *(-1 - j for j in target)]
        self.targets += slots[num_source:]
        return Placed(
            slots=slots,
            positions=[*source, *((self._position_offset or 0) + j for j in target)],
            visible_source=[
                *(i + 1 for i in source),
                *visible_source,
                *[self.num_source] * (num_target - len(visible_source)),
            ],
            visible_target=[0] * num_source + [j + 1 for j in target],
        )

    def _take(self) -> int:
        if self._holes:
            return self._holes.pop()
        self.top += 1
        return self.top - 1

    def check_invariants(self) -> None:
        """Raises AssertionError where used and free slots are not all, or a slot has two tokens."""
        used = np.flatnonzero(self.ranks != FREE).tolist()
        expected = [*range(-len(self.targets), 0), *range(self.num_source)]
        sound = (
            sorted(self.ranks[used].tolist()) == expected
            and self.ranks[self.targets].tolist() == [-1 - j for j in range(len(self.targets))]
            and sorted(used + self._holes) == list(range(self.top))
            and self.top <= self.length
        )
        if not sound:
            raise AssertionError(
                f"slots do not add up: {self.num_source} source and {len(self.targets)} target tokens in {used}"
                f", holes {sorted(self._holes)}, {self.top} of {self.length} ever used"
            )


def visible(ranks: Ints, placed: Sequence[Placed], width: int) -> NDArray[np.bool_]:
    """Who sees whom in a pass over R rows of up to `width` tokens: (R, T, L) bool, true where a query sees a key.

    `ranks` (R, L) are those after the pass's tokens were placed. Source queries see source up to themselves, target
    queries the source of their sight and target up to themselves; padding sees what the last token sees.
    """
    visible_source = np.array([_padded(row.visible_source, width) for row in placed], np.int32)[:, :, None]
    visible_target = np.array([_padded(row.visible_target, width) for row in placed], np.int32)[:, :, None]
    seen: NDArray[np.bool_] = (ranks[:, None, :] < visible_source) & (ranks[:, None, :] >= -visible_target)
    return seen


def _padded(numbers: list[int], width: int) -> list[int]:
    return numbers + numbers[-1:] * (width - len(numbers))
