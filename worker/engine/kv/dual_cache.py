"""The documents' cache: source and target keys of one layer in one append-only buffer, behind mlx-lm's cache surface.

Source tokens take positions 0, 1, 2, …; target tokens φ, φ + 1, … (group position encoding, arXiv 2505.16983),
whatever the order of their arrival. Attention does not care about the order of keys, so a slot only remembers its
token's rank (`worker.engine.visibility`), and rolling a target token back is dropping its slot.
"""

from typing import Any

import mlx.core as mx
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from worker.engine.visibility import CacheState, GroupLayout, Layout, attention_mask


class DualStreamingCache:
    """Keys and values (B, H, L, D) of one layer, for one session or for B that are read and written in step.

    mlx-lm's layers see `offset`, `update_and_fetch` and `make_mask`; `announce` says what the next pass holds.
    """

    step = 256

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout = layout or GroupLayout()
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self._state = CacheState()
        self._ranks: NDArray[np.int32] = np.empty(0, np.int32)
        self.announce(0, 0)

    def __repr__(self) -> str:
        return (
            f"DualStreamingCache(source_offset={self.source_offset}, target_offset={self.target_offset}, {self.layout})"
        )

    # Contents

    @property
    def source_offset(self) -> int:
        """Source tokens read."""
        return self._state.num_source

    @property
    def target_offset(self) -> int:
        """Target tokens written."""
        return self._state.num_target

    @property
    def target_position(self) -> int:
        """The position of the first target token, once one has been written."""
        return self._state.target_position

    @property
    def num_slots(self) -> int:
        """Slots in use: source and target tokens."""
        return self._state.num_tokens

    @property
    def ranks(self) -> NDArray[np.int32]:
        """The rank of each slot's token, (L,) int32."""
        return self._ranks[: self.num_slots]

    @property
    def nbytes(self) -> int:
        """Bytes that the buffers take, free slots included."""
        return 0 if self.keys is None or self.values is None else self.keys.nbytes + self.values.nbytes

    def empty(self) -> bool:
        """Whether nothing has been read or written yet."""
        return self.num_slots == 0

    @property
    def state(self) -> list[mx.array]:
        """The arrays to evaluate after a pass."""
        return [] if self.keys is None or self.values is None else [self.keys, self.values]

    # The next pass

    def announce(self, num_source: int, num_target: int, mask: mx.array | None = None) -> None:
        """Announce the source tokens, then target tokens, of the next pass; `mask` (T, L) bool replaces the rule's
        mask.
        """
        self._announced = (num_source, num_target)
        self._next_state, self._coming = self._state.extend(self.layout, num_source, num_target)
        self._mask = mask

    def positions(self) -> list[int]:
        """Return the positions of the announced tokens."""
        return self._coming.positions

    @property
    def offset(self) -> int:
        """The position of the announced pass's first token."""
        return self._coming.positions[0] if self._coming.positions else self.source_offset

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """Return the mask of a pass of N tokens: None (all see all), or (T, L) bool, true where a query sees a key.

        Source queries see source up to themselves; target queries all source, and target up to themselves.
        """
        if self._mask is not None:
            return self._mask
        ranks = np.concatenate([self.ranks, np.array(self._coming.ranks, np.int32)])
        mask = attention_mask(ranks, self._coming.visible_source, self._coming.visible_target)
        return None if mask.all() and not return_array else mx.array(mask)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append keys and values (B, H, T, D) of the announced pass; return all, (B, H, L, D)."""
        num_tokens, (num_source, num_target) = keys.shape[2], self._announced
        if num_source + num_target != num_tokens:
            raise ValueError(
                f"the pass was announced with {num_source} source and {num_target} target tokens, but holds "
                f"{num_tokens}; call the model with is_reading=, or announce() before update_and_fetch()"
            )
        start, stop = self.num_slots, self.num_slots + num_tokens
        self._reserve(keys, values, stop)
        if self.keys is None or self.values is None:  # for the type checker: _reserve made them
            raise AssertionError("no buffers")
        self.keys[..., start:stop, :] = keys
        self.values[..., start:stop, :] = values
        self._ranks[start:stop] = self._coming.ranks
        self._state = self._next_state
        self.announce(0, 0)
        return self._slots()

    # The surface of the documents

    def update_source(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append source keys and values (B, H, T, D); return those of the whole source."""
        self.announce(keys.shape[2], 0)
        all_keys, all_values = self.update_and_fetch(keys, values)
        if not self.target_offset:
            return all_keys, all_values
        source = mx.array(np.flatnonzero(self.ranks >= 0))
        return mx.take(all_keys, source, axis=2), mx.take(all_values, source, axis=2)

    def update_target(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append target keys and values (B, H, T, D); return those of source and target, in order of arrival."""
        self.announce(0, keys.shape[2])
        return self.update_and_fetch(keys, values)

    def reset_target(self) -> None:
        """Drop the target and keep the source, so that another translation of it can begin."""
        self.trim_target(self.target_offset)

    def trim_target(self, n: int) -> int:
        """Drop the last `n` target tokens; return how many there were. Raises ValueError for a negative n."""
        if n < 0:
            raise ValueError(f"trim_target takes the number of target tokens to drop, got {n}")
        n = min(n, self.target_offset)
        if not n:
            return 0
        ranks = self.ranks
        is_kept = ranks >= n - self.target_offset
        if not is_kept[: self.num_slots - n].all():  # source came after the dropped tokens: close the gap
            self._ranks = ranks[is_kept]
            if self.keys is not None and self.values is not None:
                kept = mx.array(np.flatnonzero(is_kept))
                self.keys, self.values = mx.take(self.keys, kept, axis=2), mx.take(self.values, kept, axis=2)
        self._state = replace(self._state, num_target=self.target_offset - n)
        self.announce(0, 0)
        return n

    # Slots

    def _reserve(self, keys: mx.array, values: mx.array, num_slots: int) -> None:
        capacity = 0 if self.keys is None else self.keys.shape[2]
        if num_slots > capacity:
            grown = -(-max(num_slots, capacity + self.step) // self.step) * self.step
            self.keys = _grow(self.keys, keys, self.num_slots, grown)
            self.values = _grow(self.values, values, self.num_slots, grown)
        if num_slots > len(self._ranks):
            spare = np.empty(max(num_slots, 2 * len(self._ranks)) - self.num_slots, np.int32)
            self._ranks = np.concatenate([self.ranks, spare])

    def _slots(self) -> tuple[mx.array, mx.array]:
        if self.keys is None or self.values is None:
            raise AssertionError("slots are fetched only after an append")
        return self.keys[..., : self.num_slots, :], self.values[..., : self.num_slots, :]


def _grow(old: mx.array | None, like: mx.array, num_used: int, capacity: int) -> mx.array:
    # (B, H, capacity, D), the used slots copied.
    rows, heads, _, size = like.shape
    if old is None:
        return mx.zeros((rows, heads, capacity, size), like.dtype)
    free = mx.zeros((rows, heads, capacity - num_used, size), like.dtype)
    return mx.concatenate([old[..., :num_used, :], free], axis=2)
