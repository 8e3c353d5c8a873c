"""Runs plans: rows of token ids in, sampled token ids out, in one pass.

One thread owns a runner, loads its model and evaluates; only Python values leave it.
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from typing import Final, Protocol

import mlx.core as mx
import msgspec

from worker.core.ports import Draw, Lane, Row, Sampled
from worker.engine.errors import UnsupportedModel
from worker.engine.model import StreamingModel
from worker.engine.passes import Pass, Share
from worker.engine.pool import LENGTHS, Pool, Tenant
from worker.engine.sampling import Draws, Sampler
from worker.engine.slots import Slots

WIDTHS: Final = (2, 8, 32, 128)
"""Rows of up to so many tokens share a grid of attention: there, a long read would make all others as long."""


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
    padding_tokens: int = 0  # computed by attention alone
    proposed_drafts: int = 0
    accepted_drafts: int = 0
    drafted_rows: int = 0  # rows with drafts


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
        # a pass may have: one, where the layers' attention cannot be made to tell rows apart.
        row = Row((-1, 0), source=(0,) * 4, target=(0, 0), target_start=0, num_drafts=1, draw=Draw(word_start=True))
        faults = []
        for num_rows in (1, 2):
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
        admitted = []
        for row in rows:
            try:
                self._admit(row)
                admitted.append(row)
            except Exception as error:  # the tick's border: whatever a row meets ends that row alone
                found[row.lane] = self._fail(row, error)
        for start in range(0, len(admitted), min(self.max_rows, max(1, len(admitted)))):
            found |= self._guarded(admitted[start : start + self.max_rows])
        return tuple(found[row.lane] for row in rows)

    def _admit(self, row: Row) -> None:
        # The row's lane is in a pool with room for its tokens, rolled back to where it starts.
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

    def _guarded(self, rows: Sequence[Row]) -> dict[Lane, Sampled]:
        try:
            return self._pass(rows)
        except Exception as error:  # what the arrays of those pools hold now, nobody knows
            for length in {self._tenants[row.lane].slots.length for row in rows}:
                gone = [tenant.lane for tenant in self._pools.pop(length).tenants]
                for lane in gone:
                    del self._tenants[lane]
                self._lost.update(set(gone) - {row.lane for row in rows})
            return {row.lane: self._fail(row, error) for row in rows}

    def _pass(self, rows: Sequence[Row]) -> dict[Lane, Sampled]:
        rows = sorted(rows, key=self._place)
        shares = [Share(self._tenants[row.lane], row) for row in rows]
        grouped = groupby(zip(rows, shares, strict=True), key=lambda pair: self._place(pair[0])[:2])
        whole = Pass([(self._pools[length], [share for _, share in group]) for (length, _), group in grouped])
        ends = accumulate(len(share.tokens) for share in shares)
        queries = [i for row, end in zip(rows, ends, strict=True) for i in range(end - row.num_samples, end)]
        writing = [row for row in rows if row.num_samples]
        caches = whole.caches(self.model.num_layers)
        logits = self.model.batch(whole.tokens, caches, whole.positions, mx.array(queries, mx.int32))
        if not whole.is_single and whole.num_attended < self.model.num_layers:
            raise UnsupportedModel("its layers have an attention of their own, which does not tell rows apart")
        found = self._sampler.sample(logits, writing)
        mx.eval(found.arrays, [part.pool.arrays for part in whole.parts])
        self._count(rows, whole)
        return {row.lane: Sampled() for row in rows} | self._sampled(writing, found)

    def _place(self, row: Row) -> tuple[int, int, int]:
        # Where a row stands in a pass: beside those of its pool and of like length.
        tenant = self._tenants[row.lane]
        return tenant.slots.length, _width(row), tenant.row

    def _sampled(self, rows: Sequence[Row], found: Draws) -> dict[Lane, Sampled]:
        out: dict[Lane, Sampled] = {}
        for row, (tokens, probabilities) in zip(rows, found.values(), strict=True):
            if tokens is None:
                out[row.lane] = self._fail(row, ArithmeticError("the model's logits are not numbers (NaN)"))
                continue
            out[row.lane] = Sampled(tokens=tokens, probabilities=probabilities)
            self._count_drafts(row.drafts, tokens)
        return out

    def _count(self, rows: Sequence[Row], whole: Pass) -> None:
        num_source, num_target = sum(len(row.source) for row in rows), sum(len(row.target) for row in rows)
        self.counters.passes += 1
        self.counters.forwards += len(rows)
        self.counters.source_tokens += num_source
        self.counters.target_tokens += num_target
        self.counters.padding_tokens += whole.num_padding

    def _count_drafts(self, drafts: Sequence[int], sampled: Sequence[int]) -> None:
        self.counters.proposed_drafts += len(drafts)
        self.counters.drafted_rows += bool(drafts)
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
