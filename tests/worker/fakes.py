"""A model without weights: its next token is a pure function of the contents of its lane.

A lane holds the same facts as a dual cache: the source tokens read, and for each target token how much source had been
read when it was fed. So a core that forgets to feed a token again, rolls back too little or reads too early gets other
tokens.
"""

import random
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from protocol import DEFAULT_POLICY, Policy, Session
from worker.core import words
from worker.core.rows import Evicted, Failed, Lane, Output, Prompt, Refused, Row, SampleSpec, Tokens

EOS, TAG, END, START = range(4)
SPECIAL = 4
SOURCE = 100_000  # a source character's token
# Pieces of target text, as bytes so that some are parts of a character: words, continuations, white space, several
# words at once, scripts without spaces, what is never part of a character.
PIECES = (
    *(b" a", b" bo", b" de", b" F", b"b", b"co", b"e", b".", b",", b" ", b"\n", b" x y"),
    *("世".encode(), "界".encode(), "。".encode(), b"\xc3", b"\xa9", b" \xe4\xb8", b"\x96", b"e\n", b"\xff"),
)
LATIN = tuple(SPECIAL + i for i in range(8))

PROMPT = Prompt(source=(TAG,), end=(END,), target=(START,), max_source_tokens=10_000, max_target_tokens=10_000)
CONTIGUOUS = replace(PROMPT, is_contiguous=True)


