"""The time of a pass by stage, measured by patching the stages, so that the engine needs no timing code."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final

import mlx.core as mx

from worker.commands.bench.forced import Forced
from worker.commands.bench.page import Sheet
from worker.core import scheduler, session
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.sampling import Sampler

STAGES: Final = ("plan", "batch", "graph", "evaluation", "update")
NOTE: Final = (
    "A pass: plan = which rows; batch = their slots, positions and masks; graph = building what is to be computed; "
    "evaluation = computing it; update = from tokens to words; in ms, of one more round."
)
_PASS: Final = (Runner, "_run_pass")
# The time of a stage inside another one counts only for the inner one.
_SPOTS: Final[tuple[tuple[Any, str, str | None], ...]] = (
    (scheduler, "plan", "plan"),
    (Runner, "run", "batch"),
    (StreamingModel, "batch", "graph"),
    (Sampler, "sample", "graph"),
    (mx, "eval", "evaluation"),
    (session, "update", "update"),
    (Forced, "_run_teacher", None),  # not measured
)


class Stopwatch:
    """A timer of the stages. Only one may watch at a time, on the thread that computes."""

    def __init__(self) -> None:
        self._spent_s: dict[str, float] = defaultdict(float)
        self._inner_s = [0.0]  # for each running call, the time of the calls inside it
        self._is_muted = False
        self._num_passes = 0

    def ms_a_pass(self) -> dict[str, float]:
        """Return the milliseconds of each stage, for one pass."""
        return {name: round(1000 * self._spent_s[name] / max(1, self._num_passes), 3) for name in STAGES}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time the stages while the block runs."""
        originals = [(owner, name, getattr(owner, name)) for owner, name, _ in _SPOTS]
        counted = (*_PASS, getattr(*_PASS))
        for (owner, name, call), (*_, stage) in zip(originals, _SPOTS, strict=True):
            setattr(owner, name, self._timed(call, stage))
        setattr(*_PASS, self._counted(counted[2]))
        try:
            yield
        finally:
            for owner, name, call in (*originals, counted):
                setattr(owner, name, call)

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self._num_passes += not self._is_muted
            return call(*args, **options)

        return counted

    def _timed(self, call: Callable[..., Any], stage: str | None) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            was_muted, self._is_muted = self._is_muted, self._is_muted or stage is None
            self._inner_s.append(0.0)
            start_s = perf_counter()
            try:
                return call(*args, **options)
            finally:
                total_s = perf_counter() - start_s
                own_s = total_s - self._inner_s.pop()
                self._inner_s[-1] += total_s
                if stage is not None and not self._is_muted:
                    self._spent_s[stage] += own_s
                self._is_muted = was_muted

        return timed


def sheet(name: str, stages_ms: Mapping[int, dict[str, float]] | Mapping[str, dict[str, float]]) -> Sheet:
    """Return a table with a row for each of `name`: the milliseconds of its stages, and their sum."""
    rows = [
        (str(number), *(f"{ms[stage]:.2f}" for stage in STAGES), f"{sum(ms.values()):.2f}")
        for number, ms in stages_ms.items()
    ]
    return Sheet((name, *STAGES, "sum"), tuple(rows), title="ms a pass, by stage")
