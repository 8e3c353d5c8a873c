"""Batched = alone: whatever other lanes do in the same passes, a lane's logits are those of a dual cache of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.engine.tiny import ROTARY, build
from worker.core.rows import Lane, Row, SampleSpec, Tokens
from worker.engine.kv import manager
from worker.engine.kv.dual_cache import DualStreamingCache
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.sampling import Sampler, SamplerOutput

V = 64


class Anything:
    """A vocabulary where every token may come anywhere."""

    def word_starts(self, size: int) -> mx.array:
        return mx.ones(size, mx.bool_)

    def forbidden(self, size: int) -> mx.array:
        return mx.zeros(size, mx.bool_)

    def line_breaks(self, size: int) -> mx.array:
        return mx.zeros(size, mx.bool_)

    def openings(self, size: int) -> mx.array:
        return mx.ones(size, mx.bool_)

    def introductions(self, size: int) -> mx.array:
        return mx.zeros(size, mx.bool_)


class Recorder(Sampler):
    """A sampler that keeps the logits it saw, by lane."""

    def __init__(self) -> None:
        super().__init__(Anything().word_starts(V), Anything().forbidden(V))
        self.logits: dict[Lane, mx.array] = {}

    def sample(self, logits: mx.array, rows: Sequence[Row]) -> SamplerOutput:
        start = 0
        for row in rows:
            self.logits[row.lane] = logits[start : start + row.num_drafts + 1]
            start += row.num_drafts + 1
        return super().sample(logits, rows)


class Alone:
    """Each lane with a dual cache of its own."""

    def __init__(self, model: StreamingModel) -> None:
        self.model = model
        self.caches: dict[Lane, list[DualStreamingCache]] = {}

    def logits(self, row: Row) -> mx.array | None:
        """Logits (drafts + 1, V) behind the row's last confirmed token and its drafts; None for a read."""
        cache = self.caches.setdefault(row.lane, self.model.make_cache())
        if row.target:
            for layer in cache:
                layer.trim_target(layer.target_offset - row.target_start)
        out = self.model.forward(row.source, row.target, cache)
        return out[0, -(row.num_drafts + 1) :] if row.target else None


STEP = st.tuples(
    st.integers(0, 4),  # lane
    st.lists(st.integers(0, V - 1), max_size=12),  # source tokens
    st.lists(st.integers(0, V - 1), max_size=4),  # target tokens
    st.integers(0, 3),  # target tokens rolled back
    st.integers(0, 3),  # drafts
    st.integers(0, 9),  # 0: the lane leaves before
)
TICKS = st.lists(st.lists(STEP, max_size=5, unique_by=lambda step: step[0]), max_size=9)


def rows_of(ticks: list[list[tuple[int, list[int], list[int], int, int, int]]]) -> list[tuple[list[Row], list[Lane]]]:
    """The ticks as rows that a core could ask for, and the lanes that leave before each."""
    written: dict[int, int] = {}
    out = []
    for tick in ticks:
        dropped = [(number, 0) for number, *_, leaves in tick if leaves == 0 and number in written]
        for number, _ in dropped:
            del written[number]
        rows = []
        for number, source, target, num_back, num_drafts, _ in tick:
            if not source and not target:
                continue
            start = max(0, written.get(number, 0) - num_back) if target else written.get(number, 0)
            written[number] = start + len(target)
            drafts = min(num_drafts, max(0, len(target) - 1))
            rows.append(Row((number, 0), tuple(source), tuple(target), start, drafts, SampleSpec()))
        out.append((rows, dropped))
    return out


@cache
def _runner_of(family: str) -> Runner:
    return Runner(StreamingModel(build(family), position_offset=3), Anything())


