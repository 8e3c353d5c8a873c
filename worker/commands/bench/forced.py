"""Engines that compute like one model and write like another, so that random weights can serve real text."""

from collections.abc import Iterable, Sequence
from time import perf_counter

from worker.core.rows import Deferred, Engine, Evicted, Failed, Lane, Output, Row, Tokens
from worker.engine.runner import Counters
from worker.engine.speculative.runner import PassRunner


class Forced:
    """Every pass is run by `engine`, but what it samples is told by `teacher`: the words, and so which drafts are kept,
    are the teacher's, at the engine's cost.
    """

    def __init__(self, engine: PassRunner, teacher: Engine) -> None:
        self._engine = engine
        self._teacher = teacher
        self._teacher_s = 0.0

    @property
    def counters(self) -> Counters:
        """What the engine has done so far."""
        return self._engine.counters

    def kv_bytes(self) -> int:
        """Bytes of all keys and values that the engine holds."""
        return self._engine.kv_bytes()

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """What the teacher sampled for each row, or the engine's fault; the dropped lanes are free in both."""
        gone = tuple(dropped)
        told = self._told(rows, gone)
        done = self._engine.run(rows, gone)
        return [other if isinstance(mine, Tokens) else _failed(mine) for mine, other in zip(done, told, strict=True)]

    def clock_s(self) -> float:
        """Seconds that have passed, those of the teacher left out."""
        return perf_counter() - self._teacher_s

    def _told(self, rows: Sequence[Row], gone: tuple[Lane, ...]) -> Sequence[Output]:
        start_s = perf_counter()
        try:
            return self._teacher.run(rows, gone)
        finally:
            self._teacher_s += perf_counter() - start_s


def _failed(output: Failed | Evicted | Deferred) -> Failed:
    # It cannot be asked for again: the teacher has fed it.
    match output:
        case Failed():
            return output
        case Evicted(reason=reason):
            return Failed(reason)
        case Deferred():
            return Failed("there is no room for its keys and values")
