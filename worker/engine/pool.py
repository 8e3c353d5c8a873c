"""Keys and values of many lanes in one buffer a layer, so that one pass serves them all without copying.

A pool has rows of one length. A lane takes the first free row and keeps it until so many have left that the pool
halves.
"""

import heapq
from typing import Any, Final

import mlx.core as mx
import msgspec

from worker.core.ports import Lane
from worker.engine.slots import Slots

LENGTHS: Final = tuple(128 * 4**n for n in range(8))
"""Lengths of rows: a lane moves to the next pool once it is full, so that short ones do not pay for long ones."""


class Tenant(msgspec.Struct):
    """A lane in a pool."""

    lane: Lane
    slots: Slots
    row: int
    run: int = 0  # the last one that it took part in
    has_sampled: bool = False  # it has been of use since it was built


class Pool:
    """The lanes of one length, and for each layer the arrays (rows, H, L, D) of keys and of values."""

    def __init__(self, num_layers: int, length: int) -> None:
        self.length = length
        self._tenants: dict[int, Tenant] = {}  # by row
        self._free: list[int] = []  # rows without a lane, a heap
        self.keys: list[mx.array | None] = [None] * num_layers
        self.values: list[mx.array | None] = [None] * num_layers

    @property
    def tenants(self) -> list[Tenant]:
        """All lanes."""
        return list(self._tenants.values())

    @property
    def arrays(self) -> list[mx.array]:
        """All arrays there are, to evaluate after a pass."""
        return [array for array in (*self.keys, *self.values) if array is not None]

    @property
    def num_rows(self) -> int:
        """Rows that there are."""
        return len(self._tenants) + len(self._free)

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

    def add(self, lane: Lane, slots: Slots) -> Tenant:
        """The lane has the first free row; there is one."""
        tenant = Tenant(lane, slots, heapq.heappop(self._free))
        self._tenants[tenant.row] = tenant
        return tenant

    def clear(self, tenant: Tenant) -> None:
        """All that the lane's row holds is zero."""
        for array in self.arrays:
            array[tenant.row] = mx.zeros(array.shape[1:], array.dtype)

    def remove(self, tenant: Tenant) -> None:
        """The row is free; memory that few lanes are left in is given back."""
        del self._tenants[tenant.row]
        heapq.heappush(self._free, tenant.row)
        if not self._tenants:
            self._shrink(0)
        elif self.num_rows >= 8 and len(self._tenants) * 4 <= self.num_rows:
            self._shrink(self.num_rows // 2)

    def compact(self) -> bool:
        """No row is free; tell whether one was."""
        had_room = self.has_room
        if had_room:
            self._shrink(len(self._tenants))
        return had_room

    def _shrink(self, num_rows: int) -> None:
        kept = sorted(self._tenants)
        rows = mx.array(kept + sorted(self._free)[: num_rows - len(kept)])
        self._map(lambda array: array[rows] if num_rows else None)
        self._tenants = {row: self._tenants[old] for row, old in enumerate(kept)}
        for row, tenant in self._tenants.items():
            tenant.row = row
        self._free = list(range(len(kept), num_rows))

    def take_over(self, tenant: Tenant, other: "Pool") -> Tenant:
        """The lane of another pool, with what it holds, is now in this one."""
        tenant.slots.grow(self.length)
        moved = self.add(tenant.lane, tenant.slots)
        moved.run, moved.has_sampled = tenant.run, tenant.has_sampled
        self.copy(moved.row, (other, tenant.row), tenant.slots.top)
        other.remove(tenant)
        return moved

    def copy(self, row: int, origin: tuple["Pool", int], num_slots: int) -> None:
        """The row's first slots hold what those of a row of some pool hold."""
        other, old = origin
        for i, (keys, values) in enumerate(zip(other.keys, other.values, strict=True)):
            if keys is not None and values is not None:
                self.reserve(i, keys, values)
                self._write(i, row, keys[old, :, :num_slots], values[old, :, :num_slots])

    def store(self, layer: int, at: tuple[mx.array, mx.array], keys: mx.array, values: mx.array) -> None:
        """The layer holds keys and values (N, H, D) in these rows and slots, (N,) each."""
        rows, slots = at
        all_keys, all_values = self.held(layer)
        all_keys[rows, :, slots] = keys
        all_values[rows, :, slots] = values

    def held(self, layer: int) -> tuple[mx.array, mx.array]:
        """All keys and values (rows, H, L, D) of a layer that has some."""
        keys, values = self.keys[layer], self.values[layer]
        if keys is None or values is None:
            raise AssertionError("asked for before it was reserved")
        return keys, values

    def reserve(self, layer: int, keys: mx.array, values: mx.array) -> None:
        """The layer has arrays for all lanes, of the shape (…, H, …, D) and type of those given."""
        if self.keys[layer] is None:
            self.keys[layer] = _empty(self.num_rows, self.length, keys)
            self.values[layer] = _empty(self.num_rows, self.length, values)

    def _write(self, layer: int, row: int, keys: mx.array, values: mx.array) -> None:
        all_keys, all_values = self.held(layer)
        all_keys[row, :, : keys.shape[1]] = keys
        all_values[row, :, : values.shape[1]] = values

    def _map(self, change: Any) -> None:
        for arrays in (self.keys, self.values):
            for i, array in enumerate(arrays):
                arrays[i] = None if array is None else change(array)

    def check_invariants(self) -> None:
        """Raises AssertionError where rows or slots do not add up."""
        held = {row: tenant.row for row, tenant in self._tenants.items()}
        if sorted([*held.values(), *self._free]) != list(range(self.num_rows)) or any(a != b for a, b in held.items()):
            raise AssertionError(f"rows {held} have lanes, {self._free} have none; expected each of them once")
        if any(array.shape[0] != self.num_rows for array in self.arrays):
            raise AssertionError(f"arrays have {[array.shape[0] for array in self.arrays]} rows, not {self.num_rows}")
        for tenant in self.tenants:
            tenant.slots.check_invariants()


def _empty(rows: int, length: int, like: mx.array) -> mx.array:
    heads, size = like.shape[-3], like.shape[-1]
    return mx.zeros((rows, heads, length, size), like.dtype)
