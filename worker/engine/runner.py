"""Runs plans: rows of token ids in, sampled token ids out, as few passes as rows of unlike lengths allow.

One thread owns a runner, loads its model and evaluates; only Python values leave it.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import mlx.core as mx
import msgspec

from worker.core.ports import Draw, Lane, Row, Sampled
from worker.engine.model import StreamingModel
from worker.engine.pool import LENGTHS, Batch, BatchCache, Pool, Tenant
from worker.engine.sampling import Draws, Sampler
from worker.engine.slots import Slots

WIDTHS: Final = (8, 32, 128)
"""Rows of up to so many tokens share a pass: padded to the longest of them, a long read would make all others long."""


class Tokens(Protocol):
    """What may be drawn: a `worker.engine.tokens.Vocabulary`."""

    def word_starts(self, size: int) -> mx.array:
        """Tokens that begin a word or end the translation, (V,) bool."""

    def forbidden(self, size: int) -> mx.array:
        """Tokens that are never written, (V,) bool."""


class Counters(msgspec.Struct):
    """What a runner has done so far."""

    forwards: int = 0  # rows computed
    passes: int = 0  # each over one row or many
    source_tokens: int = 0
    target_tokens: int = 0  # fed, drafts included
    padding_tokens: int = 0
    proposed_drafts: int = 0
    accepted_drafts: int = 0


class Runner:
    """The lanes of a model, and the passes over them."""

    def __init__(self, model: StreamingModel, vocabulary: Tokens) -> None:
        self.model = model
        size = int(model(mx.array([[0]])).shape[-1])
        self._sampler = Sampler(vocabulary.word_starts(size), vocabulary.forbidden(size))
        self._pools: dict[int, Pool] = {}
        self._tenants: dict[Lane, Tenant] = {}
        self._lost: set[Lane] = set()  # what they held went with a pass that failed
        self.counters = Counters()
        self.max_rows = self._warm_up()

    def _warm_up(self) -> int:
        # The first pass builds what later ones find: a session should not wait for that. It also tells how many rows
        # the model's attention takes: one whose arrays have more dimensions cannot use a mask with rows, unless by
        # chance there are as many rows as heads; so two numbers are tried.
        row = Row((-1, 0), source=(0,) * 4, target=(0, 0), target_start=0, num_drafts=1, draw=Draw(word_start=True))
        faults = []
        for num_rows in (1, 2, 3):
            self.max_rows = num_rows
            rows = [msgspec.structs.replace(row, lane=(-1, i)) for i in range(num_rows)]
            faults += [sampled.fault for sampled in self.run(rows) if sampled.fault is not None]
            self.run((), dropped=[row.lane for row in rows])
        self.counters = Counters()
        return 1 if faults else sys.maxsize

    @property
    def num_lanes(self) -> int:
        """Lanes in use."""
        return len(self._tenants)

    def kv_bytes(self) -> int:
        """Bytes of all keys and values held."""
        return sum(pool.nbytes() for pool in self._pools.values())

    def check_invariants(self) -> None:
        """Raises AssertionError where a lane has no row or two, or slots do not add up."""
        for pool in self._pools.values():
            pool.check_invariants()
        housed = [tenant.lane for pool in self._pools.values() for tenant in pool.tenants]
        if sorted(housed) != sorted(self._tenants):
            raise AssertionError(f"pools hold the lanes {sorted(housed)}, expected {sorted(self._tenants)}")

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Sampled, ...]:
        """What was sampled for each row, whose lanes all differ; a row that fails reports its fault and loses its
        lane, the others go on.
        """
        for lane in dropped:
            self._drop(lane)
            self._lost.discard(lane)
        found: dict[Lane, Sampled] = {}
        groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
        for row in rows:
            try:
                groups[self._admit(row), _width(row)].append(row)
            except Exception as error:  # the tick's border: whatever a row meets ends that row alone
                found[row.lane] = self._fail(row, error)
        for (length, _), group in groups.items():
            for start in range(0, len(group), min(self.max_rows, len(group))):
                found |= self._guarded(self._pools[length], group[start : start + self.max_rows])
        return tuple(found[row.lane] for row in rows)

    def _admit(self, row: Row) -> int:
        # The row's lane is in a pool with room for its tokens, rolled back to where it starts; that pool's length.
        if row.lane in self._lost:
            raise RuntimeError("what this lane held was lost in a pass that failed")
        tenant = self._tenants.get(row.lane)
        num_tokens = len(row.source) + len(row.target)
        if tenant is None:
            offset = None if row.plain else self.model.position_offset
            tenant = self._house(row.lane, Slots(_length(num_tokens), offset))
        if row.target:
            tenant.slots.trim(row.target_start)
        wanted = _length(tenant.slots.num_used + num_tokens)
        if wanted > tenant.slots.length:
            old = self._pools[tenant.slots.length]
            self._tenants[row.lane] = self._pool(wanted).take_over(tenant, old)
        return max(wanted, tenant.slots.length)

    def _pool(self, length: int) -> Pool:
        return self._pools.setdefault(length, Pool(self.model.num_layers, length))

    def _house(self, lane: Lane, slots: Slots) -> Tenant:
        tenant = self._tenants[lane] = self._pool(slots.length).add(lane, slots)
        return tenant

    def _drop(self, lane: Lane) -> None:
        tenant = self._tenants.pop(lane, None)
        if tenant is not None:
            self._pools[tenant.slots.length].remove(tenant)

    def _fail(self, row: Row, error: Exception) -> Sampled:
        self._drop(row.lane)
        return Sampled(fault=f"{type(error).__name__}: {error}")

    def _guarded(self, pool: Pool, rows: Sequence[Row]) -> dict[Lane, Sampled]:
        try:
            return self._batch(pool, rows)
        except Exception as error:  # what the pool's arrays hold now, nobody knows
            gone = [tenant.lane for tenant in pool.tenants]
            for lane in gone:
                del self._tenants[lane]
            del self._pools[pool.length]
            self._lost.update(set(gone) - {row.lane for row in rows})
            return {row.lane: self._fail(row, error) for row in rows}

    def _batch(self, pool: Pool, rows: Sequence[Row]) -> dict[Lane, Sampled]:
        rows = sorted(rows, key=lambda row: self._tenants[row.lane].row)
        tokens = [[*row.source, *row.target] for row in rows]
        width = max(map(len, tokens))
        tenants = [self._tenants[row.lane] for row in rows]
        placed = [tenant.slots.place(len(row.source), len(row.target), row.sights)
                  for tenant, row in zip(tenants, rows, strict=True)]  # fmt: skip
        batch = Batch(pool, tenants, placed, width)
        caches = [BatchCache(batch, layer) for layer in range(self.model.num_layers)]
        padded = mx.array([each + [0] * (width - len(each)) for each in tokens])
        asked = [(i * width + len(each), row) for i, (each, row) in enumerate(zip(tokens, rows, strict=True))]
        queries = [q for end, row in asked for q in range(end - row.num_samples, end)]
        logits = self.model.batch(padded, caches, batch.positions, mx.array(queries, mx.int32))
        sampled = [row for row in rows if row.num_samples]
        found = self._sampler.sample(logits, sampled)
        mx.eval(found.arrays, pool.arrays)
        self._count(rows, width)
        return {row.lane: Sampled() for row in rows} | self._sampled(sampled, found)

    def _sampled(self, rows: Sequence[Row], found: Draws) -> dict[Lane, Sampled]:
        out: dict[Lane, Sampled] = {}
        for row, (tokens, probabilities) in zip(rows, found.values(), strict=True):
            if tokens is None:
                out[row.lane] = self._fail(row, ArithmeticError("the model's logits are not numbers (NaN)"))
                continue
            out[row.lane] = Sampled(tokens=tokens, probabilities=probabilities)
            self._count_drafts(row.drafts, tokens)
        return out

    def _count(self, rows: Sequence[Row], width: int) -> None:
        num_source, num_target = sum(len(row.source) for row in rows), sum(len(row.target) for row in rows)
        self.counters.passes += 1
        self.counters.forwards += len(rows)
        self.counters.source_tokens += num_source
        self.counters.target_tokens += num_target
        self.counters.padding_tokens += len(rows) * width - num_source - num_target

    def _count_drafts(self, drafts: Sequence[int], sampled: Sequence[int]) -> None:
        self.counters.proposed_drafts += len(drafts)
        for draft, token in zip(drafts, sampled, strict=False):
            if draft != token:
                break
            self.counters.accepted_drafts += 1


def _length(num_tokens: int) -> int:
    found: int = next(length for length in LENGTHS if length >= num_tokens)
    return found


def _width(row: Row) -> int:
    num_tokens = len(row.source) + len(row.target)
    return next((width for width in WIDTHS if width >= num_tokens), WIDTHS[-1] + 1)
