"""The wait-k policy: read k source words, then one more for each target word written (Ma et al. 2019)."""

from collections.abc import Sequence
from math import floor

from protocol import policies as wire
from worker.core.policies.policy import Policy
from worker.core.source import Source


def wait_k_needed(wait_k: int, target_word_index: int, catchup: float = 0.0) -> int:
    """Return how many source words wait-k reads before a target word, counted from 0, whether or not so many come.

    With `catchup` c, the target has 1 + c words for each source word (section 3.2 of Ma et al. 2019).

    >>> [wait_k_needed(3, t) for t in range(3)]
    [3, 4, 5]
    >>> [wait_k_needed(3, t, catchup=0.5) for t in range(5)]
    [3, 4, 4, 5, 5]
    """
    return wait_k + target_word_index - floor(catchup * target_word_index)


def calculate_wait_words(source_seg_len: Sequence[int], target_word_idx: int, wait_k: int) -> int:
    """Return how many source words to read before target word `target_word_idx`: `min(k + t, len(source_seg_len) - 1)`.

    This is the library's form; the service uses `wait_k_needed`. `source_seg_len` holds the number of tokens of the
    prompt, of each word and of the end, which counts as a word.
    Raises ValueError for k < 1, t < 0 or no segments.

    >>> calculate_wait_words([9, 1, 2, 1, 1], target_word_idx=0, wait_k=2)
    2
    >>> calculate_wait_words([9, 1, 2, 1, 1], target_word_idx=7, wait_k=2)
    4
    """
    if wait_k < 1:
        raise ValueError(f"wait_k must be at least 1, got {wait_k}")
    if target_word_idx < 0:
        raise ValueError(f"target_word_idx counts from 0, got {target_word_idx}")
    if not source_seg_len:
        raise ValueError("source_seg_len is empty; expected [prompt, word 1 … word N, end]")
    return min(wait_k_needed(wait_k, target_word_idx), len(source_seg_len) - 1)


class WaitK(Policy):
    """Read k words first, then one more for each word written, minus what `catchup` saves."""

    def __init__(self, options: wire.WaitK) -> None:
        self._k, self._catchup = options.k, options.catchup

    def num_required_words(self, source: Source, num_words: int) -> int:
        """Return k plus the number of words written, minus what `catchup` saves."""
        return wait_k_needed(self._k, num_words, self._catchup)
