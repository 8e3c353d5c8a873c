"""The dual cache: source and target keys of one layer in one append-only slot buffer, behind mlx-lm's cache surface.

Source tokens take positions 0, 1, 2, …; target tokens φ, φ + 1, … (group position encoding, arXiv 2505.16983),
whatever the order of their arrival. Attention does not care about the order of keys, so a slot only remembers its
kind: source queries are masked from target slots, and rolling a target token back is dropping its slot.
"""

from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

SOURCE, TARGET = 0, 1


class DualStreamingCache:
    """Keys and values (B, H, L, D) of one layer, for one session or for B that are read and written in step.

    mlx-lm's layers see `offset`, `update_and_fetch` and `make_mask`; `begin` says what the next pass holds.
    `position_offset` is φ; None puts the target right behind the source that is read with its first token or before,
    as in a model without group positions.
    """

    step = 256

    def __init__(self, position_offset: int | None = 0) -> None:
        self.position_offset = position_offset
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self.source_offset = 0
        self.target_offset = 0
        self._kinds: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._coming = (0, 0)
        self._mask: mx.array | None = None

    def __repr__(self) -> str:
        return (
            f"DualStreamingCache(source_offset={self.source_offset}, target_offset={self.target_offset}, "
            f"position_offset={self.position_offset})"
        )

    # What is in it

    @property
    def num_slots(self) -> int:
        """Slots in use: source and target tokens."""
        return self.source_offset + self.target_offset

    @property
    def nbytes(self) -> int:
        """Bytes that the buffers take, free slots included."""
        return 0 if self.keys is None or self.values is None else self.keys.nbytes + self.values.nbytes

    def empty(self) -> bool:
        """Tell whether nothing has been read or written yet."""
        return self.num_slots == 0

    @property
    def state(self) -> list[mx.array]:
        """The arrays to evaluate after a pass."""
        return [] if self.keys is None or self.values is None else [self.keys, self.values]

    # What the next pass brings

    def begin(self, num_source: int, num_target: int, mask: mx.array | None = None) -> None:
        """The next pass holds so many source tokens, then so many target tokens; `mask` (T, L) replaces the
        usual one.
        """
        self._coming = (num_source, num_target)
        self._mask = mask
        if num_target and self.position_offset is None:
            self.position_offset = self.source_offset + num_source

    def positions(self) -> list[int]:
        """The positions of the tokens that `begin` announced."""
        num_source, num_target = self._coming
        source = range(self.source_offset, self.source_offset + num_source)
        first = self._next_target()
        return [*source, *range(first, first + num_target)]

    @property
    def offset(self) -> int:
        """The position of the coming pass's first token."""
        num_source, num_target = self._coming
        return self._next_target() if num_target and not num_source else self.source_offset

    def _next_target(self) -> int:
        return (self.position_offset or 0) + self.target_offset

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """Who sees whom in a pass of N tokens: None (everybody), or (T, L) bool, true where a query sees a key.

        Source queries see source up to themselves; target queries all source, and target up to themselves.
        """
        if self._mask is not None:
            return self._mask
        num_source, num_target = self._coming
        if N == 1 and not return_array and (num_target or not self.target_offset):
            return None
        kinds = self._kinds[: self.num_slots]
        order = np.arange(N)
        is_target = order >= num_source
        past = (kinds == SOURCE)[None, :] | is_target[:, None]  # (T, past)
        new = (order[None, :] <= order[:, None]) & (~is_target[None, :] | is_target[:, None])  # (T, T)
        mask = np.concatenate([np.broadcast_to(past, (N, len(kinds))), new], axis=1)
        return None if mask.all() and not return_array else mx.array(mask)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """All keys and values (B, H, L, D), the coming pass's (B, H, T, D) appended."""
        num_source, num_target = self._coming
        self._append(keys, values, num_source, num_target)
        return self._slots()

    # The surface of the documents

    def update_source(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Appends source keys and values (B, H, T, D); returns those of the whole source."""
        self._append(keys, values, keys.shape[2], 0)
        if not self.target_offset:
            return self._slots()
        kept = mx.array(np.flatnonzero(self._kinds[: self.num_slots] == SOURCE))
        all_keys, all_values = self._slots()
        return mx.take(all_keys, kept, axis=2), mx.take(all_values, kept, axis=2)

    def update_target(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Appends target keys and values (B, H, T, D); returns those of source and target, in order of arrival."""
        self.begin(0, keys.shape[2])
        self._append(keys, values, 0, keys.shape[2])
        return self._slots()

    def reset_target(self) -> None:
        """The target is empty, the source is kept: another translation of the same source can begin."""
        self.trim_target(self.target_offset)

    def trim_target(self, n: int) -> int:
        """The last `n` target tokens are gone; returns how many were. Raises ValueError for a negative n."""
        if n < 0:
            raise ValueError(f"trim_target takes the number of target tokens to drop, got {n}")
        n = min(n, self.target_offset)
        if not n:
            return 0
        used = self._kinds[: self.num_slots]
        dropped = np.flatnonzero(used == TARGET)[-n:]
        if dropped[0] != self.num_slots - n:  # source came after it: close the gap
            kept = np.delete(np.arange(self.num_slots), dropped)
            self._kinds = used[kept]
            if self.keys is not None and self.values is not None:
                index = mx.array(kept)
                self.keys, self.values = mx.take(self.keys, index, axis=2), mx.take(self.values, index, axis=2)
        self.target_offset -= n
        return n

    # Slots

    def _append(self, keys: mx.array, values: mx.array, num_source: int, num_target: int) -> None:
        tokens = keys.shape[2]
        if num_source + num_target != tokens:
            raise ValueError(
                f"the pass was announced with {num_source} source and {num_target} target tokens, but holds {tokens}; "
                "call the model with is_reading=, or begin() before update_and_fetch()"
            )
        start, stop = self.num_slots, self.num_slots + tokens
        self._reserve(keys, values, stop)
        if self.keys is None or self.values is None:  # for the type checker: _reserve made them
            raise AssertionError("no buffers")
        self.keys[..., start:stop, :] = keys
        self.values[..., start:stop, :] = values
        self._kinds[start : start + num_source] = SOURCE
        self._kinds[start + num_source : stop] = TARGET
        self.source_offset += num_source
        self.target_offset += num_target

    def _reserve(self, keys: mx.array, values: mx.array, slots: int) -> None:
        capacity = 0 if self.keys is None else self.keys.shape[2]
        if slots > capacity:
            grown = -(-max(slots, capacity + self.step) // self.step) * self.step
            self.keys = _grow(self.keys, keys, self.num_slots, grown)
            self.values = _grow(self.values, values, self.num_slots, grown)
        if slots > len(self._kinds):
            kinds = np.empty(max(slots, 2 * len(self._kinds)), np.uint8)
            kinds[: self.num_slots] = self._kinds[: self.num_slots]
            self._kinds = kinds

    def _slots(self) -> tuple[mx.array, mx.array]:
        if self.keys is None or self.values is None:
            raise AssertionError("slots are fetched only after an append")
        return self.keys[..., : self.num_slots, :], self.values[..., : self.num_slots, :]


def _grow(old: mx.array | None, like: mx.array, used: int, capacity: int) -> mx.array:
    # (B, H, capacity, D), the used slots copied.
    rows, heads, _, size = like.shape
    if old is None:
        return mx.zeros((rows, heads, capacity, size), like.dtype)
    free = mx.zeros((rows, heads, capacity - used, size), like.dtype)
    return mx.concatenate([old[..., :used, :], free], axis=2)
