"""Adaptive: between two wait-k policies, by how sure the model is (Zheng et al. 2020)."""

from protocol import policies as wire
from worker.core.policies.policy import Drawn, Policy
from worker.core.policies.wait_k import wait_k_needed
from worker.core.source import Source


class Adaptive(Policy):
    """Write at wait-`min_k` while the model is sure, else read on, up to wait-`max_k`."""

    with_probabilities = True

    def __init__(self, options: wire.Adaptive) -> None:
        self._options = options

    def num_required_segments(self, source: Source, num_words: int) -> int:
        """Return what wait-`min_k` needs."""
        return wait_k_needed(self._options.min_k, num_words)

    def may_write(self, drawn: Drawn) -> bool:
        """Tell whether the model is sure enough of the token.

        The more has been read, the less sure it must be: the threshold falls linearly, to 0 at `max_k` (as in section 4
        there). What follows a word's first token, be it a comma, tells of what comes behind it: it is judged like the
        next word, one lag less.
        """
        options, lag = self._options, drawn.num_read - drawn.num_words
        if drawn.probability is None or lag >= options.max_k:
            return True
        part = (options.max_k - lag + (not drawn.begins_word)) / max(1, options.max_k - options.min_k)
        return drawn.probability >= options.threshold * part
