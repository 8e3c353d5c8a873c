"""How many steps fit into the time that a run has, measured while it goes on."""

from typing import Final

_WARM_UP_STEPS: Final = 2  # they fill caches and allocators, and are slow
_MEASURED_STEPS: Final = 3  # before a plan, at least
_EVERY: Final = 0.05  # of the time: plans follow each other at this distance
_RESERVE: Final = 0.03  # of the time, for the last validation and the files


class Planner:
    """Plans a run of `budget_s` seconds that began at `start_s` of a clock.

    Each plan goes by what the steps since the one before took, with all that came between them.
    """

    def __init__(self, budget_s: float, start_s: float) -> None:
        self._end_s = start_s + budget_s * (1 - _RESERVE)
        self._every_s = budget_s * _EVERY
        self._first: int | None = None
        self._mark: tuple[int, float] | None = None  # step and time of the last plan

    def steps_left(self, step: int, now_s: float) -> int | None:
        """The steps that fit behind `step`, just made; None where it is no time to plan anew."""
        self._first = step if self._first is None else self._first
        if self._mark is None:
            self._mark = (step, now_s) if step - self._first + 1 >= _WARM_UP_STEPS else None
            return None
        steps, spent_s = step - self._mark[0], now_s - self._mark[1]
        if steps < _MEASURED_STEPS or spent_s < self._every_s:
            return None
        self._mark = (step, now_s)
        return max(1, int((self._end_s - now_s) * steps / spent_s))
