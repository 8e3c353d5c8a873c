"""Engines that compute like one model and write like another."""

from collections.abc import Iterable, Sequence

import pytest

from worker.commands.bench.forced import Forced
from worker.core.rows import Lane, Row, Sampled, SampleSpec
from worker.engine.runner import Counters

ROWS = [Row((i, 0), (5,), (5,), 0, 0, SampleSpec()) for i in range(2)]


class Fixed:
    """Samples what it is made with, and notes what it was asked for."""

    def __init__(self, *sampled: Sampled) -> None:
        self.sampled = sampled
        self.asked: list[tuple[Sequence[Row], tuple[Lane, ...]]] = []

    counters = Counters(passes=7)

    def kv_bytes(self) -> int:
        """Some."""
        return 11

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Sampled]:
        """That."""
        self.asked.append((rows, tuple(dropped)))
        return self.sampled


def test_the_teacher_tells() -> None:
    """Both get the same rows, and the same lanes to drop, also from what can be gone through only once."""
    engine, teacher = Fixed(Sampled((1,)), Sampled((2,))), Fixed(Sampled((3,)), Sampled((4,)))
    forced = Forced(engine, teacher)
    assert forced.run(ROWS, iter([(7, 0)])) == [Sampled((3,)), Sampled((4,))]
    assert (forced.counters, forced.kv_bytes()) == (Counters(passes=7), 11)
    assert engine.asked == teacher.asked == [(ROWS, ((7, 0),))]


@pytest.mark.parametrize(
    ("broken", "why"),
    [(Sampled(fault="NaN"), "NaN"), (Sampled(lost="gone"), "gone"), (Sampled(is_deferred=True), "no room")],
)
def test_what_the_engine_has_not_done_is_not_hidden(broken: Sampled, why: str) -> None:
    """It ends its row, whatever the teacher says, as the teacher cannot do it again."""
    engine, teacher = Fixed(Sampled((1,)), broken), Fixed(Sampled((3,)), Sampled((4,)))
    done, failed = Forced(engine, teacher).run(ROWS)
    assert done == Sampled((3,))
    assert why in str(failed.fault)
