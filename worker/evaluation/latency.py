"""Latency of one translation: AL, LAAL, AP and DAL, with the definitions of SimulEval 1.1.4.

`delays[i]` is how much source had been read when target word i was written. The unit of delays and of `source_length`
is the caller's, the same for both: words here, milliseconds for the computation-aware variants. AL, LAAL and DAL come
out in that unit, AP as a proportion. `target_length` is the reference's length in words.

All of them raise ValueError for a translation without words and for a length that is not positive.
"""

from collections.abc import Sequence


def average_lagging(delays: Sequence[float], source_length: float, target_length: float) -> float:
    """Compute AL: the mean lag behind an ideal writer that keeps pace with the source (Ma et al. 2019, eq. 8).

    Words after the first that saw the whole source do not count. A first word later than the whole source, as computing
    time makes it, is its own lag.

    >>> average_lagging([3, 4, 5, 5], source_length=5, target_length=5)
    3.0
    """
    _check(delays, source_length, target_length)
    if delays[0] > source_length:
        return float(delays[0])
    num_counted = next((i for i, delay in enumerate(delays, 1) if delay >= source_length), len(delays))
    source_per_word = source_length / target_length
    return sum(delays[i] - i * source_per_word for i in range(num_counted)) / num_counted


def length_adaptive_average_lagging(delays: Sequence[float], source_length: float, target_length: float) -> float:
    """Compute LAAL: AL that a translation longer than its reference does not lower (Papi et al. 2022).

    >>> length_adaptive_average_lagging([1, 2, 2, 2], source_length=2, target_length=2)
    1.25
    """
    return average_lagging(delays, source_length, max(len(delays), target_length))


def average_proportion(delays: Sequence[float], source_length: float, target_length: float) -> float:
    """Compute AP: the mean share of the source that the words waited for (Cho and Esipova 2016).

    >>> average_proportion([2, 4], source_length=4, target_length=2)
    0.75
    """
    _check(delays, source_length, target_length)
    return sum(delays) / (source_length * target_length)


def differentiable_average_lagging(delays: Sequence[float], source_length: float) -> float:
    """Compute DAL: AL over all words, each taking at least its share of the source's time (Arivazhagan et al. 2019).

    It uses the translation's own length, not the reference's, as SimulEval does.

    >>> differentiable_average_lagging([3, 4, 4, 4], source_length=4)
    3.0
    """
    _check(delays, source_length, len(delays))
    source_per_word = source_length / len(delays)
    total, paced = 0.0, float("-inf")
    for i, delay in enumerate(delays):
        paced = max(delay, paced + source_per_word)
        total += paced - i * source_per_word
    return total / len(delays)


def _check(delays: Sequence[float], source_length: float, target_length: float) -> None:
    if not delays:
        raise ValueError("expected the delay of at least one target word, got none; leave such a translation out")
    if source_length <= 0 or target_length <= 0:
        raise ValueError(f"expected lengths above 0, got source_length {source_length}, target_length {target_length}")
