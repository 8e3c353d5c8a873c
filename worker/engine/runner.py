"""Runs plans: rows of token ids in, sampled token ids out, in one pass.

One thread owns a runner, loads its model and evaluates; only Python values leave it.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, groupby
from typing import Final, Protocol

import mlx.core as mx
import msgspec

from worker.core.rows import Deferred, Evicted, Failed, Lane, Output, Row, SampleSpec, Tokens, num_true, sampled_tokens
from worker.engine.attention_capture import Alignments
from worker.engine.batch import BatchRow, ForwardBatch, make_batch
from worker.engine.compiled import CompiledPasses
from worker.engine.errors import UnsupportedModel
from worker.engine.kv.manager import KVCacheManager, NoRoom
from worker.engine.kv.quantization import quantization
from worker.engine.model import StreamingModel
from worker.engine.sampling import Draws, Sampler

WIDTHS: Final = (2, 8, 32, 128)
"""Rows of up to so many tokens share a grid of attention: there, a long read would make all others as long."""


class TokenClasses(Protocol):
    """Which tokens may be drawn: a `worker.engine.text.tokenizer.Vocabulary`."""

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
    failed_passes: int = 0
    lost_lanes: int = 0  # given up for others, or in a pass that failed
    deferred_rows: int = 0  # that found no room for their lanes
    shared_tokens: int = 0  # source tokens copied from a lane that begins alike


class Runner:
    """The lanes of a model, and the passes over them.

    `kv_bits`: 8 or 4 for each number of a key or value; 0: as the model makes them. Raises ValueError for others,
    UnsupportedModel where they do not go with the model.
    """

    def __init__(
        self, model: StreamingModel, vocabulary: TokenClasses, max_kv_bytes: int | None = None, *, kv_bits: int = 0
    ) -> None:
        self.model = model
        cache = model.make_cache()
        size = int(model(mx.array([[0]]), cache=cache).shape[-1])
        self._sampler = Sampler(vocabulary.word_starts(size), vocabulary.forbidden(size))
        head_sizes = [array.shape[-1] for layer in cache for array in layer.state]
        kept = quantization(kv_bits, head_sizes, model.name)
        self._lanes = KVCacheManager(model.num_layers, model.position_offset, kept)
        self._compiled = CompiledPasses(model, kept)
        self._suspects: set[Lane] = set()  # one of them was to blame for a pass that failed
        self.counters = Counters()
        self.max_rows = self._warm_up()
        self._lanes.max_bytes = max_kv_bytes

    def _warm_up(self) -> int:
        # The first pass builds what later ones find: a session should not wait for that. It also tells how many rows
        # a pass may have: one, where the layers' attention cannot be made to tell rows apart.
        row = Row(
            (-1, 0), source=(0,) * 4, target=(0, 0), target_start=0, num_drafts=1, sampling=SampleSpec(word_start=True)
        )
        is_sound = True
        for num_rows in (1, 2):
            self.max_rows = num_rows
            rows = [msgspec.structs.replace(row, lane=(-1, i)) for i in range(num_rows)]
            is_sound &= all(map(sampled_tokens, self.run(rows)))
            if num_rows == 1:
                self._warm_up_graphs(row)
            self._lanes.measure()
            self.run((), dropped=[row.lane for row in rows])
        self.counters, self._lanes.num_evicted = Counters(), 0
        return sys.maxsize if is_sound else 1

    def _warm_up_graphs(self, row: Row) -> None:
        # Those of most words.
        for num_tokens in range(1, 5):
            self.run([msgspec.structs.replace(row, source=(), target=(0,) * num_tokens, target_start=2, num_drafts=0)])

    @property
    def num_lanes(self) -> int:
        """Lanes in use."""
        return len(self._lanes)

    def kv_bytes(self) -> int:
        """Bytes of all keys and values held."""
        return self._lanes.nbytes()

    def check_invariants(self) -> None:
        """Raises AssertionError where a lane has no row or two, slots do not add up, or the budget is passed."""
        self._lanes.check_invariants()

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        """What was sampled for each row, whose lanes all differ.

        A row that fails reports its fault and loses its lane. Where it is not known which row of a pass was to blame,
        all have lost their lanes, and run alone next time.
        """
        for lane in dropped:
            self._lanes.drop(lane)
            self._suspects.discard(lane)
        found: dict[Lane, Output] = {}
        for group in self._groups(self._lanes.begin(rows)):
            admitted = [left for row in group if (left := self._admit(row, found)) is not None]
            found |= self._guarded(admitted) if admitted else {}
            self._lanes.keep_prefixes(row for row in admitted if isinstance(found[row.lane], Tokens))
        return tuple(found[row.lane] for row in rows)

    def _groups(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        # Those that share a pass.
        alone = [[row] for row in rows if row.lane in self._suspects]
        others = [row for row in rows if row.lane not in self._suspects]
        size = min(self.max_rows, len(others) or 1)
        return [*alone, *(others[start : start + size] for start in range(0, len(others), size))]

    def _admit(self, row: Row, found: dict[Lane, Output]) -> Row | None:
        # What is left of the row for a pass; None where there is nothing to do, or nothing can be done.
        try:
            if row.sampling.aligned_from is not None and self.max_rows == 1:
                raise UnsupportedModel(
                    "its layers have an attention of their own, which does not show what they attend to; align-att "
                    "needs that: ask for another policy"
                )
            left = self._lanes.admit(row)
            if left is not None and (left.source or left.target):
                return left
            found[row.lane] = Tokens() if left else Evicted("its keys and values were given up")
        except NoRoom as error:
            others = self._lanes.others_in_use(row.lane)
            self.counters.deferred_rows += others
            found[row.lane] = Deferred() if others else self._fail(row, error)
        except Exception as error:  # the tick's border: whatever a row meets ends that row alone
            found[row.lane] = self._fail(row, error)
        return None

    def _fail(self, row: Row, error: Exception) -> Failed:
        self._lanes.drop(row.lane)
        return _failed(error)

    def _guarded(self, rows: Sequence[Row]) -> dict[Lane, Output]:
        lanes = [row.lane for row in rows]
        try:
            found = self._pass(rows)
        except Exception as error:  # what the arrays of those pools hold now, nobody knows
            self.counters.failed_passes += 1
            self._lanes.lose(lanes)
            failed = _failed(error)
            found = {lane: failed if len(rows) == 1 else Evicted(failed.error) for lane in lanes}
            self._suspects.update(lanes if len(rows) > 1 else ())
        self._suspects.difference_update(lanes if len(rows) == 1 else ())
        self.counters.lost_lanes = self._lanes.num_evicted
        self.counters.shared_tokens = self._lanes.num_shared_tokens
        return found

    def _pass(self, rows: Sequence[Row]) -> dict[Lane, Output]:
        rows = sorted(rows, key=self._place)
        shares = [BatchRow(self._lanes[row.lane], row) for row in rows]
        grouped = groupby(zip(rows, shares, strict=True), key=lambda pair: self._place(pair[0])[:2])
        whole = make_batch((self._lanes.pool(length), [share for _, share in group]) for (length, _), group in grouped)
        ends = accumulate(len(share.tokens) for share in shares)
        queries = [i for row, end in zip(rows, ends, strict=True) for i in range(end - row.num_samples, end)]
        writing = [row for row in rows if row.num_samples]
        found = self._sampler.sample(self._logits(whole, queries), writing)
        alignments = Alignments(whole)
        mx.eval(found.arrays, alignments.arrays, [part.pool.arrays for part in whole.parts])
        self._count(rows, whole)
        return {row.lane: Tokens() for row in rows} | self._sampled(writing, found, alignments.values())

    def _logits(self, whole: ForwardBatch, queries: list[int]) -> mx.array:
        if self._compiled.takes(whole):
            return self._compiled.logits(whole, queries)
        caches = whole.caches(self.model.num_layers)
        rope_tables = self.model.rope_tables(whole.positions, whole.last_position)
        logits = self.model.batch(whole.tokens, caches, whole.positions, mx.array(queries, mx.int32), rope_tables)
        if not whole.is_single and whole.num_attended < self.model.num_layers:
            raise UnsupportedModel("its layers have an attention of their own, which does not tell rows apart")
        return logits

    def _place(self, row: Row) -> tuple[int, int, int]:
        # Where a row stands in a pass: beside those of its pool and of like length.
        allocation = self._lanes[row.lane]
        return allocation.slots.length, _width(row), allocation.row

    def _sampled(
        self, rows: Sequence[Row], found: Draws, aligned: Mapping[Lane, tuple[int, ...]]
    ) -> dict[Lane, Output]:
        out: dict[Lane, Output] = {}
        for row, (tokens, probabilities) in zip(rows, found.values(), strict=True):
            if tokens is None:
                self._lanes.wipe(row.lane)
                out[row.lane] = _failed(ArithmeticError("the model's logits are not numbers (NaN)"))
                continue
            sure = probabilities if row.sampling.with_probabilities else ()  # though another row has asked
            out[row.lane] = Tokens(tokens, probabilities=sure, aligned=aligned.get(row.lane, ()))
            self._count_drafts(row.drafts, tokens)
        return out

    def _count(self, rows: Sequence[Row], whole: ForwardBatch) -> None:
        num_source, num_target = sum(len(row.source) for row in rows), sum(len(row.target) for row in rows)
        self.counters.passes += 1
        self.counters.forwards += len(rows)
        self.counters.source_tokens += num_source
        self.counters.target_tokens += num_target
        self.counters.padding_tokens += whole.num_padding

    def _count_drafts(self, drafts: Sequence[int], sampled: Sequence[int]) -> None:
        self.counters.proposed_drafts += len(drafts)
        self.counters.drafted_rows += bool(drafts)
        self.counters.accepted_drafts += num_true(drafts, sampled)


def _failed(error: Exception) -> Failed:
    return Failed(f"{type(error).__name__}: {error}")


def _width(row: Row) -> int:
    num_tokens = len(row.source) + len(row.target)
    return next((width for width in WIDTHS if width >= num_tokens), WIDTHS[-1] + 1)
