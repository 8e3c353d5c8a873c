"""Running a plan: one forward pass turns rows of token ids into sampled token ids.

One thread owns a runner, loads its model and evaluates; only Python values leave that thread.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from typing import Final, Protocol

import mlx.core as mx
import msgspec
from msgspec.structs import replace

from worker.core.rows import Deferred, Evicted, Failed, Lane, Output, Row, SampleSpec, Tokens, num_true
from worker.engine.adapters import compatibility
from worker.engine.attention_capture import AttentionCapture
from worker.engine.batch import BatchRow, ForwardBatch, make_batch
from worker.engine.compiled import CompiledForward
from worker.engine.errors import UnsupportedModel
from worker.engine.kv.manager import KVCacheManager, NoRoom
from worker.engine.kv.quantization import quantization
from worker.engine.model import StreamingModel
from worker.engine.sampling import Sampler, SamplerOutput

WIDTHS: Final = (2, 8, 32, 128)
"""Rows of up to this many tokens share a grid of attention: a long read would make all other rows as long."""


class TokenMasks(Protocol):
    """The tokens that may be drawn: a `worker.engine.text.tokenizer.Vocabulary`."""

    def word_starts(self, size: int) -> mx.array:
        """Return which tokens begin a word or end the translation, (V,) bool."""

    def forbidden(self, size: int) -> mx.array:
        """Return which tokens are never written, (V,) bool."""

    def line_breaks(self, size: int) -> mx.array:
        """Return which tokens break a line, (V,) bool."""

    def openings(self, size: int) -> mx.array:
        """Return which tokens may open an answer that begins with a word, (V,) bool."""

    def introductions(self, size: int) -> mx.array:
        """Return which tokens begin what a chat model says about its translation, (V,) bool."""


class Counters(msgspec.Struct):
    """Totals of a runner's work so far."""

    forwards: int = 0  # rows computed
    passes: int = 0  # each over one row or many
    source_tokens: int = 0
    target_tokens: int = 0  # fed, drafts included
    padding_tokens: int = 0  # computed by attention alone
    proposed_drafts: int = 0
    accepted_drafts: int = 0
    drafted_rows: int = 0  # rows with drafts
    failed_passes: int = 0
    lost_lanes: int = 0  # evicted for others, or in a pass that failed
    deferred_rows: int = 0  # that found no room for their lanes
    shared_tokens: int = 0  # source tokens copied from a lane that begins alike


