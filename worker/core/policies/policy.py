"""The Protocol of a policy, and the facts that it gets about a drawn token.

To add a policy: its options in `protocol.policies`, a class in a file of this folder, and a line in `REGISTRY` of
`worker.core.policies`.
"""

from typing import Protocol

import msgspec

from worker.core.source import Source


class Drawn(msgspec.Struct, frozen=True):
    """A token that the engine has drawn, with the signals that the policy asks for."""

    num_read: int  # source words that it was drawn from; the end counts as one
    num_words: int  # target words before its own
    begins_word: bool
    probability: float | None = None
    aligned_word: int | None = None  # the source word, counted from 1, that it attends to most


class Policy(Protocol):
    """When to write. Decisions depend on words and tokens, never on arrival times. Stateless, so it may be shared.

    Only `num_required_words` is required; the rest is for policies that use signals of the engine.
    """

    with_probabilities: bool = False
    """Ask the engine for the probability of each token, for `may_write`."""
    with_alignment: bool = False
    """Ask the engine for the source token that each token attends to most, for `may_write`."""
    max_ahead_tokens: int | None = None
    """Translate all source so far anew after each read, up to this many tokens beyond the confirmed ones, and confirm
    as many as `num_confirmed` returns. None: every drawn token that may be written is confirmed.
    """

    def num_required_words(self, source: Source, num_words: int) -> int | None:
        """Return how many source words must be read before target word `num_words`, counted from 0.

        None: the whole source, to its end. The number must not fall when the source grows, and may be more than has
        arrived.
        """

    def may_write(self, drawn: Drawn) -> bool:
        """Tell whether the token may be written; if not, one more source word is read and the target word drawn anew.

        Not called once the whole source has been read, nor for tokens that only end a word.
        """
        return True

    def num_confirmed(self, draft: tuple[int, ...], tokens: tuple[int, ...]) -> int:
        """Return how many tokens of the last translation, `draft`, the `tokens` drawn after more source confirm."""
        return 0
