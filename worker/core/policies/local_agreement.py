"""The local agreement policy: write the part that two translations in a row share (Liu et al. 2020)."""

from protocol import policies as wire
from worker.core.policies.policy import Policy
from worker.core.rows import num_true
from worker.core.source import Source


class LocalAgreement(Policy):
    """Translate on after every source word, and write the part that the previous translation had as well."""

    def __init__(self, options: wire.LocalAgreement) -> None:
        self._k = options.k
        self.max_ahead_tokens = options.max_ahead_tokens

    def num_required_words(self, source: Source, num_words: int) -> int:
        """Return k: beyond k, one more word is read for every translation."""
        return self._k

    def num_confirmed(self, draft: tuple[int, ...], tokens: tuple[int, ...]) -> int:
        """Return how many tokens both translations have in common at their start."""
        return num_true(draft, tokens)
