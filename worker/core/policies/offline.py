"""The offline policy: read the whole source, then write."""

from worker.core.policies.policy import Policy
from worker.core.source import Source


class Offline(Policy):
    """Wait for the end of the source, as the mode `completion` does."""

    def num_required_words(self, source: Source, num_words: int) -> None:
        """Return None: the whole source."""
