"""The tokens that a model draws in its own layout, recorded, and drawn again for segments of any layout.

So layouts are compared with the same words and accepted drafts, though a model writes well in its own alone.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

from protocol import Session
from worker.commands.bench.models import Harness
from worker.commands.faults import CommandError
from worker.core.rows import Engine, Lane, Output, Prompt, Row, Tokens, num_true
from worker.evaluation.corpus import Sentence
from worker.evaluation.run import translate


class _Draw(NamedTuple):
    """The place of a draw. A token may be drawn again from the same source: at the end of the word before, and behind
    the end of the source, which is not the same source in all layouts.
    """

    source: tuple[int, ...]  # tokens read, without those of the end
    place: int  # in the translation
    number: int  # of earlier draws at that place from that source


Transcript: TypeAlias = dict[_Draw, Tokens]
"""The token of each draw, as a lane's output."""


class _Draws:
    """The draws of all lanes with this prompt."""

    def __init__(self, prompt: Prompt) -> None:
        prompt = prompt.in_layout()
        self._end, self._num_prompt = prompt.end, len(prompt.target)
        self._sources: dict[Lane, tuple[int, ...]] = {}
        self._numbers: Counter[tuple[Lane, tuple[int, ...], int]] = Counter()

    def read(self, row: Row) -> None:
        source = self._sources.get(row.lane, ()) + row.source
        is_end = self._end and source[-len(self._end) :] == self._end
        self._sources[row.lane] = source[: -len(self._end)] if is_end else source

    def next(self, row: Row, index: int) -> _Draw:
        """Return the draw behind the first `index` drafts of the row."""
        source, place = self._sources[row.lane], row.sampling.position + index - self._num_prompt
        self._numbers[row.lane, source, place] += 1
        return _Draw(source, place, self._numbers[row.lane, source, place] - 1)


def record(harness: Harness, session: Session, sentences: Sequence[str]) -> Transcript:
    """Record the translation of the sentences by the harness's author, each in a session with these options."""
    recorder = _Recorder(harness.author, harness.vocabulary.prompt(session))
    corpus = [Sentence(i, text, text) for i, text in enumerate(sentences, 1)]
    translate(recorder, harness.vocabulary, session, corpus)
    return recorder.transcript


class _Recorder:
    def __init__(self, author: Engine, prompt: Prompt) -> None:
        self.transcript: Transcript = {}
        self._author, self._draws = author, _Draws(prompt)

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        outputs = self._author.run(rows, dropped)
        for row, output in zip(rows, outputs, strict=True):
            self._draws.read(row)
            if isinstance(output, Tokens) and output.tokens:
                for i in range(num_true(row.drafts, output.tokens) + 1):
                    self.transcript[self._draws.next(row, i)] = _only(output, i)
        return outputs


def _only(output: Tokens, i: int) -> Tokens:
    return Tokens(output.tokens[i : i + 1], output.probabilities[i : i + 1], output.aligned[i : i + 1])


class Reader:
    """An engine that draws what is recorded, for the sentences and options of the record and this prompt."""

    def __init__(self, transcript: Transcript, prompt: Prompt) -> None:
        self.num_drafts = 0
        self.num_accepted = 0
        self._transcript, self._draws = transcript, _Draws(prompt)

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """Return the recorded tokens of each row. Raises CommandError where none are recorded."""
        outputs: list[Tokens] = []
        for row in rows:
            self._draws.read(row)
            outputs.append(self._drawn(row) if row.num_samples else Tokens())
        return outputs

    def _drawn(self, row: Row) -> Tokens:
        draws: tuple[Tokens, ...] = ()
        for i, draft in enumerate((*row.drafts, None)):
            found = self._find(self._draws.next(row, i))
            if found is None and not draws:
                raise CommandError(
                    "the layouts split the text into other segments, as a sentence is too long for the model; "
                    "give shorter sentences with --file"
                )
            draws += (found or draws[-1],)  # what is not recorded is not used: it lies behind source to be read
            if found is None or found.tokens != (draft,):
                break
        self.num_drafts += row.num_drafts
        self.num_accepted += len(draws) - 1
        draws += draws[-1:] * (row.num_samples - len(draws))  # behind a rejected draft, nothing is used
        return Tokens(
            tuple(chain.from_iterable(drawn.tokens for drawn in draws)),
            tuple(chain.from_iterable(drawn.probabilities for drawn in draws)),
            tuple(chain.from_iterable(drawn.aligned for drawn in draws)),
        )

    def _find(self, draw: _Draw) -> Tokens | None:
        # The last recorded draw where there are more now.
        numbers = range(draw.number, -1, -1)
        return next((found for i in numbers if (found := self._transcript.get(draw._replace(number=i)))), None)
