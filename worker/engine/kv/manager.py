"""Allocate and evict lanes within a budget of bytes, and share prefixes among them.

A lane holds the keys and values of one segment of a session, in one row of a pool.
The least recently used lane is evicted first, never one of the running pass. An evicted lane is not lost: the core
feeds its tokens again.
"""

from collections.abc import Iterable, Iterator

import mlx.core as mx
from msgspec.structs import replace

from worker.core.rows import Lane, Row
from worker.engine.kv.pool import LENGTHS, Allocation, CacheKey, Pool, Prefix
from worker.engine.kv.quantization import KVQuantization
from worker.engine.kv.slots import Slots
from worker.engine.visibility import ContiguousLayout, Layout

_SHORTEST_PREFIX = 8  # tokens; computing fewer is as fast as copying them
_MAX_PREFIXES = 8


class NoRoom(Exception):
    """The budget of bytes has no room for a lane."""


class KVCacheManager:
    """The keys and values of all lanes, in pools by their length.

    `max_bytes`: upper limit in bytes after quantisation; None: unlimited.
    """

    def __init__(self, num_layers: int, layout: Layout, quantization: KVQuantization) -> None:
        self.max_bytes: int | None = None
        self.slot_bytes: int | None = None  # keys and values of one token, once measured
        self.num_evicted = 0
        self.num_shared_tokens = 0
        self._num_layers = num_layers
        self._layout = layout
        self._quantization = quantization
        self._pools: dict[int, Pool] = {}
        self._allocations: dict[CacheKey, Allocation] = {}
        self._pass_number = 0

    def __len__(self) -> int:
        return len(self._allocations)

    def __getitem__(self, lane: Lane) -> Allocation:
        return self._allocations[lane]

    def get_pool(self, length: int) -> Pool:
        """Return the pool of that length."""
        return self._pools.setdefault(length, Pool(self._num_layers, length, self._quantization))

    def nbytes(self) -> int:
        """Return the bytes of all keys and values held."""
        return sum(pool.nbytes() for pool in self._pools.values())

    def measure_slot(self) -> None:
        """Measure the bytes of a token, if a lane holds one."""
        for pool in self._pools.values():
            if pool.arrays:
                self.slot_bytes = pool.nbytes() // (pool.num_rows * pool.length)

    # Allocation

    def start_pass(self, rows: Iterable[Row]) -> list[Row]:
        """Start a pass; return its rows, those whose lane has not been sampled from first, so that new lanes are not
        evicted unused.
        """
        self._pass_number += 1
        return sorted(
            rows, key=lambda row: row.lane not in self._allocations or self._allocations[row.lane].has_sampled
        )

    def allocate(self, row: Row) -> Row | None:
        """Make room for the row in its lane, rolled back to the row's start, and keep the lane until the next pass.

        Return the part of the row still to feed; None: the lane that the row continues is gone. Raises NoRoom if the
        lanes of this pass leave none, ValueError if the row does not fit its lane.
        """
        allocation, num_tokens = self._allocations.get(row.lane), len(row.source) + len(row.target)
        if allocation is None:
            if row.source_start or row.target_start:
                return None
            allocation = self._allocate(row.lane, self._layout_of(row), _pool_length(num_tokens))
            row = self._copy_shared_prefix(row, allocation)
            num_tokens = len(row.source) + len(row.target)
        allocation.last_pass = self._pass_number
        if row.target:
            allocation.slots.trim_target(row.target_start)
        length = _pool_length(allocation.slots.num_used + num_tokens)
        if length > allocation.slots.length:
            self._ensure_free_row(length)
            old_pool = self.get_pool(allocation.slots.length)
            allocation = self._allocations[row.lane] = self.get_pool(length).move_from(old_pool, allocation)
        allocation.has_sampled |= row.num_samples > 0
        return row

    def free(self, key: CacheKey) -> None:
        """Return the row of the lane or prefix to its pool, if it has one."""
        allocation = self._allocations.pop(key, None)
        if allocation is not None:
            self.get_pool(allocation.slots.length).free(allocation)

    def clear(self, lane: Lane) -> None:
        """Set the lane's keys and values to zero, then free it: a NaN, even masked, would spoil the sums of the next
        lane in its place.
        """
        allocation = self._allocations[lane]
        self.get_pool(allocation.slots.length).clear(allocation)
        self.free(lane)

    def has_others_in_pass(self, lane: Lane) -> bool:
        """Tell whether the pass has allocated for any other lane."""
        return any(other.last_pass == self._pass_number and other.key != lane for other in self._allocations.values())

    def _layout_of(self, row: Row) -> Layout:
        return ContiguousLayout() if row.is_contiguous else self._layout

    def _allocate(self, key: CacheKey, layout: Layout, length: int) -> Allocation:
        self._ensure_free_row(length)
        allocation = self._allocations[key] = self.get_pool(length).allocate(key, Slots(length, layout))
        return allocation

    # Shared prefixes

    def keep_prefixes(self, rows: Iterable[Row]) -> None:
        """Copy the first tokens of these rows' lanes, to share them with later lanes, if there is room."""
        for row in rows:
            prefix = Prefix(row.source[: row.prefix])
            num_tokens = len(prefix.tokens)
            if num_tokens < max(_SHORTEST_PREFIX, row.prefix) or prefix in self._allocations:
                continue
            length = _pool_length(num_tokens)
            if not (pool := self.get_pool(length)).has_free_row and not self._num_affordable_rows(length, 1):
                continue
            copied = self._allocate(prefix, self._layout_of(row), length)
            copied.last_pass, copied.has_sampled = self._pass_number - 1, True  # it may still be evicted in this pass
            self._copy_source(self._allocations[row.lane], copied, num_tokens)
            mx.eval(pool.arrays)
            self._drop_oldest_prefixes()

    def _drop_oldest_prefixes(self) -> None:
        prefixes = [allocation for allocation in self._allocations.values() if isinstance(allocation.key, Prefix)]
        for oldest in sorted(prefixes, key=lambda allocation: allocation.last_pass)[:-_MAX_PREFIXES]:
            self.free(oldest.key)

    def _copy_shared_prefix(self, row: Row, allocation: Allocation) -> Row:
        # The row without the tokens that its new lane has got from a prefix.
        prefix = Prefix(row.source[: row.prefix])
        shared, num_tokens = self._allocations.get(prefix), len(prefix.tokens)
        if shared is None:
            return row
        shared.last_pass = self._pass_number
        self._copy_source(shared, allocation, num_tokens)
        self.num_shared_tokens += num_tokens
        return replace(row, source=row.source[num_tokens:], source_start=num_tokens, prefix=0)

    def _copy_source(self, origin: Allocation, copied: Allocation, num_tokens: int) -> None:
        # An allocation's first source tokens are in its first slots.
        pool, other = self.get_pool(copied.slots.length), self.get_pool(origin.slots.length)
        pool.copy_from(other, origin.pool_row, copied.pool_row, num_slots=num_tokens)
        copied.slots.append(num_tokens, 0)

    # Eviction

    def evict_pools(self, lanes: Iterable[Lane]) -> None:
        """Evict all lanes of the pools that hold these lanes, e.g. after a failed pass left their arrays undefined."""
        for length in {self._allocations[lane].slots.length for lane in lanes}:
            for allocation in self._pools.pop(length).allocations:
                del self._allocations[allocation.key]
                self.num_evicted += 1
        mx.clear_cache()

    def _ensure_free_row(self, length: int) -> None:
        # If necessary, evict lanes for which this pass has not allocated.
        pool = self.get_pool(length)
        idle = self._idle_allocations()
        while not pool.has_free_row:
            if num_rows := self._num_affordable_rows(length, max(1, pool.num_rows)):
                pool.grow(num_rows)
            elif any(other.compact() for other in self._pools.values()):
                continue
            elif (oldest := next(idle, None)) is None:
                raise self._no_room(length)
            else:
                self.free(oldest.key)
                self.num_evicted += 1

    def _idle_allocations(self) -> Iterator[Allocation]:
        # The least recently used first; lazily, as often none is needed.
        idle = (allocation for allocation in self._allocations.values() if allocation.last_pass < self._pass_number)
        yield from sorted(idle, key=lambda allocation: allocation.last_pass)

    def _num_affordable_rows(self, length: int, num_rows: int) -> int:
        # How many of these rows the budget has room for.
        if self.max_bytes is None or self.slot_bytes is None:
            return num_rows
        num_slots = sum(pool.num_rows * pool.length for pool in self._pools.values())
        return max(0, min(num_rows, (self.max_bytes // self.slot_bytes - num_slots) // length))

    def _no_room(self, length: int) -> NoRoom:
        if self.slot_bytes is None:
            raise AssertionError("rows are affordable as long as no slot was measured")
        return NoRoom(
            f"a lane of {length} tokens takes {length * self.slot_bytes} bytes of keys and values, which the other "
            f"lanes of this pass leave no room for within {self.max_bytes}; give the worker more with --max-kv-bytes"
        )

    def check_invariants(self) -> None:
        """Raise AssertionError unless each lane has exactly one row, slots add up, and `max_bytes` is kept."""
        for pool in self._pools.values():
            pool.check_invariants()
        pooled = [allocation.key for pool in self._pools.values() for allocation in pool.allocations]
        if len(pooled) != len(self._allocations) or set(pooled) != set(self._allocations):
            raise AssertionError(f"pools hold {pooled}, expected {list(self._allocations)}")
        if self.max_bytes is not None and self.nbytes() > self.max_bytes:
            raise AssertionError(f"pools hold {self.nbytes()} bytes, expected at most {self.max_bytes}")


def _pool_length(num_tokens: int) -> int:
    length: int = next(length for length in LENGTHS if length >= num_tokens)
    return length
