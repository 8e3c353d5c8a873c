"""What the core asks of a model's tokenizer, and the rows of token ids it hands to the engine and gets back."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import msgspec
from msgspec.structs import replace

from protocol import ProtocolError, Session

Lane: TypeAlias = tuple[int, int]
"""(session number, segment index): which dual cache a row belongs to."""


class Refused(ProtocolError):
    """The model cannot do what a session asks for: a language it does not know, an option it lacks."""

    code = "unsupported_option"


class Prompt(msgspec.Struct, frozen=True):
    """The tokens around a segment's words (`source` before them, `end` after, `target` before the translation), and its
    limits.
    """

    source: tuple[int, ...]
    end: tuple[int, ...]
    target: tuple[int, ...]
    max_source_tokens: int  # prompt and end included
    max_target_tokens: int  # prompt included
    max_segment_words: int | None = None  # longest source the model was trained for; None: not known
    is_translation: bool = False  # so the target is about as long as the source, and what is no language is copied
    source_language: str | None = None  # the only one that the model reads; None: it may read any
    plain: bool = False  # positions run on from source to target, as in a model without group positions


class Vocabulary(Protocol):
    """A model's words and tokens, as far as the core needs them. Pure: same arguments, same answer."""

    @property
    def eos_tokens(self) -> frozenset[int]:
        """Tokens that end a translation."""

    def prompt(self, session: Session) -> Prompt:
        """Return the prompt for a session's options. Raises Refused."""

    def encode_word(self, word: str, previous: str) -> tuple[int, ...]:
        """Return the tokens of a bare word that follows `previous` ("" at the start); never special tokens."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`, a leading space kept where the tokenizer shows one."""


class SampleSpec(msgspec.Struct, frozen=True):
    """How to choose the next token: all that sampling depends on besides the logits."""

    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float | None = None
    seed: int = 0
    # Position of the first sampled token within the segment's target: keys the noise, so that replay draws the same.
    position: int = 0
    # Tokens the repetition penalty looks back on, the newest last; as many as its context size.
    history: tuple[int, ...] = ()
    context_tokens: int = 0
    # The first sampled token must begin a word: the word before it is published and cannot grow any more.
    word_start: bool = False
    # For policies that ask for them:
    with_probabilities: bool = False  # of the sampled tokens
    aligned_from: int | None = None  # which of the source tokens from this one on each of them attends to most

    def after(self, drafts: tuple[int, ...]) -> "SampleSpec":
        """Return how the token behind these drafts is drawn."""
        return replace(
            self,
            position=self.position + len(drafts),
            history=(*self.history, *drafts),
            word_start=self.word_start and not drafts,
        )


class Row(msgspec.Struct, frozen=True):
    """One session's share of a pass: source tokens to read, then target tokens to feed, the last of them drafts.

    Target slots from `target_start` on are dropped first, so that a token is fed again once more source is known.
    `visible_source` are the source tokens that the first target tokens may see: those were fed before, to a lane that
    is gone, and what follows them is known. All others see the whole source that has been read. A drafter
    may add up to `max_proposed` drafts of its own to a row that is sampled from.
    """

    lane: Lane
    source: tuple[int, ...]
    target: tuple[int, ...]
    target_start: int
    num_drafts: int
    sampling: SampleSpec
    plain: bool = False
    visible_source: tuple[int, ...] = ()
    max_proposed: int = 0
    source_start: int = 0  # source tokens that the lane holds
    prefix: int = 0  # source tokens with which the lane begins as those of other sessions do

    @property
    def num_samples(self) -> int:
        """Tokens that the engine samples: one behind the last confirmed token, one behind each draft; none where
        nothing is written, or nothing but what was written before.
        """
        return self.num_drafts + 1 if len(self.target) > len(self.visible_source) else 0

    @property
    def drafts(self) -> tuple[int, ...]:
        """The tokens to verify."""
        return self.target[len(self.target) - self.num_drafts :]


class Tokens(msgspec.Struct, frozen=True):
    """The row is in its lane; `tokens` were sampled behind it, none where the row only reads."""

    tokens: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()  # of each token, where the row asks for them
    aligned: tuple[int, ...] = ()  # index of the source token that each attends to most, likewise
    proposed: tuple[int, ...] = ()  # drafts that a drafter added behind the row's own


class Failed(msgspec.Struct, frozen=True):
    """The row cannot be computed, and its lane is gone."""

    error: str


class Evicted(msgspec.Struct, frozen=True):
    """Nothing was computed: the lane does not hold what the row counts on, which has to be fed again."""

    reason: str


class Deferred(msgspec.Struct, frozen=True):
    """Nothing was computed: other rows of the pass take all the room. The row is to be asked for again."""


Output: TypeAlias = Tokens | Failed | Evicted | Deferred
"""What the engine returns for a row."""


class Engine(Protocol):
    """Holds the lanes and runs the passes: `worker.engine.runner.Runner`."""

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """Free the dropped lanes, then run one pass; an output for each row, whose lanes all differ."""


def sampled_tokens(output: Output) -> tuple[int, ...]:
    """Return the tokens sampled for a row; none where it was not computed."""
    return output.tokens if isinstance(output, Tokens) else ()


def num_true(drafts: Sequence[int], sampled: Sequence[int]) -> int:
    """Return how many drafts came true: those before the first one that the model draws otherwise.

    >>> num_true((4, 5, 6), (4, 5, 7, 8))
    2
    """
    pairs = enumerate(zip(drafts, sampled, strict=False))
    return next((n for n, (draft, token) in pairs if draft != token), min(len(drafts), len(sampled)))
