"""Arrays of keys and values, layer by layer, for many lanes at once, so that one pass serves them without copying.

A pool has rows of one length. A lane gets the first free row and keeps it until the pool halves after many have left.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import mlx.core as mx
import msgspec

from worker.core.rows import Lane
from worker.engine.kv.quantization import KVQuantization
from worker.engine.kv.slots import Slots

LENGTHS: Final = tuple(128 * 4**n for n in range(8))
"""Lengths of rows: a full lane moves to the next pool, so that short lanes do not pay for long ones."""

LayerArrays: TypeAlias = tuple[mx.array, ...]
"""The arrays of one layer's packed keys and values, (rows, H, L, any) each; empty: nothing was stored yet."""


class Prefix(msgspec.Struct, frozen=True):
    """Source tokens that many lanes begin with, whose keys and values are kept for copies."""

    tokens: tuple[int, ...]


CacheKey: TypeAlias = Lane | Prefix
"""The owner of an allocation."""


class Allocation(msgspec.Struct):
    """A row of a pool, with its contents."""

    key: CacheKey
    slots: Slots
    pool_row: int
    last_pass: int = 0  # the last one in which it took part
    has_sampled: bool = False  # it has been of use since it was built


class Pool:
    """The allocations of one length, and the arrays of their keys and values."""

    def __init__(self, num_layers: int, length: int, quantization: KVQuantization) -> None:
        self.length = length
        self._quantization = quantization
        self._allocations: dict[int, Allocation] = {}  # by row
        self._free_rows: list[int] = []  # a heap
        self._layers: list[LayerArrays] = [()] * num_layers

    @property
    def allocations(self) -> list[Allocation]:
        """All allocations."""
        return list(self._allocations.values())

    @property
    def arrays(self) -> list[mx.array]:
        """All arrays, to evaluate after a pass."""
        return [array for arrays in self._layers for array in arrays]

    @property
    def has_arrays(self) -> bool:
        """Whether every layer has stored something."""
        return all(self._layers)

    @property
    def num_rows(self) -> int:
        """Number of rows, used and free."""
        return len(self._allocations) + len(self._free_rows)

    @property
    def has_free_row(self) -> bool:
        """Whether a row is free."""
        return bool(self._free_rows)

    def nbytes(self) -> int:
        """Return the bytes of all rows."""
        return sum(array.nbytes for array in self.arrays)

    # Rows

    def grow(self, num_rows: int) -> None:
        """Add free rows."""
        self._free_rows += range(self.num_rows, self.num_rows + num_rows)
        self._map(lambda array: mx.concatenate([array, mx.zeros((num_rows, *array.shape[1:]), array.dtype)]))

    def allocate(self, key: CacheKey, slots: Slots) -> Allocation:
        """Take the first free row; one must exist."""
        allocation = Allocation(key, slots, heapq.heappop(self._free_rows))
        self._allocations[allocation.pool_row] = allocation
        return allocation

    def free(self, allocation: Allocation) -> None:
        """Free the row, and memory of the pool if few allocations are left in it."""
        del self._allocations[allocation.pool_row]
        heapq.heappush(self._free_rows, allocation.pool_row)
        if not self._allocations:
            self._shrink(0)
        elif self.num_rows >= 8 and len(self._allocations) * 4 <= self.num_rows:
            self._shrink(self.num_rows // 2)

    def clear(self, allocation: Allocation) -> None:
        """Set the row's contents to zero."""
        for array in self.arrays:
            array[allocation.pool_row] = mx.zeros(array.shape[1:], array.dtype)

    def compact(self) -> bool:
        """Give back the memory of free rows; tell whether there were any."""
        had_free_row = self.has_free_row
        if had_free_row:
            self._shrink(len(self._allocations))
        return had_free_row

    def _shrink(self, num_rows: int) -> None:
        kept = sorted(self._allocations)
        rows = mx.array(kept + sorted(self._free_rows)[: num_rows - len(kept)], mx.int32)
        if num_rows:
            self._map(lambda array: array[rows])
        else:
            self._layers = [()] * len(self._layers)
        self._allocations = {row: self._allocations[old] for row, old in enumerate(kept)}
        for row, allocation in self._allocations.items():
            allocation.pool_row = row
        self._free_rows = list(range(len(kept), num_rows))

    def move_from(self, other: "Pool", allocation: Allocation) -> Allocation:
        """Move an allocation of another pool, with its contents, into a free row of this one; return the new one."""
        allocation.slots.grow(self.length)
        moved = self.allocate(allocation.key, allocation.slots)
        moved.last_pass, moved.has_sampled = allocation.last_pass, allocation.has_sampled
        self.copy_from(other, allocation.pool_row, moved.pool_row, num_slots=allocation.slots.top)
        other.free(allocation)
        return moved

    def copy_from(self, other: "Pool", other_row: int, row: int, *, num_slots: int) -> None:
        """Copy the first slots of a row of some pool to those of a row of this one."""
        for layer, theirs in enumerate(other._layers):
            for array, origin in zip(self._ensure_arrays(layer, theirs), theirs, strict=True):
                array[row, :, :num_slots] = origin[other_row, :, :num_slots]

    # Keys and values

    def store(self, layer: int, slot_mapping: tuple[mx.array, mx.array], keys: mx.array, values: mx.array) -> None:
        """Store a layer's keys and values (N, H, D) in the rows and slots, (N,) int each, of `slot_mapping`."""
        rows, slots = slot_mapping
        packed = self._quantization.pack(keys, values)
        for array, part in zip(self._ensure_arrays(layer, packed), packed, strict=True):
            array[rows, :, slots] = part

    def fetch(self, layer: int, rows: Any, num_slots: int) -> tuple[mx.array, mx.array]:
        """Return keys and values (R, H, num_slots, D) of a layer in the first slots of `rows`, an index of R rows."""
        return self._quantization.unpack([array[rows, :, :num_slots] for array in self._layers[layer]])

    def donate_arrays(self) -> list[LayerArrays]:
        """Return the arrays of each layer and forget them, so that a computation may reuse their memory; `set_arrays`
        must follow.
        """
        layers, self._layers = self._layers, [()] * len(self._layers)
        return layers

    def set_arrays(self, layers: Sequence[LayerArrays]) -> None:
        """Replace the arrays of each layer."""
        self._layers = list(layers)

    def _ensure_arrays(self, layer: int, like: Sequence[mx.array]) -> LayerArrays:
        # The layer's arrays for all rows, with the types and sizes of the given ones: (N, H, any) or (rows, H, L, any).
        if not self._layers[layer]:
            self._layers[layer] = tuple(_zeros(self.num_rows, self.length, array) for array in like)
        return self._layers[layer]

    def _map(self, change: Callable[[mx.array], mx.array]) -> None:
        self._layers = [tuple(map(change, arrays)) for arrays in self._layers]

    def check_invariants(self) -> None:
        """Raise AssertionError where rows or slots do not add up."""
        taken = {row: allocation.pool_row for row, allocation in self._allocations.items()}
        if sorted([*taken, *self._free_rows]) != list(range(self.num_rows)) or any(a != b for a, b in taken.items()):
            raise AssertionError(f"rows {taken} are taken, {self._free_rows} are free; expected each of them once")
        if any(array.shape[0] != self.num_rows for array in self.arrays):
            raise AssertionError(f"arrays have {[array.shape[0] for array in self.arrays]} rows, not {self.num_rows}")
        for allocation in self.allocations:
            allocation.slots.check_invariants()


def _zeros(num_rows: int, length: int, like: mx.array) -> mx.array:
    heads, size = like.shape[1], like.shape[-1]
    return mx.zeros((num_rows, heads, length, size), like.dtype)
