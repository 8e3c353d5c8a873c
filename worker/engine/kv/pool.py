"""Keys and values of many lanes in the same buffers, layer by layer, so that one pass serves them all without copying.

A pool has rows of one length. A lane takes the first free row and keeps it until so many have left that the pool
halves.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Any, Final

import mlx.core as mx
import msgspec

from worker.core.rows import Lane
from worker.engine.kv.quantization import KVQuantization
from worker.engine.kv.slots import Slots

LENGTHS: Final = tuple(128 * 4**n for n in range(8))
"""Lengths of rows: a lane moves to the next pool once it is full, so that short ones do not pay for long ones."""


class Allocation(msgspec.Struct):
    """A lane in a pool."""

    lane: Lane
    slots: Slots
    row: int
    run: int = 0  # the last one that it took part in
    has_sampled: bool = False  # it has been of use since it was built


class Pool:
    """The lanes of one length, and for each layer the arrays (rows, H, L, any) that keys and values are packed in."""

    def __init__(self, num_layers: int, length: int, quantization: KVQuantization) -> None:
        self.length = length
        self._quantization = quantization
        self._allocations: dict[int, Allocation] = {}  # by row
        self._free: list[int] = []  # rows without a lane, a heap
        self._layers: list[tuple[mx.array, ...]] = [()] * num_layers  # empty: nothing was stored yet

    @property
    def allocations(self) -> list[Allocation]:
        """All lanes."""
        return list(self._allocations.values())

    @property
    def arrays(self) -> list[mx.array]:
        """All arrays there are, to evaluate after a pass."""
        return [array for arrays in self._layers for array in arrays]

    @property
    def is_reserved(self) -> bool:
        """All layers have their arrays."""
        return all(self._layers)

    @property
    def num_rows(self) -> int:
        """Rows that there are."""
        return len(self._allocations) + len(self._free)

    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def has_room(self) -> bool:
        """A row is free."""
        return bool(self._free)

    def grow(self, num_rows: int) -> None:
        """There are so many rows more."""
        self._free += range(self.num_rows, self.num_rows + num_rows)
        self._map(lambda array: mx.concatenate([array, mx.zeros((num_rows, *array.shape[1:]), array.dtype)]))

    def add(self, lane: Lane, slots: Slots) -> Allocation:
        """The lane has the first free row; there is one."""
        allocation = Allocation(lane, slots, heapq.heappop(self._free))
        self._allocations[allocation.row] = allocation
        return allocation

    def clear(self, allocation: Allocation) -> None:
        """All that the lane's row holds is zero."""
        for array in self.arrays:
            array[allocation.row] = mx.zeros(array.shape[1:], array.dtype)

    def remove(self, allocation: Allocation) -> None:
        """The row is free; memory that few lanes are left in is given back."""
        del self._allocations[allocation.row]
        heapq.heappush(self._free, allocation.row)
        if not self._allocations:
            self._shrink(0)
        elif self.num_rows >= 8 and len(self._allocations) * 4 <= self.num_rows:
            self._shrink(self.num_rows // 2)

    def compact(self) -> bool:
        """No row is free; tell whether one was."""
        had_room = self.has_room
        if had_room:
            self._shrink(len(self._allocations))
        return had_room

    def _shrink(self, num_rows: int) -> None:
        kept = sorted(self._allocations)
        rows = mx.array(kept + sorted(self._free)[: num_rows - len(kept)], mx.int32)
        if num_rows:
            self._map(lambda array: array[rows])
        else:
            self._layers = [()] * len(self._layers)
        self._allocations = {row: self._allocations[old] for row, old in enumerate(kept)}
        for row, allocation in self._allocations.items():
            allocation.row = row
        self._free = list(range(len(kept), num_rows))

    def take_over(self, allocation: Allocation, other: "Pool") -> Allocation:
        """The lane of another pool, with what it holds, is now in this one."""
        allocation.slots.grow(self.length)
        moved = self.add(allocation.lane, allocation.slots)
        moved.run, moved.has_sampled = allocation.run, allocation.has_sampled
        self.copy(moved.row, (other, allocation.row), allocation.slots.top)
        other.remove(allocation)
        return moved

    def copy(self, row: int, origin: tuple["Pool", int], num_slots: int) -> None:
        """The row's first slots hold what those of a row of some pool hold."""
        other, old = origin
        for layer, theirs in enumerate(other._layers):
            for array, held in zip(self._reserved(layer, theirs), theirs, strict=True):
                array[row, :, :num_slots] = held[old, :, :num_slots]

    def store(self, layer: int, at: tuple[mx.array, mx.array], keys: mx.array, values: mx.array) -> None:
        """The layer holds keys and values (N, H, D) in these rows and slots, (N,) each."""
        rows, slots = at
        fresh = self._quantization.pack(keys, values)
        for array, packed in zip(self._reserved(layer, fresh), fresh, strict=True):
            array[rows, :, slots] = packed

    def held(self, layer: int, rows: Any, num_slots: int) -> tuple[mx.array, mx.array]:
        """Keys and values (R, H, num_slots, D) that a layer holds in the first slots of `rows`, an index of R rows."""
        return self._quantization.unpack([array[rows, :, :num_slots] for array in self._layers[layer]])

    def hand_out(self) -> list[tuple[mx.array, ...]]:
        """The arrays of each layer, which the pool has no more until it is given others by `take_back`: whoever
        computes those from them may then write into the same memory.
        """
        layers, self._layers = self._layers, [()] * len(self._layers)
        return layers

    def take_back(self, layers: Sequence[tuple[mx.array, ...]]) -> None:
        """The arrays of each layer are these."""
        self._layers = list(layers)

    def _reserved(self, layer: int, like: Sequence[mx.array]) -> tuple[mx.array, ...]:
        # The layer's arrays for all lanes, like those given: (N, H, any) or (rows, H, L, any).
        if not self._layers[layer]:
            self._layers[layer] = tuple(_empty(self.num_rows, self.length, array) for array in like)
        return self._layers[layer]

    def _map(self, change: Callable[[mx.array], mx.array]) -> None:
        self._layers = [tuple(map(change, arrays)) for arrays in self._layers]

    def check_invariants(self) -> None:
        """Raises AssertionError where rows or slots do not add up."""
        held = {row: allocation.row for row, allocation in self._allocations.items()}
        if sorted([*held.values(), *self._free]) != list(range(self.num_rows)) or any(a != b for a, b in held.items()):
            raise AssertionError(f"rows {held} have lanes, {self._free} have none; expected each of them once")
        if any(array.shape[0] != self.num_rows for array in self.arrays):
            raise AssertionError(f"arrays have {[array.shape[0] for array in self.arrays]} rows, not {self.num_rows}")
        for allocation in self.allocations:
            allocation.slots.check_invariants()


def _empty(rows: int, length: int, like: mx.array) -> mx.array:
    heads, size = like.shape[1], like.shape[-1]
    return mx.zeros((rows, heads, length, size), like.dtype)
