"""A lane fed again in one pass, with what each token saw, is the lane that was fed word by word."""

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.engine.test_batching import Anything, Recorder, lent_runner
from tests.worker.engine.tiny import ROTARY, build
from worker.core.rows import Lane, Row, SampleSpec, Tokens, sampled_tokens
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner

V = 64
KEPT, BUILT = (0, 0), (1, 0)
STEPS = st.lists(
    st.tuples(
        st.lists(st.integers(0, V - 1), max_size=6),  # source tokens
        st.lists(st.integers(0, V - 1), min_size=1, max_size=4),  # target tokens
        st.integers(0, 3),  # target tokens rolled back
    ),
    min_size=1,
    max_size=6,
)
Step = tuple[list[int], list[int], int]


class History:
    """What a lane was fed: its source, its target, and the source that each target token saw."""

    def __init__(self) -> None:
        self.source: list[int] = []
        self.target: list[int] = []
        self.visible_source: list[int] = []

    def row(self, lane: Lane, step: Step) -> Row:
        """The row that feeds one step more."""
        source, target, num_back = step
        start = max(0, len(self.target) - num_back)
        self.source += source
        self.target[start:] = target
        self.visible_source[start:] = [len(self.source)] * len(target)
        return Row(lane, tuple(source), tuple(target), start, 0, SampleSpec())

    def rebuilding(self, lane: Lane, chunk: int) -> list[Row]:
        """The rows that feed all of it again, at most `chunk` target tokens each."""
        rows = [Row(lane, tuple(self.source), (), 0, 0, SampleSpec())] if self.source else []
        for start in range(0, len(self.target), chunk):
            part = slice(start, start + chunk)
            target, visible_source = tuple(self.target[part]), tuple(self.visible_source[part])
            rows.append(Row(lane, (), target, start, 0, SampleSpec(), visible_source=visible_source))
        return rows


def check(runner: Runner, steps: list[Step], chunk: int) -> None:
    """A further token gets the same logits in the lane that was kept and in the one that was built at once."""
    recorder, history = Recorder(), History()
    runner._sampler = recorder
    rows = [history.row(KEPT, step) for step in steps]
    found = [runner.run([row])[0] for row in [*rows, *history.rebuilding(BUILT, chunk)]]
    assert all(isinstance(output, Tokens) for output in found)
    assert not any(map(sampled_tokens, found[len(rows) :]))
    more = [Row(lane, (3, 5), (7, 9), len(history.target), 1, SampleSpec()) for lane in (KEPT, BUILT)]
    runner.run(more)
    runner.check_invariants()
    assert float(mx.abs(recorder.logits[KEPT] - recorder.logits[BUILT]).max()) < 1e-4


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, chunk=st.sampled_from([1, 3, 100]))
def test_rebuilt_is_kept(steps: list[Step], chunk: int) -> None:
    """Whatever was read, written and rolled back, and however the rebuild is cut."""
    with lent_runner("qwen2") as runner:
        check(runner, steps, chunk)


@pytest.mark.parametrize("family", ROTARY)
def test_rebuilt_is_kept_in_every_family(family: str) -> None:
    """Every architecture that can be driven."""
    steps: list[Step] = [([3, 5, 7], [1], 0), ([9], [1, 2, 6], 1), ([11, 4], [6, 8], 1), ([], [13], 0)]
    check(Runner(StreamingModel(build(family), position_offset=5), Anything()), steps, chunk=100)


def test_one_row_does_it_all() -> None:
    """Source, what was written before and the next draw in one row: the same as the three of them apart."""
    model = StreamingModel(build("llama"))
    runner, recorder, history = Runner(model, Anything()), Recorder(), History()
    runner._sampler = recorder
    for step in [([3, 5, 7], [1], 0), ([9], [1, 2, 6], 1)]:
        runner.run([history.row(KEPT, step)])
    runner.run([Row(KEPT, (8,), (6, 4), 2, 1, SampleSpec())])
    once = Row(
        BUILT, (*history.source, 8), (1, 2, 6, 4), 0, 1, SampleSpec(), visible_source=tuple(history.visible_source[:2])
    )
    assert len(sampled_tokens(runner.run([once])[0])) == 2
    assert float(mx.abs(recorder.logits[KEPT] - recorder.logits[BUILT]).max()) < 1e-4
