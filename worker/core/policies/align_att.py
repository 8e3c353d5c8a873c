"""The AlignAtt policy: write while attention is on older source words (Papi et al. 2023)."""

from protocol import policies as wire
from worker.core.policies.policy import Drawn, Policy
from worker.core.source import Source


class AlignAtt(Policy):
    """Write while the model attends to words that are not the newest ones, else read on."""

    with_alignment = True

    def __init__(self, options: wire.AlignAtt) -> None:
        self._options = options

    def num_required_words(self, source: Source, num_words: int) -> int:
        """Return k: beyond k, one more word is read whenever a token may not be written."""
        return self._options.k

    def may_write(self, drawn: Drawn) -> bool:
        """Tell whether the token attends to older words than the newest ones, whose sense may still change (section 3
        of Papi et al. 2023).
        """
        return drawn.aligned_word is None or drawn.aligned_word <= drawn.num_read - self._options.frame_words
