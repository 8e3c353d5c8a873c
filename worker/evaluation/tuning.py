"""The search for the adaptive policy that translates best at the lag of wait-k."""

from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Final

import msgspec

from protocol import Adaptive, Policy, WaitK

THRESHOLDS: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""From bold to careful: each one lags more than the one before."""
_HALF_STEP: Final = 0.05


class Figures(msgspec.Struct, frozen=True):
    """Quality and lag of a policy on one test set."""

    bleu: float
    al: float  # in source words


class Tried(msgspec.Struct, frozen=True):
    """A policy and its figures on each test set."""

    policy: Policy
    sets: tuple[Figures, ...]

    @property
    def bleu(self) -> float:
        """The mean BLEU of the test sets."""
        return fmean(figures.bleu for figures in self.sets)

    @property
    def al(self) -> float:
        """The mean average lagging of the test sets, in source words."""
        return fmean(figures.al for figures in self.sets)


class Tuning(msgspec.Struct, frozen=True):
    """All that was tried beside wait-k."""

    baseline: Tried
    tried: tuple[Tried, ...]

    @property
    def best(self) -> Tried:
        """The highest BLEU among the policies that lag no more than the baseline, which is one of them."""
        fast = [found for found in self.tried if found.al <= self.baseline.al]
        return max((self.baseline, *fast), key=lambda found: found.bleu)


def search(measure: Callable[[Policy], tuple[Figures, ...]], *, k: int) -> Tuning:
    """Measure wait-k and the adaptive policies around it; once the lag passes wait-k's, a threshold is not raised, but
    the one halfway back is tried too.
    """
    baseline = Tried(WaitK(k=k), measure(WaitK(k=k)))
    tried = []

    def lags_less(min_k: int, max_k: int, threshold: float) -> bool:
        policy = Adaptive(min_k=min_k, max_k=max_k, threshold=threshold)
        tried.append(Tried(policy, measure(policy)))
        return tried[-1].al <= baseline.al

    for min_k, max_k in bounds(k):
        carefully = next((threshold for threshold in THRESHOLDS if not lags_less(min_k, max_k, threshold)), None)
        if carefully is not None and carefully > THRESHOLDS[0]:
            lags_less(min_k, max_k, round(carefully - _HALF_STEP, 2))
    return Tuning(baseline, tuple(tried))


def bounds(k: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of `min_k` and `max_k` to try.

    >>> list(bounds(3))
    [(1, 5), (1, 6), (1, 8), (2, 5), (2, 6), (2, 8)]
    """
    for min_k in (1, 2):
        for max_k in (k + 2, k + 3, k + 5):
            yield min_k, max_k
