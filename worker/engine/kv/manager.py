"""The lanes of a model within a budget of bytes: housed when a row asks for one, given up when others need the room.

A lane that was given up is not lost: the core feeds again what it held. Those unused for longest go first.
"""

import itertools
from collections.abc import Iterable, Iterator

import mlx.core as mx
import msgspec

from worker.core.rows import Lane, Row
from worker.engine.kv.pool import LENGTHS, Allocation, Pool
from worker.engine.kv.quantization import KVQuantization
from worker.engine.kv.slots import Slots

_SHORTEST_PREFIX = 8  # tokens; fewer are computed as fast as they are copied
_MAX_PREFIXES = 8


class NoRoom(Exception):
    """The budget of bytes has no room for a lane."""


class KVCacheManager:
    """All lanes, in pools by their length. `max_bytes` bounds their keys and values, as packed; None: nothing does."""

    def __init__(self, num_layers: int, position_offset: int, quantization: KVQuantization) -> None:
        self.max_bytes: int | None = None
        self.num_evicted = 0
        self._num_layers = num_layers
        self._position_offset = position_offset
        self._quantization = quantization
        self._pools: dict[int, Pool] = {}
        self._allocations: dict[Lane, Allocation] = {}
        self._slot_bytes = 0  # keys and values of one token; 0: not known yet
        self._run = 0
        self._prefixes: dict[tuple[int, ...], Lane] = {}  # kept to be copied; the one copied last is the last
        self._numbers = itertools.count()
        self.num_shared_tokens = 0

    def __len__(self) -> int:
        return len(self._allocations)

    def __getitem__(self, lane: Lane) -> Allocation:
        return self._allocations[lane]

    def pool(self, length: int) -> Pool:
        """The lanes of that length."""
        return self._pools.setdefault(length, Pool(self._num_layers, length, self._quantization))

    def nbytes(self) -> int:
        """Bytes of all keys and values held."""
        return sum(pool.nbytes() for pool in self._pools.values())

    def measure(self) -> None:
        """How many bytes a token takes is known, if a lane holds some."""
        for pool in self._pools.values():
            if pool.arrays:
                self._slot_bytes = pool.nbytes() // (pool.num_rows * pool.length)

    def begin(self, rows: Iterable[Row]) -> list[Row]:
        """The rows in the order in which they are to be admitted to a new run: what is being built first, so that no
        lane is given up before it has been of use.
        """
        self._run += 1
        return sorted(
            rows, key=lambda row: row.lane not in self._allocations or self._allocations[row.lane].has_sampled
        )

    def admit(self, row: Row) -> Row | None:
        """What is left of the row to be fed to its lane, which has room for it and is rolled back to where it starts;
        None where the lane is gone that the row goes on in.

        The lane is kept until the next run. Raises NoRoom where those admitted before it leave none, ValueError
        where the row does not fit its lane.
        """
        allocation, num_tokens = self._allocations.get(row.lane), len(row.source) + len(row.target)
        if allocation is None:
            if row.source_start or row.target_start:
                return None
            allocation = self._allocate(row, _length(num_tokens))
            row = self._share(row, allocation)
            num_tokens = len(row.source) + len(row.target)
        allocation.run = self._run
        if row.target:
            allocation.slots.trim(row.target_start)
        wanted = _length(allocation.slots.num_used + num_tokens)
        if wanted > allocation.slots.length:
            self._make_room(wanted)
            allocation = self._allocations[row.lane] = self.pool(wanted).take_over(
                allocation, self.pool(allocation.slots.length)
            )
        allocation.has_sampled |= row.num_samples > 0
        return row

    def keep_prefixes(self, rows: Iterable[Row]) -> None:
        """What begins the lanes that these rows began is copied into lanes that begin alike, if there is room."""
        for row in rows:
            prefix = row.source[: row.prefix]
            if len(prefix) < max(_SHORTEST_PREFIX, row.prefix) or self._prefixes.get(prefix) in self._allocations:
                continue
            length = _length(len(prefix))
            if not (pool := self.pool(length)).has_room and not self._affordable(length, 1):
                continue
            lane = self._prefixes[prefix] = (-2, next(self._numbers))
            kept = self._allocate(msgspec.structs.replace(row, lane=lane), length)
            kept.has_sampled = True
            self._copy_prefix(self._allocations[row.lane], kept, len(prefix))
            mx.eval(pool.arrays)
        for old in list(self._prefixes)[:-_MAX_PREFIXES]:
            self.drop(self._prefixes.pop(old))

    def _share(self, row: Row, allocation: Allocation) -> Row:
        # The row without what its new lane has been given of another one.
        prefix = row.source[: row.prefix]
        holder = self._allocations.get(self._prefixes.get(prefix, row.lane))
        if holder is None or holder is allocation:
            return row
        self._prefixes[prefix] = self._prefixes.pop(prefix)
        holder.run = self._run
        self._copy_prefix(holder, allocation, len(prefix))
        self.num_shared_tokens += len(prefix)
        return msgspec.structs.replace(row, source=row.source[len(prefix) :], source_start=len(prefix), prefix=0)

    def _copy_prefix(self, origin: Allocation, allocation: Allocation, num_tokens: int) -> None:
        # A lane's first source tokens are in its first slots.
        pool = self.pool(allocation.slots.length)
        pool.copy(allocation.row, (self.pool(origin.slots.length), origin.row), num_tokens)
        allocation.slots.place(num_tokens, 0)

    def drop(self, lane: Lane) -> None:
        """The lane's row is free, if it has one."""
        allocation = self._allocations.pop(lane, None)
        if allocation is not None:
            self.pool(allocation.slots.length).remove(allocation)

    def wipe(self, lane: Lane) -> None:
        """The lane's row is free, and nothing of what it held is left: masked or not, what is no number would spoil the
        sums of the next lane there.
        """
        allocation = self._allocations[lane]
        self.pool(allocation.slots.length).clear(allocation)
        self.drop(lane)

    def others_in_use(self, lane: Lane) -> bool:
        """Tell whether the run has admitted any other."""
        return any(allocation.run == self._run and allocation.lane != lane for allocation in self._allocations.values())

    def lose(self, lanes: Iterable[Lane]) -> None:
        """The pools of these lanes are gone, with all that is in them."""
        for length in {self._allocations[lane].slots.length for lane in lanes}:
            for allocation in self._pools.pop(length).allocations:
                del self._allocations[allocation.lane]
                self.num_evicted += 1
        mx.clear_cache()

    def _allocate(self, row: Row, length: int) -> Allocation:
        self._make_room(length)
        slots = Slots(length, None if row.plain else self._position_offset)
        allocation = self._allocations[row.lane] = self.pool(length).add(row.lane, slots)
        return allocation

    def _make_room(self, length: int) -> None:
        # There is a free row in that pool, if need be of lanes that this run has not admitted.
        pool = self.pool(length)
        victims = self._idle()
        while not pool.has_room:
            if more := self._affordable(length, max(1, pool.num_rows)):
                pool.grow(more)
            elif any(other.compact() for other in self._pools.values()):
                continue
            elif (victim := next(victims, None)) is None:
                raise self._no_room(length)
            else:
                self.drop(victim.lane)
                self.num_evicted += 1

    def _idle(self) -> Iterator[Allocation]:
        # Looked for only once they are asked for.
        yield from sorted((one for one in self._allocations.values() if one.run < self._run), key=lambda one: one.run)

    def _affordable(self, length: int, num_rows: int) -> int:
        # How many of these rows the budget has room for.
        if self.max_bytes is None or not self._slot_bytes:
            return num_rows
        held = sum(pool.num_rows * pool.length for pool in self._pools.values())
        return max(0, min(num_rows, (self.max_bytes // self._slot_bytes - held) // length))

    def _no_room(self, length: int) -> NoRoom:
        return NoRoom(
            f"a lane of {length} tokens takes {length * self._slot_bytes} bytes of keys and values, which the other "
            f"lanes of this pass leave no room for within {self.max_bytes}; give the worker more with --max-kv-bytes"
        )

    def check_invariants(self) -> None:
        """Raises AssertionError where a lane has no row or two, slots do not add up, or the budget is passed."""
        for pool in self._pools.values():
            pool.check_invariants()
        housed = [allocation.lane for pool in self._pools.values() for allocation in pool.allocations]
        if sorted(housed) != sorted(self._allocations):
            raise AssertionError(f"pools hold the lanes {sorted(housed)}, expected {sorted(self._allocations)}")
        if self.max_bytes is not None and self.nbytes() > self.max_bytes:
            raise AssertionError(f"pools hold {self.nbytes()} bytes, expected at most {self.max_bytes}")


def _length(num_tokens: int) -> int:
    found: int = next(length for length in LENGTHS if length >= num_tokens)
    return found
