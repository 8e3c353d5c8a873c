"""Engines that compute like one model and write like another: what random weights need to serve real text."""

from collections.abc import Iterable, Sequence
from time import perf_counter

from worker.core.rows import Lane, Row, Sampled
from worker.engine.runner import Counters
from worker.engine.speculative.runner import PassRunner
from worker.library.running import Engine


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

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Sampled]:
        """What the teacher sampled for each row, or the engine's fault; the dropped lanes are free in both."""
        gone = tuple(dropped)
        told = self._told(rows, gone)
        done = self._engine.run(rows, gone)
        return [other if mine.is_done else _failed(mine) for mine, other in zip(done, told, strict=True)]

    def clock_s(self) -> float:
        """Seconds that have passed, those of the teacher left out."""
        return perf_counter() - self._teacher_s

    def _told(self, rows: Sequence[Row], gone: tuple[Lane, ...]) -> Sequence[Sampled]:
        start_s = perf_counter()
        try:
            return self._teacher.run(rows, gone)
        finally:
            self._teacher_s += perf_counter() - start_s


def _failed(sampled: Sampled) -> Sampled:
    # It cannot be asked for again: the teacher has fed it.
    return Sampled(fault=sampled.fault or sampled.lost or "there is no room for its keys and values")