@contextmanager
def lent_runner(family: str) -> Iterator[Runner]:
    """Lend a runner of a random model, for lanes of short rows, and free its lanes afterwards.

    To make one takes as long as a whole example of a law.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "LENGTHS", (8, 16, 128))
        runner = _runner_of(family)
        sampler = runner._sampler
        try:
            yield runner
        finally:
            runner._sampler = sampler
            runner.run([], dropped=[(number, 0) for number in range(5)])
            assert (runner.num_lanes, runner.kv_bytes()) == (0, 0)


def check(runner: Runner, ticks: list[tuple[list[Row], list[Lane]]]) -> None:
    """Every row's logits are those of its lane alone; slots and rows add up after every tick."""
    recorder, alone = Recorder(), Alone(runner.model)
    runner._sampler = recorder
    for rows, dropped in ticks:
        for lane in dropped:
            alone.caches.pop(lane, None)
        found = runner.run(rows, dropped)
        runner.check_invariants()
        for row, sampled in zip(rows, found, strict=True):
            expected = alone.logits(row)
            assert isinstance(sampled, Tokens)
            assert len(sampled.tokens) == (row.num_drafts + 1 if row.target else 0)
            if expected is not None:
                assert float(mx.abs(recorder.logits[row.lane] - expected).max()) < 1e-4


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(ticks=TICKS)
def test_batched_is_alone(ticks: list[list[tuple[int, list[int], list[int], int, int, int]]]) -> None:
    """Lanes join, read, write, roll back, move to longer rows and leave at any tick."""
    with lent_runner("qwen2") as runner:
        check(runner, rows_of(ticks))


@pytest.mark.parametrize("family", ROTARY)
def test_batched_is_alone_in_every_family(family: str) -> None:
    """Rows of unlike lengths, a read beside writes, a lane that rolls back: every architecture that can be driven."""
    ticks = [
        [(0, [3, 5, 7], [1], 0, 0, 1), (1, [9], [], 0, 0, 1), (2, [4, 4], [2, 6, 8], 0, 1, 1)],
        [(0, [11], [1, 2], 1, 1, 1), (2, [], [9, 3], 2, 0, 1)],
        [(1, [2, 3], [5], 0, 0, 1), (2, [8], [7], 1, 0, 1), (0, [], [13], 0, 0, 0)],
    ]
    check(Runner(StreamingModel(build(family), position_offset=5), Anything()), rows_of(ticks))


def row(number: int, *, source: int = 4, start: int = 0) -> Row:
    return Row((number, 0), tuple(token % V for token in range(source)), (1,), start, 0, SampleSpec())


def test_memory_follows_the_lanes() -> None:
    """Rows are added in doublings, given back as lanes leave, and nothing is held for none."""
    runner = Runner(StreamingModel(build("llama")), Anything())
    runner.run([row(0)])
    one = runner.kv_bytes()
    runner.run([row(number) for number in range(1, 33)])
    assert runner.kv_bytes() == 64 * one
    runner.run([], dropped=[(number, 0) for number in range(3, 33)])
    runner.check_invariants()
    assert runner.kv_bytes() <= 8 * one
    assert isinstance(runner.run([row(0, source=1, start=1)])[0], Tokens)
    runner.run([], dropped=[(number, 0) for number in range(3)])
    assert (runner.kv_bytes(), runner.num_lanes) == (0, 0)


def test_one_pass_for_rows_of_any_length() -> None:
    """A long read shares the pass of short rows but not their grid of attention, whose padding is counted."""
    runner = Runner(StreamingModel(build("llama")), Anything())
    runner.run([row(0, source=2), row(1, source=5), row(2, source=100)])
    assert (runner.counters.passes, runner.counters.forwards) == (1, 3)
    assert runner.counters.padding_tokens == 3


def test_an_attention_of_its_own_gets_row_after_row() -> None:
    """Where layers attend by a function of their own, every row has a pass; else all share one."""
    assert not Runner(StreamingModel(build("gemma2")), Anything()).compatibility.batches_rows
    assert Runner(StreamingModel(build("llama")), Anything()).compatibility.batches_rows
