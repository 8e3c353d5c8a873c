"""The adaptive policy: between two wait-k policies, by the model's confidence (Zheng et al. 2020)."""

from protocol import policies as wire
from worker.core.policies.policy import Drawn, Policy
from worker.core.policies.wait_k import wait_k_needed
from worker.core.source import Source


class Adaptive(Policy):
    """Write at wait-`min_k` while the model is sure, else read on, up to wait-`max_k`."""

    with_probabilities = True

    def __init__(self, options: wire.Adaptive) -> None:
        self._options = options

    def num_required_words(self, source: Source, num_words: int) -> int:
        """Return how many words wait-`min_k` would read."""
        return wait_k_needed(self._options.min_k, num_words)

    def may_write(self, drawn: Drawn) -> bool:
        """Tell whether the model is sure enough of the token.

        The threshold falls linearly with the lag, to 0 at `max_k` (section 4 of Zheng et al. 2020). A token after a
        word's first one, such as a comma, depends on the text after the word: it is judged like the next word, one lag
        less.
        """
        options, lag = self._options, drawn.num_read - drawn.num_words
        if drawn.probability is None or lag >= options.max_k:
            return True
        part = (options.max_k - lag + (not drawn.begins_word)) / max(1, options.max_k - options.min_k)
        return drawn.probability >= options.threshold * part