class Runner:
    """The passes of a model, and the keys and values of its lanes.

    `kv_bits`: 8 or 4 for each number of a key or value; 0: unquantised. Raises ValueError for others, UnsupportedModel
    where they do not go with the model, or where a pass fails that sessions will ask for.
    """

    def __init__(
        self, model: StreamingModel, vocabulary: TokenMasks, max_kv_bytes: int | None = None, *, kv_bits: int = 0
    ) -> None:
        self.model = model
        cache = model.make_cache()
        size = int(model(mx.array([[0]]), cache=cache).shape[-1])
        masks = (vocabulary.word_starts, vocabulary.forbidden, vocabulary.line_breaks, vocabulary.openings)
        self._sampler = Sampler(*(mask(size) for mask in masks), introductions=vocabulary.introductions(size))
        head_sizes = [array.shape[-1] for layer in cache for array in layer.state]
        packing = quantization(kv_bits, head_sizes, model.name)
        self._kv_cache = KVCacheManager(model.num_layers, model.layout, packing)
        self._compiled = CompiledForward(model, packing)
        self._rows_to_isolate: set[Lane] = set()  # one of them caused a failed pass
        self.compatibility = compatibility.probe(model)
        self.counters = Counters()
        self._check_passes()
        self._kv_cache.max_bytes = max_kv_bytes

    def _check_passes(self) -> None:
        # The first passes build kernels that later ones reuse, for which no session should wait; and a model that fails
        # in one of them is refused now, not in each session.
        for rows in _sample_passes(shows_attention=self.compatibility.shows_attention):
            for output in self.run(rows):
                if not isinstance(output, Tokens):
                    reason = output.error if isinstance(output, Failed) else getattr(output, "reason", "no room")
                    raise UnsupportedModel(f"{self.model.name} cannot run the passes of sessions: {reason}")
            self._kv_cache.measure_slot()
        self.run((), dropped=[(number, 0) for number in range(self.num_lanes)])
        self.counters, self._kv_cache.num_evicted = Counters(), 0
        self._rows_to_isolate.clear()

    @property
    def num_lanes(self) -> int:
        """Lanes in use."""
        return len(self._kv_cache)

    def kv_bytes(self) -> int:
        """Return the bytes of all keys and values held."""
        return self._kv_cache.nbytes()

    def check_invariants(self) -> None:
        """Raise AssertionError where a lane has no row or two, slots do not add up, or the budget is passed."""
        self._kv_cache.check_invariants()

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        """Free the dropped lanes, then return what was sampled for each row; the rows' lanes all differ.

        A row that fails reports its fault and loses its lane. Where it is not known which row of a failed pass is to
        blame, all rows lose their lanes and run alone next time.
        """
        for lane in dropped:
            self._kv_cache.free(lane)
            self._rows_to_isolate.discard(lane)
        results: dict[Lane, Output] = {}
        for group in self._split(self._kv_cache.start_pass(rows)):
            allocated = [left for row in group if (left := self._allocate(row, results)) is not None]
            results |= self._run_guarded(allocated) if allocated else {}
            self._kv_cache.keep_prefixes(row for row in allocated if isinstance(results[row.lane], Tokens))
        return tuple(results[row.lane] for row in rows)

    def _split(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        # Into those that share a pass.
        alone = [[row] for row in rows if row.lane in self._rows_to_isolate]
        others = [row for row in rows if row.lane not in self._rows_to_isolate]
        if self.compatibility.batches_rows:
            return [*alone, others] if others else [*alone]
        return [*alone, *([row] for row in others)]

    def _allocate(self, row: Row, results: dict[Lane, Output]) -> Row | None:
        # The part of the row that a pass has to compute; None where nothing is to do, or nothing can be done.
        try:
            if row.sampling.aligned_from is not None and not self.compatibility.shows_attention:
                raise UnsupportedModel(
                    "its layers have an attention of their own, which does not show what they attend to; align-att "
                    "needs that: ask for another policy"
                )
            left = self._kv_cache.allocate(row)
            if left is not None and (left.source or left.target):
                return left
            results[row.lane] = Tokens() if left else Evicted("its keys and values were evicted")
        except NoRoom as error:
            others = self._kv_cache.has_others_in_pass(row.lane)
            self.counters.deferred_rows += others
            results[row.lane] = Deferred() if others else self._fail(row, error)
        except Exception as error:  # the border of a row: any failure ends that row alone
            results[row.lane] = self._fail(row, error)
        return None

    def _fail(self, row: Row, error: Exception) -> Failed:
        self._kv_cache.free(row.lane)
        return _failed(error)

    def _run_guarded(self, rows: Sequence[Row]) -> dict[Lane, Output]:
        # A pass whose failure is an answer, too.
        lanes = [row.lane for row in rows]
        try:
            results = self._run_pass(rows)
        except Exception as error:  # the contents of those pools' arrays are unknown now
            self.counters.failed_passes += 1
            self._kv_cache.evict_pools(lanes)
            failed = _failed(error)
            results = {lane: failed if len(rows) == 1 else Evicted(failed.error) for lane in lanes}
            self._rows_to_isolate.update(lanes if len(rows) > 1 else ())
        self._rows_to_isolate.difference_update(lanes if len(rows) == 1 else ())
        self.counters.lost_lanes = self._kv_cache.num_evicted
        self.counters.shared_tokens = self._kv_cache.num_shared_tokens
        return results

    def _run_pass(self, rows: Sequence[Row]) -> dict[Lane, Output]:
        rows = sorted(rows, key=self._order)
        batch_rows = [BatchRow(self._kv_cache[row.lane], row) for row in rows]
        grouped = groupby(batch_rows, key=lambda batch_row: self._order(batch_row.row)[:2])
        batch = make_batch((self._kv_cache.get_pool(length), list(group)) for (length, _), group in grouped)
        ends = accumulate(len(batch_row.tokens) for batch_row in batch_rows)
        queries = [i for row, end in zip(rows, ends, strict=True) for i in range(end - row.num_samples, end)]
        drawing = [row for row in rows if row.num_samples]
        capture = AttentionCapture(batch.attention, self.model.alignment_heads)
        output = self._sampler.sample(self._logits(batch, queries), drawing)
        mx.eval(output.arrays, capture.arrays, [group.pool.arrays for group in batch.attention.groups])
        self._count(rows, batch)
        return {row.lane: Tokens() for row in rows} | self._sampled(drawing, output, capture.aligned_sources())

    def _logits(self, batch: ForwardBatch, queries: list[int]) -> mx.array:
        if self._compiled.can_run(batch):
            return self._compiled.logits(batch, queries)
        caches = batch.attention.caches(self.model.num_layers)
        rope_tables = self.model.rope_tables(batch.positions, batch.last_position)
        logits = self.model.batch(batch.tokens, caches, batch.positions, mx.array(queries, mx.int32), rope_tables)
        if not batch.attention.is_single and batch.attention.num_attended_layers < self.model.num_layers:
            raise UnsupportedModel("its layers have an attention of their own, which does not tell rows apart")
        return logits

    def _order(self, row: Row) -> tuple[int, int, int]:
        # The place of a row in a pass: beside those of its pool and of similar length.
        allocation = self._kv_cache[row.lane]
        return allocation.slots.length, _width(row), allocation.pool_row

    def _sampled(
        self, rows: Sequence[Row], output: SamplerOutput, aligned: Mapping[Lane, tuple[int, ...]]
    ) -> dict[Lane, Output]:
        results: dict[Lane, Output] = {}
        for row, (tokens, probabilities) in zip(rows, output.values(), strict=True):
            if tokens is None:
                self._kv_cache.clear(row.lane)
                results[row.lane] = _failed(ArithmeticError("the model's logits are not numbers (NaN)"))
                continue
            sure = probabilities if row.sampling.with_probabilities else ()  # though another row has asked
            results[row.lane] = Tokens(tokens, probabilities=sure, aligned=aligned.get(row.lane, ()))
            self._count_drafts(row.drafts, tokens)
        return results

    def _count(self, rows: Sequence[Row], batch: ForwardBatch) -> None:
        self.counters.passes += 1
        self.counters.forwards += len(rows)
        self.counters.source_tokens += sum(len(row.source) for row in rows)
        self.counters.target_tokens += sum(len(row.target) for row in rows)
        self.counters.padding_tokens += batch.attention.num_padding

    def _count_drafts(self, drafts: Sequence[int], sampled: Sequence[int]) -> None:
        self.counters.proposed_drafts += len(drafts)
        self.counters.drafted_rows += bool(drafts)
        self.counters.accepted_drafts += num_true(drafts, sampled)


def _sample_passes(*, shows_attention: bool) -> Iterator[list[Row]]:
    # A pass of every kind that sessions ask for, on one row and on two.
    read = Row((0, 0), (1, 0, 1, 0), (1, 0), target_start=0, num_drafts=1, sampling=SampleSpec(word_start=True))
    options = SampleSpec(
        temperature=0.5,
        top_p=0.5,
        repetition_penalty=1.1,
        history=(1,),
        context_tokens=1,
        with_probabilities=True,
        aligned_from=0 if shows_attention else None,
    )
    write = replace(read, source=(), target=(1,), target_start=2, num_drafts=0, sampling=options, source_start=4)
    for lanes in ([(0, 0)], [(1, 0), (2, 0)]):
        yield [replace(read, lane=lane) for lane in lanes]
        yield [replace(write, lane=lane) for lane in lanes]
    for num_tokens in range(1, 5):  # those of most words have compiled graphs
        yield [replace(write, target=(1,) * num_tokens, sampling=SampleSpec())]
    yield [replace(write, source=(1,), target=(), target_start=6)]  # only reads
    yield [replace(read, lane=(3, 0), num_drafts=0, visible_source=(2,))]  # a lane that is built again
    yield [replace(read, lane=(4, 0), is_contiguous=True)]  # all that is written, fed again


def _failed(error: Exception) -> Failed:
    return Failed(f"{type(error).__name__}: {error}")


def _width(row: Row) -> int:
    num_tokens = len(row.source) + len(row.target)
    return next((width for width in WIDTHS if width >= num_tokens), WIDTHS[-1] + 1)
