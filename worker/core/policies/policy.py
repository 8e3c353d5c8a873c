"""The Protocol of a policy, and what it is told of a drawn token.

To add a policy: its options in `protocol.policies`, a class in a file of this folder, and a line in `REGISTRY` of
`worker.core.policies`.
"""

from typing import Protocol

import msgspec

from worker.core.source import Source


class Drawn(msgspec.Struct, frozen=True):
    """A token that the engine has drawn, and what is known of it where the policy asks for it."""

    num_read: int  # source segments that it was drawn from
    num_words: int  # target words before its own
    begins_word: bool
    probability: float | None = None
    aligned_word: int | None = None  # the source word, counted from 1, that it attends to most


class Policy(Protocol):
    """When to write. Decisions depend on words and tokens, never on when they arrived. Stateless: it may be shared.

    Only `num_required_segments` has to be there; the rest is for policies that listen to the engine.
    """

    with_probabilities: bool = False
    """Ask the engine for the probability of each token, for `may_write`."""
    with_alignment: bool = False
    """Ask the engine for the source token that each token attends to most, for `may_write`."""
    max_ahead_tokens: int | None = None
    """Translate all of the source so far anew whenever some was read, with so many tokens beyond what is confirmed, and
    confirm as many as `num_confirmed` tells. None: every token that is drawn and may be written is confirmed.
    """

    def num_required_segments(self, source: Source, num_words: int) -> int | None:
        """Return how many source segments must be read before target word `num_words`, counted from 0.

        None: it is not known before the source has ended, all of which is read then. It must not fall when the source
        grows, and may pass what has arrived.
        """

    def may_write(self, drawn: Drawn) -> bool:
        """Tell whether the token may be written; else one more source segment is read, and its word drawn anew.

        Not asked once all of the source has been read, nor of tokens that only end a word.
        """
        return True

    def num_confirmed(self, draft: tuple[int, ...], tokens: tuple[int, ...]) -> int:
        """Return how many tokens of the last translation are confirmed by what is drawn now that more has been read."""
        return 0
