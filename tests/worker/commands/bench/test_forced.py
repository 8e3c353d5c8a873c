"""Engines that compute like one model and write like another."""

from collections.abc import Iterable, Sequence

import pytest

from worker.commands.bench.forced import Forced
from worker.core.rows import Deferred, Evicted, Failed, Lane, Output, Row, SampleSpec, Tokens
from worker.engine.runner import Counters

ROWS = [Row((i, 0), (5,), (5,), 0, 0, SampleSpec()) for i in range(2)]


class Fixed:
    """Samples what it is made with, and notes what it was asked for."""

    def __init__(self, *sampled: Output) -> None:
        self.sampled = sampled
        self.asked: list[tuple[Sequence[Row], tuple[Lane, ...]]] = []

    counters = Counters(passes=7)

    def kv_bytes(self) -> int:
        """Some."""
        return 11

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """That."""
        self.asked.append((rows, tuple(dropped)))
        return self.sampled


def test_the_teacher_tells() -> None:
    """Both get the same rows, and the same lanes to drop, also from what can be gone through only once."""
    engine, teacher = Fixed(Tokens((1,)), Tokens((2,))), Fixed(Tokens((3,)), Tokens((4,)))
    forced = Forced(engine, teacher)
    assert forced.run(ROWS, iter([(7, 0)])) == [Tokens((3,)), Tokens((4,))]
    assert (forced.counters, forced.kv_bytes()) == (Counters(passes=7), 11)
    assert engine.asked == teacher.asked == [(ROWS, ((7, 0),))]


@pytest.mark.parametrize(
    ("broken", "why"),
    [(Failed("NaN"), "NaN"), (Evicted("gone"), "gone"), (Deferred(), "no room")],
)
def test_what_the_engine_has_not_done_is_not_hidden(broken: Output, why: str) -> None:
    """It ends its row, whatever the teacher says, as the teacher cannot do it again."""
    engine, teacher = Fixed(Tokens((1,)), broken), Fixed(Tokens((3,)), Tokens((4,)))
    done, failed = Forced(engine, teacher).run(ROWS)
    assert done == Tokens((3,))
    assert isinstance(failed, Failed)
    assert why in failed.error
