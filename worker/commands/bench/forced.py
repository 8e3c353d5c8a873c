"""An engine that computes like one model and writes like another, so that random weights can serve real text."""

from collections.abc import Iterable, Sequence
from time import perf_counter

from worker.core.rows import Deferred, Engine, Evicted, Failed, Lane, Output, Row, Tokens
from worker.engine.runner import Counters
from worker.engine.speculative.runner import PassRunner


class Forced:
    """An engine that runs every pass on `engine`, and returns the tokens of `teacher`.

    The words, and so the accepted drafts, are the teacher's; the cost is the engine's.
    """

    def __init__(self, engine: PassRunner, teacher: Engine) -> None:
        self._engine = engine
        self._teacher = teacher
        self._teacher_s = 0.0

    @property
    def counters(self) -> Counters:
        """The work of the engine so far."""
        return self._engine.counters

    def kv_bytes(self) -> int:
        """Return the bytes of all keys and values of the engine."""
        return self._engine.kv_bytes()

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """Free the dropped lanes in both; return the teacher's tokens for each row, or the engine's failure."""
        lanes = tuple(dropped)
        lessons = self._run_teacher(rows, lanes)
        outputs = self._engine.run(rows, lanes)
        pairs = zip(outputs, lessons, strict=True)
        return [lesson if isinstance(output, Tokens) else _failed(output) for output, lesson in pairs]

    def clock_s(self) -> float:
        """Return the time in seconds, without that of the teacher."""
        return perf_counter() - self._teacher_s

    def _run_teacher(self, rows: Sequence[Row], lanes: tuple[Lane, ...]) -> Sequence[Output]:
        start_s = perf_counter()
        try:
            return self._teacher.run(rows, lanes)
        finally:
            self._teacher_s += perf_counter() - start_s


def _failed(output: Failed | Evicted | Deferred) -> Failed:
    # The row cannot run again, because the teacher has run it already.
    match output:
        case Failed():
            return output
        case Evicted(reason=reason):
            return Failed(reason)
        case Deferred():
            return Failed("there is no room for its keys and values")
