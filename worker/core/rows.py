"""The core's interface to tokenizer and engine: the vocabulary, rows of token ids, and the outputs of a pass."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import msgspec
from msgspec.structs import replace

from protocol import Policy, ProtocolError, Session

Lane: TypeAlias = tuple[int, int]
"""(session number, segment index): the dual cache that a row belongs to."""


class Refused(ProtocolError):
    """The model cannot do what a session asks for: an unknown language, an option that it lacks."""

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
    max_context_tokens: int | None = None  # source and target of a completion together; None: however long both may be
    max_segment_words: int | None = None  # longest source the model was trained for; None: not known
    is_translation: bool = False  # the target is about as long as the source; words that are no language are copied
    source_language: str | None = None  # the only one that the model reads; None: it may read any
    # Positions run on from source to target, as in a stock model: whatever follows the source is fed again after every
    # read. Otherwise, the model has group positions, and nothing is fed again.
    is_contiguous: bool = False

    @property
    def is_answer(self) -> bool:
        """Whether the target is a stock chat model's translation: without markup and line breaks."""
        return self.is_contiguous and self.is_translation

    def room(self, num_source: int) -> int:
        """Return how many target tokens, the prompt's included, there may be behind so many source tokens."""
        context = self.max_context_tokens
        return self.max_target_tokens if context is None else min(self.max_target_tokens, context - num_source)

    def in_layout(self) -> "Prompt":
        """Return the prompt as it is fed: in a contiguous layout, `end` begins the target."""
        return replace(self, end=(), target=self.end + self.target) if self.is_contiguous else self


class Vocabulary(Protocol):
    """A model's tokenizer, as far as the core needs it. The same arguments always give the same result."""

    @property
    def eos_tokens(self) -> frozenset[int]:
        """Tokens that end a translation."""

    @property
    def default_policy(self) -> Policy:
        """The policy of sessions that ask for none."""

    def prompt(self, session: Session) -> Prompt:
        """Return the prompt for a session's options. Raises Refused."""

    def encode_word(self, word: str, previous: str) -> tuple[int, ...]:
        """Return the tokens of a bare word that follows `previous` ("" at the start); never special tokens,
        none for "".
        """

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`, a leading space kept where the tokenizer shows one."""


class SampleSpec(msgspec.Struct, frozen=True):
    """Everything that sampling depends on besides the logits."""

    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float | None = None
    seed: int = 0
    # Position of the first sampled token within the segment's target: keys the noise, so that replay draws the same.
    position: int = 0
    # Tokens that the repetition penalty covers, the newest last; as many as its context size.
    history: tuple[int, ...] = ()
    context_tokens: int = 0
    # The first sampled token must begin a word: the word before it is published and cannot grow any more.
    word_start: bool = False
    one_line: bool = False  # no line breaks: in its answers, a chat model writes notes and other versions behind them
    opening: bool = False  # the first sampled token opens such an answer: with a letter or a digit, not with a quote
    no_introduction: bool = False  # such an answer says nothing about itself, see `worker.core.introductions`
    # For policies that ask for them:
    with_probabilities: bool = False  # of the sampled tokens
    aligned_from: int | None = None  # which of the source tokens from this one on each of them attends to most

    def after(self, drafts: tuple[int, ...]) -> "SampleSpec":
        """Return the spec of the token after these drafts."""
        return replace(
            self,
            position=self.position + len(drafts),
            history=(*self.history, *drafts),
            word_start=self.word_start and not drafts,
            opening=self.opening and not drafts,
        )


class Row(msgspec.Struct, frozen=True):
    """One session's share of a pass: source tokens to read, then target tokens to feed, the last of them drafts.

    Target slots from `target_start` on are dropped first, so that a token is fed again once more source is known.
    `visible_source` holds how many source tokens each of the first target tokens may see: those were fed before, to a
    lane that is lost. All other tokens see the whole source read so far. A drafter may add up to `max_proposed` drafts
    to a row that is sampled from.
    """

    lane: Lane
    source: tuple[int, ...]
    target: tuple[int, ...]
    target_start: int
    num_drafts: int
    sampling: SampleSpec
    is_contiguous: bool = False  # the lane's layout, see `Prompt`
    visible_source: tuple[int, ...] = ()
    max_proposed: int = 0
    source_start: int = 0  # source tokens that the lane holds
    prefix: int = 0  # source tokens at the lane's start that other sessions' lanes share

    @property
    def num_samples(self) -> int:
        """Number of tokens that the engine samples: one after the last confirmed token and one after each draft; 0 if
        the row writes nothing new.
        """
        return self.num_drafts + 1 if len(self.target) > len(self.visible_source) else 0

    @property
    def drafts(self) -> tuple[int, ...]:
        """The tokens to verify."""
        return self.target[len(self.target) - self.num_drafts :]


class Tokens(msgspec.Struct, frozen=True):
    """The tokens sampled for a row that was computed; none if it only reads."""

    tokens: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()  # of each token, if the row asks for them
    aligned: tuple[int, ...] = ()  # index of the source token that each attends to most, likewise
    proposed: tuple[int, ...] = ()  # drafts that a drafter added after the row's own


class Failed(msgspec.Struct, frozen=True):
    """The row could not be computed; its lane is lost."""

    error: str


class Evicted(msgspec.Struct, frozen=True):
    """Nothing was computed: the lane lacks tokens that the row builds on; feed them again."""

    reason: str


class Deferred(msgspec.Struct, frozen=True):
    """Nothing was computed: other rows of the pass take all the room; ask for the row again."""


Output: TypeAlias = Tokens | Failed | Evicted | Deferred
"""The engine's result for a row."""


class Engine(Protocol):
    """The holder of the lanes, which runs the passes: `worker.engine.runner.Runner`."""

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """Free the dropped lanes, then run one pass over rows of different lanes; return an output for each row."""


def sampled_tokens(output: Output) -> tuple[int, ...]:
    """Return the tokens sampled for a row; none if it was not computed."""
    return output.tokens if isinstance(output, Tokens) else ()


def num_true(drafts: Sequence[int], sampled: Sequence[int]) -> int:
    """Return how many drafts are accepted: those before the first that differs from the sampled token.

    >>> num_true((4, 5, 6), (4, 5, 7, 8))
    2
    """
    pairs = enumerate(zip(drafts, sampled, strict=False))
    return next((n for n, (draft, token) in pairs if draft != token), min(len(drafts), len(sampled)))
