"""A recorded translation, repeated in place of a model, for texts longer than the model can handle."""

from collections.abc import Iterable, Sequence
from itertools import chain, cycle, islice, pairwise
from typing import Any

from msgspec.structs import replace

from protocol import InputTextAppend, InputTextFinalize, Session
from worker.commands.bench.models import Harness
from worker.commands.bench.sessions import close, create, hear, write
from worker.commands.talk import Words
from worker.core.rows import Engine, Lane, Output, Prompt, Row, Tokens, sampled_tokens
from worker.core.scheduler import Budget

PLAIN = Budget(max_draft_tokens=0)
"""A budget without drafts from the text, because in a repeated text all of them would be accepted."""


class Recorded:
    """The words written, and for each draft, in order, whether it was accepted."""

    def __init__(self, words: Sequence[str], kept: Sequence[bool]) -> None:
        self.words, self.kept = words, kept


class _Recorder:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.kept: list[bool] = []

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        outputs = self._engine.run(rows, dropped)
        self.kept += [
            sampled_tokens(output)[:1] == row.drafts[:1]
            for row, output in zip(rows, outputs, strict=True)
            if row.drafts
        ]
        return outputs


def record(harness: Harness, session: Session, sentences: Sequence[Words]) -> Recorded:
    """Record the translation of the sentences by the harness's author, each as a segment."""
    recorder = _Recorder(harness.author)
    sessions = harness.sessions(PLAIN)
    create(sessions, "record", session)
    words: list[str] = []
    for sentence in sentences:
        hear(sessions, "record", InputTextAppend(text=" ".join(sentence)))
        hear(sessions, "record", InputTextFinalize())
    while (written := write(sessions, recorder)) is not None:
        words += [word.word for _, word in written]
    close(sessions, recorder)
    return Recorded(words, recorder.kept or [True])


class Script:
    """An engine that writes the same `num_words` words in each lane, by repeating the recorded ones.

    The token that begins a word is sampled twice: as the end of the word before, and again after more source is read.
    If the recorded draft was not accepted, the first sample of a lane is another token.
    """

    def __init__(self, recorded: Recorded, num_words: int, prompt: Prompt, vocabulary: Any) -> None:
        self._first = len(prompt.in_layout().target)
        words = list(islice(cycle(recorded.words), num_words))
        self.word_tokens: list[tuple[int, ...]] = [
            vocabulary.encode_word(word, before) for before, word in pairwise([words[-1], *words])
        ]
        self.tokens = tuple(chain.from_iterable(self.word_tokens))
        starts = [0]
        for tokens in self.word_tokens:
            starts.append(starts[-1] + len(tokens))
        self._doubted = {start for start, kept in zip(starts[1:-1], cycle(recorded.kept)) if not kept}
        self._drawn: set[tuple[Lane, int]] = set()  # doubted places that were sampled once
        self._others = {self.tokens[start] for start in starts[:-1]}

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """Return the recorded tokens at the position of each row."""
        return [self._sampled(row) if row.num_samples else Tokens() for row in rows]

    def _sampled(self, row: Row) -> Tokens:
        place, tokens = row.sampling.position - self._first, []
        for i in range(row.num_drafts + 1):
            tokens.append(self._token(row.lane, place + i))
            if i < row.num_drafts and tokens[i] != row.drafts[i]:  # later samples are not used
                tokens += [tokens[i]] * (row.num_drafts - i)
                break
        return Tokens(tuple(tokens))

    def _token(self, lane: Lane, place: int) -> int:
        token = self.tokens[place]
        if place not in self._doubted or (lane, place) in self._drawn:
            return token
        self._drawn.add((lane, place))
        return min(self._others - {token}, default=token)


class Unlimited:
    """A vocabulary whose segments may have any length, and any words: a script may end a sentence anywhere."""

    def __init__(self, vocabulary: Any) -> None:
        self._vocabulary = vocabulary

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vocabulary, name)

    def prompt(self, session: Session) -> Prompt:
        """Return the model's prompt without its limits, and without the rules for translations."""
        prompt: Prompt = self._vocabulary.prompt(session)
        limits = {"max_source_tokens": 2**30, "max_target_tokens": 2**30, "max_segment_words": 2**30}
        return replace(prompt, **limits, is_translation=False)
