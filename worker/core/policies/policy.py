"""The Protocol of a policy, and the facts that it gets about a drawn token.

To add a policy:

    protocol.policies   a struct with its options, in the union `Policy`, and its name: `_FORMS`, `POLICY_FORMS`,
                        `policy_name`; export it from `protocol` and `protocol.events`, then write the schema anew
                        (`python -m protocol.schema --write`)
    this folder         a file with its class
    REGISTRY            a line in `worker.core.policies`
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
    """Decides when a session reads on and when it writes.

    Decisions depend on words and tokens, never on arrival times. Policies have no state, so sessions share them. Only
    `num_required_words` is required; the rest is for policies that use signals of the engine.
    """

    with_probabilities: bool = False
    """Whether `may_write` needs the probability of each token."""
    with_alignment: bool = False
    """Whether `may_write` needs the source word that each token attends to most."""
    max_ahead_tokens: int | None = None
    """Tokens to translate beyond the confirmed ones. After each read, all source so far is translated anew, and
    `num_confirmed` tokens are confirmed. None: every drawn token that may be written is confirmed.
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
        """Return how many leading tokens of `draft`, the previous translation, are confirmed by `tokens`, drawn after
        more source.
        """
        return 0
