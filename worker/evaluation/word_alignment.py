"""Word alignment of parallel sentences by what occurs together, without a model.

IBM model 1 (Brown et al. 1993) with a preference for the diagonal, as in fast_align (Dyer et al. 2013, with a fixed
tension and no null word), in both directions; of their links, those count that both have. That leaves few links, and
most of them are right, also after a few hundred sentences.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, TypeAlias

Pair: TypeAlias = tuple[Sequence[str], Sequence[str]]
"""The words of a source and of its translation."""

_TENSION: Final = 4.0
_NUM_ITERATIONS: Final = 5
_FIRST: Final = 1e-3  # probability of all translations before the first iteration, and of those never seen


def align(pairs: Sequence[Pair]) -> list[dict[int, int]]:
    """Return the links of each pair: index of a target word to that of the source word it translates.

    >>> align([(["the", "house"], ["la", "maison"]), (["the", "car"], ["la", "voiture"])])
    [{0: 0, 1: 1}, {0: 0, 1: 1}]
    """
    forward = _best_links(pairs)
    backward = _best_links([(target, source) for source, target in pairs])
    return [
        {j: i for j, i in enumerate(ours) if theirs[i] == j} for ours, theirs in zip(forward, backward, strict=True)
    ]


def _best_links(pairs: Sequence[Pair]) -> list[list[int]]:
    # For each target word of each pair, the likeliest source word.
    table: dict[tuple[str, str], float] = {}
    for _ in range(_NUM_ITERATIONS):
        table = _improved(table, pairs)
    best = []
    for source, target in pairs:
        shares = [_shares(table, source, target, j) for j in range(len(target))]
        best.append([max(range(len(source)), key=share.__getitem__) for share in shares])
    return best


def _improved(table: dict[tuple[str, str], float], pairs: Sequence[Pair]) -> dict[tuple[str, str], float]:
    # One iteration of expectation maximisation: the probability of each target word, given a source word.
    counts: defaultdict[tuple[str, str], float] = defaultdict(float)
    totals: defaultdict[str, float] = defaultdict(float)
    for source, target in pairs:
        for j, written in enumerate(target):
            for word, share in zip(source, _shares(table, source, target, j), strict=True):
                counts[word, written] += share
                totals[word] += share
    return {(word, written): count / totals[word] for (word, written), count in counts.items()}


def _shares(table: dict[tuple[str, str], float], source: Sequence[str], target: Sequence[str], j: int) -> list[float]:
    # How likely it is each source word that target word j comes from.
    place = (j + 0.5) / len(target)
    weights = [
        table.get((word, target[j]), _FIRST) * math.exp(-_TENSION * abs((i + 0.5) / len(source) - place))
        for i, word in enumerate(source)
    ]
    total = sum(weights)
    return [weight / total for weight in weights]
