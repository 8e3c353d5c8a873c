"""What goes wrong in a pass is the fault of some rows: those end, all others go on, and memory stays where it was."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import pytest
from msgspec.structs import replace

from tests.worker.engine.test_batching import Anything, V, row
from tests.worker.engine.tiny import build
from worker.core.rows import Evicted, Failed, Output, Row, Tokens
from worker.engine.batch import ForwardBatch
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner

POISON = 60


@pytest.fixture
def model() -> StreamingModel:
    return StreamingModel(build("llama"))


def poisoned(model: StreamingModel) -> None:
    """What reads the token POISON has logits, keys and values that are no numbers."""
    table = model.inner.model.embed_tokens
    table.weight[POISON] = mx.full(table.weight.shape[1:], mx.nan)
    model.inner.args.tie_word_embeddings = False  # or each row's logits would have one NaN
    model.inner.lm_head = lambda hidden: hidden @ mx.ones((hidden.shape[-1], V))


def failing(monkeypatch: pytest.MonkeyPatch, *, is_guilty: Any) -> None:
    """Passes fail, late, as out of memory does: after keys and values were stored."""
    logits = Runner._logits

    def fail(self: Runner, batch: ForwardBatch, queries: list[int]) -> mx.array:
        found = logits(self, batch, queries)
        held: Any = batch.tokens.tolist()
        if is_guilty(held[0]):
            raise MemoryError("no room")
        return found

    monkeypatch.setattr(Runner, "_logits", fail)


def settled(runner: Runner, rows: Sequence[Row], limit: int = 4) -> dict[int, Output]:
    """What comes of the rows in the end: each is asked for again, from the start, where its lane was lost."""
    found: dict[int, Output] = {}
    for _ in range(limit):
        left = [one for one in rows if one.lane[0] not in found]
        for one, sampled in zip(left, runner.run(left), strict=True):
            if not isinstance(sampled, Evicted):
                found[one.lane[0]] = sampled
        runner.check_invariants()
    return found


def test_no_number_is_one_lanes_fault(model: StreamingModel) -> None:
    """Logits that are not numbers end their row with the reason; the rows beside it go on, and so does the next lane
    in its place.
    """
    runner = Runner(model, Anything())
    poisoned(model)
    good, bad = row(0), Row((1, 0), (POISON,), (1,), 0, 0, row(0).sampling)
    first, failed = runner.run([good, bad])
    assert isinstance(first, Tokens)
    assert isinstance(failed, Failed)
    assert "not numbers" in failed.error
    assert runner.num_lanes == 1
    again, beside = runner.run([replace(good, lane=(2, 0)), replace(good, lane=(3, 0))])
    assert isinstance(again, Tokens)
    assert isinstance(beside, Tokens)
    runner.check_invariants()


def test_the_guilty_row_fails_and_all_others_go_on(model: StreamingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that fails is tried again row by row, in lanes that are built anew; a lane that had no part in it is
    built anew, too.
    """
    runner = Runner(model, Anything())
    expected = runner.run([row(number) for number in range(4)])
    runner.run([row(9)])
    runner.run([], dropped=[(number, 0) for number in range(4)])
    failing(monkeypatch, is_guilty=lambda tokens: POISON in tokens)
    bad = replace(row(2), source=(POISON, 1, 2))
    found = settled(runner, [row(0), row(1), bad, row(3)])
    assert found[2] == Failed("MemoryError: no room")
    assert [found[number] for number in (0, 1, 3)] == [expected[number] for number in (0, 1, 3)]
    bystander = replace(row(9, source=1, start=1), source_start=4)
    assert isinstance(runner.run([bystander])[0], Evicted)
    assert runner.run([row(9)])[0] == expected[0]
    assert runner.counters.failed_passes == 2
    assert runner.counters.lost_lanes > 0


def test_passes_that_are_too_large_still_get_everyone_there(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no row is to blame but their number, each has its turn alone."""
    runner = Runner(model, Anything())
    failing(monkeypatch, is_guilty=lambda tokens: len(tokens) > 8)
    found = settled(runner, [row(number) for number in range(5)])
    assert all(isinstance(found[number], Tokens) for number in range(5))


def test_what_fits_no_budget_says_how_much_it_takes(model: StreamingModel) -> None:
    """A lane that would not fit alone fails with the figures and the knob; smaller ones beside it are served."""
    probe = Runner(model, Anything())
    probe.run([row(0)])
    runner = Runner(model, Anything(), max_kv_bytes=probe.kv_bytes())
    [small], [large] = runner.run([row(0)]), runner.run([row(1, source=200)])
    assert isinstance(small, Tokens)
    assert isinstance(large, Failed)
    assert f"within {probe.kv_bytes()}" in large.error
    assert "--max-kv-bytes" in large.error
    runner.check_invariants()


def test_memory_is_flat_over_ten_thousand_short_sessions(model: StreamingModel) -> None:
    """Sessions of several lengths come and go: no lane, pool or byte stays behind, and peaks do not grow."""
    runner = Runner(model, Anything(), max_kv_bytes=64 * 2**20)
    peaks: list[int] = []
    for first in range(0, 10_000, 50):
        numbers = range(first, first + 50)
        found = runner.run([row(number, source=2 + number % 3 * (number % 50 == 7) * 60) for number in numbers])
        assert all(isinstance(output, Tokens) for output in found)
        peaks.append(runner.kv_bytes())
        runner.run([], dropped=[(number, 0) for number in numbers])
        assert (runner.kv_bytes(), runner.num_lanes) == (0, 0)
    assert max(peaks[100:]) <= max(peaks[:100])
    runner.check_invariants()