class FakeVocabulary:
    """Source words are spelled in characters; target tokens are `PIECES`."""

    eos_tokens = frozenset({EOS})
    default_policy: Policy = DEFAULT_POLICY

    def __init__(self, prompt: Prompt = PROMPT, *, hides_first_space: bool = False) -> None:
        self._prompt = prompt
        self._hides_first_space = hides_first_space  # as SentencePiece decoders do

    def prompt(self, session: Session) -> Prompt:
        """Return the same prompt for every session. Raises Refused for Klingon."""
        if session.target_language == "tlh":
            raise Refused("expected a language of this planet", param="target_language")
        return self._prompt

    def encode_word(self, word: str, previous: str) -> tuple[int, ...]:
        """Return a token for each character; the first token differs behind another word."""
        return tuple(SOURCE + ord(char) + (500_000 if previous and not i else 0) for i, char in enumerate(word))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of the pieces; special tokens have none."""
        text = b"".join(PIECES[t - SPECIAL] for t in tokens if t >= SPECIAL).decode(errors="replace")
        return text.removeprefix(" ") if self._hides_first_space else text


class FakeModel(msgspec.Struct, frozen=True):
    """A model that draws the next token of a lane from weighted `tokens`; `eos` is the frequency of the end."""

    seed: int = 0
    tokens: tuple[int, ...] = tuple(range(SPECIAL, SPECIAL + len(PIECES)))
    eos: float = 0.1
    steadiness: float = 0.6  # how often the source makes no difference, so that drafts are accepted

    def next_token(self, source: Sequence[int], target: Sequence[tuple[int, int]], sampling: SampleSpec) -> int:
        """Return the token after `target`, a list of (token, source tokens read when it was fed)."""
        recent = (
            sampling.history[-sampling.context_tokens :]
            if sampling.repetition_penalty and sampling.context_tokens
            else ()
        )
        noise = (sampling.seed, sampling.position) if sampling.temperature else ()
        seen = tuple(token for token, _ in target)
        dice = random.Random(repr((self.seed, seen, recent, noise)))
        if dice.random() > self.steadiness:
            dice = random.Random(repr((self.seed, tuple(source), tuple(target), recent, noise)))
        if dice.random() < self.eos:
            return EOS
        # The likeliest allowed token, like an argmax behind a mask.
        ranked = dice.sample(self.tokens, len(self.tokens))
        return next((token for token in ranked if not sampling.word_start or _begins_word(token)), EOS)

    def probability(self, source: Sequence[int], target: Sequence[tuple[int, int]], token: int) -> float:
        """Return the probability of `token` after `target`."""
        return random.Random(repr((self.seed, tuple(source), tuple(target), token))).random()

    def aligned(self, source: Sequence[int], target: Sequence[tuple[int, int]], token: int) -> int:
        """Return the index of the source token that `token` attends to: never in the prompt, and usually a late one."""
        dice = random.Random(repr((self.seed, len(source), tuple(target), token)))
        return max(dice.randrange(1, len(source)), dice.randrange(1, len(source)))


def _begins_word(token: int) -> bool:
    return words.starts_word("a", PIECES[token - SPECIAL].decode(errors="replace"))


class FakeRunner:
    """A runner of plans like the engine's, which fails the test where a row does not fit its lane.

    `draft_quality`: acceptance rate of the drafts that it adds to rows that allow them; None: it adds none.
    """

    def __init__(self, model: FakeModel, *, faulty: Iterable[Lane] = (), draft_quality: float | None = None) -> None:
        self.model = model
        self.faulty = frozenset(faulty)
        self.draft_quality = draft_quality
        self.lanes: dict[Lane, tuple[list[int], list[tuple[int, int]]]] = {}
        self.accepted_drafts = 0

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        """Return the output for each row."""
        for lane in dropped:
            self.lanes.pop(lane, None)
        return tuple(self._row(row) for row in rows)

    def _row(self, row: Row) -> Output:
        if row.lane in self.faulty:
            return Failed("RuntimeError: out of memory")
        if row.lane not in self.lanes and (row.source_start or row.target_start):
            return Evicted("it has been given up")
        source, target = self.lanes.setdefault(row.lane, ([], []))
        if len(source) != row.source_start:
            raise AssertionError(f"the lane holds {len(source)} source tokens, the row counts on {row.source_start}")
        if not row.source and not row.target:
            raise AssertionError(f"a row without tokens: {row}")
        if row.target_start > len(target):
            raise AssertionError(
                f"target tokens are missing: the lane has {len(target)}, the row starts at {row.target_start}"
            )
        source += row.source
        if not row.target:
            return Tokens()
        del target[row.target_start :]
        if any(sight > len(source) for sight in row.visible_source):
            raise AssertionError(
                f"tokens are to see {max(row.visible_source)} source tokens, {len(source)} have been read"
            )
        target += zip(row.target, row.visible_source, strict=False)
        if not row.num_samples:
            return Tokens()
        num_confirmed = len(row.target) - row.num_drafts
        if num_confirmed < 1:
            raise AssertionError("a row with drafts feeds at least one confirmed token before them")
        target += [(token, len(source)) for token in row.target[len(row.visible_source) : num_confirmed]]
        proposed = self._proposed(row, source, target)
        sampled = [self.model.next_token(source, target, row.sampling)]
        sure = [self.model.probability(source, target, sampled[0])]
        aligned = [self.model.aligned(source, target, sampled[0])]
        drafts = row.drafts + proposed
        for i, draft in enumerate(drafts, 1):
            target.append((draft, len(source)))
            sampled.append(self.model.next_token(source, target, row.sampling.after(drafts[:i])))
            sure.append(self.model.probability(source, target, sampled[-1]))
            aligned.append(self.model.aligned(source, target, sampled[-1]))
            self.accepted_drafts += sampled[-2] == draft
        return Tokens(
            tokens=tuple(sampled),
            probabilities=tuple(sure if row.sampling.with_probabilities else ()),
            aligned=tuple(() if row.sampling.aligned_from is None else aligned),
            proposed=proposed,
        )

    def _proposed(self, row: Row, source: list[int], target: list[tuple[int, int]]) -> tuple[int, ...]:
        if self.draft_quality is None:
            return ()
        dice = random.Random(repr((row.lane, row.sampling.position)))
        drafts = row.drafts
        for _ in range(row.max_proposed):
            fed = [*target, *((draft, len(source)) for draft in drafts)]
            token = self.model.next_token(source, fed, row.sampling.after(drafts))
            drafts += (token if dice.random() < self.draft_quality else dice.choice(self.model.tokens),)
        return drafts[row.num_drafts :]
