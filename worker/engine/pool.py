"""Keys and values of many lanes in one buffer a layer, so that one pass serves them all without copying.

A pool has rows of one length. Its lanes always fill its first rows; a lane that leaves makes room for the last one.
"""

from collections.abc import Sequence
from typing import Any, Final

import mlx.core as mx
import msgspec
import numpy as np

from worker.core.ports import Lane
from worker.engine.slots import Placed, Slots, visible

LENGTHS: Final = tuple(128 * 4**n for n in range(8))
"""Lengths of rows: a lane moves to the next pool once it is full, so that short ones do not pay for long ones."""


class Tenant(msgspec.Struct):
    """A lane in a pool."""

    lane: Lane
    slots: Slots
    row: int


class Pool:
    """The lanes of one length, and for each layer the arrays (rows, H, L, D) of keys and of values."""

    def __init__(self, num_layers: int, length: int) -> None:
        self.length = length
        self.tenants: list[Tenant] = []  # by row
        self.keys: list[mx.array | None] = [None] * num_layers
        self.values: list[mx.array | None] = [None] * num_layers

    @property
    def arrays(self) -> list[mx.array]:
        """All arrays there are, to evaluate after a pass."""
        return [array for array in (*self.keys, *self.values) if array is not None]

    @property
    def num_rows(self) -> int:
        """Rows that there is memory for."""
        return 0 if self.keys[0] is None else int(self.keys[0].shape[0])

    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(array.nbytes for array in self.arrays)

    def add(self, lane: Lane, slots: Slots) -> Tenant:
        """The lane has the first free row."""
        tenant = Tenant(lane, slots, len(self.tenants))
        self.tenants.append(tenant)
        if self.num_rows and len(self.tenants) > self.num_rows:
            self._map(lambda array: mx.concatenate([array, mx.zeros_like(array)]))
        return tenant

    def remove(self, tenant: Tenant) -> None:
        """The row is free; the last lane moves into it, and memory that few lanes are left in is given back."""
        last = self.tenants.pop()
        if last is not tenant:
            gone, moved = tenant.row, last.row
            self._map(lambda array: _moved(array, gone, moved))
            last.row = gone
            self.tenants[gone] = last
        if not self.tenants:
            self._map(lambda _: None)
        elif self.num_rows >= 8 and len(self.tenants) * 4 <= self.num_rows:
            half = self.num_rows // 2
            self._map(lambda array: mx.contiguous(array[:half]))

    def take_over(self, tenant: Tenant, other: "Pool") -> Tenant:
        """The lane of another pool, with what it holds, is now in this one."""
        row, used = tenant.row, tenant.slots.top
        held = [(other.keys[i], other.values[i]) for i in range(len(self.keys))]
        tenant.slots.grow(self.length)
        moved = self.add(tenant.lane, tenant.slots)
        for i, (keys, values) in enumerate(held):
            if keys is not None and values is not None:
                self.reserve(i, keys, values)
                self._write(i, moved.row, keys[row, :, :used], values[row, :, :used])
        other.remove(tenant)
        return moved

    def reserve(self, layer: int, keys: mx.array, values: mx.array) -> None:
        """The layer has arrays for all lanes, of the shape (…, H, …, D) and type of those given."""
        if self.keys[layer] is None:
            rows = 1 << (len(self.tenants) - 1).bit_length()
            self.keys[layer] = _empty(rows, self.length, keys)
            self.values[layer] = _empty(rows, self.length, values)

    def _write(self, layer: int, row: int, keys: mx.array, values: mx.array) -> None:
        all_keys, all_values = self.keys[layer], self.values[layer]
        if all_keys is None or all_values is None:
            raise AssertionError("written before it was reserved")
        all_keys[row, :, : keys.shape[1]] = keys
        all_values[row, :, : values.shape[1]] = values

    def _map(self, change: Any) -> None:
        for arrays in (self.keys, self.values):
            for i, array in enumerate(arrays):
                arrays[i] = None if array is None else change(array)

    def check_invariants(self) -> None:
        """Raises AssertionError where rows or slots do not add up."""
        rows = [tenant.row for tenant in self.tenants]
        if rows != list(range(len(rows))) or (self.num_rows and len(rows) > self.num_rows):
            raise AssertionError(f"lanes are in rows {rows} of {self.num_rows}, expected the first ones, each once")
        for tenant in self.tenants:
            tenant.slots.check_invariants()


class Batch:
    """One pass over some lanes of a pool: where its tokens go, at which positions, and who sees whom."""

    def __init__(self, pool: Pool, tenants: Sequence[Tenant], placed: Sequence[Placed], width: int) -> None:
        self.pool = pool
        rows = [tenant.row for tenant in tenants]
        top = min(pool.length, -(-max(tenant.slots.top for tenant in tenants) // 16) * 16)
        positions = np.zeros((len(tenants), width), np.int32)
        for i, row in enumerate(placed):
            positions[i, : len(row.positions)] = row.positions
        self.positions = mx.array(positions)
        seen = visible(np.stack([tenant.slots.ranks[:top] for tenant in tenants]), placed, width)
        # One row's mask has no row: some attentions have another number of dimensions and could not take it.
        self.mask = mx.array(seen[:, None] if len(rows) > 1 else seen[0])
        self.top = top
        # All lanes of the pool in their order need no gathering.
        self.order = None if rows == list(range(len(rows))) else mx.array(rows)
        self.num_rows = len(rows)
        filled = [i * width + t for i, each in enumerate(placed) for t in range(len(each.slots))]
        self.filled = None if len(filled) == len(rows) * width else mx.array(filled)
        self.rows = mx.array([row for row, each in zip(rows, placed, strict=True) for _ in each.slots])
        self.slots = mx.array([slot for each in placed for slot in each.slots])


class BatchCache:
    """A layer's part in a batch, behind the cache surface of mlx-lm's layers."""

    offset = 0  # positions are explicit

    def __init__(self, batch: Batch, layer: int) -> None:
        self._batch = batch
        self._layer = layer

    def make_mask(self, *_: Any, **__: Any) -> mx.array:
        """The mask (R, 1, T, L) bool, true where a query sees a key; (T, L) for one row."""
        return self._batch.mask

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """All keys and values (R, H, L, D) of the batch's lanes, the pass's own (R, H, T, D) stored."""
        pool, layer = self._batch.pool, self._layer
        pool.reserve(layer, keys, values)
        return self._store(pool.keys, layer, keys), self._store(pool.values, layer, values)

    def _store(self, arrays: list[mx.array | None], layer: int, fresh: mx.array) -> mx.array:
        batch, held = self._batch, arrays[layer]
        if held is None:
            raise AssertionError("stored before it was reserved")
        rows, heads, tokens, size = fresh.shape
        flat = fresh.transpose(0, 2, 1, 3).reshape(rows * tokens, heads, size)
        held[batch.rows, :, batch.slots] = flat if batch.filled is None else flat[batch.filled]
        used = held[:, :, : batch.top]
        return used[: batch.num_rows] if batch.order is None else mx.take(used, batch.order, axis=0)


def _empty(rows: int, length: int, like: mx.array) -> mx.array:
    heads, size = like.shape[-3], like.shape[-1]
    return mx.zeros((rows, heads, length, size), like.dtype)


def _moved(array: mx.array, gone: int, moved: int) -> mx.array:
    array[gone] = array[moved]
    return array
