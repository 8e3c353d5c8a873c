"""What a model draws in its own layout, drawn again in any."""

from collections.abc import Iterable, Sequence

import pytest
from msgspec.structs import replace

from protocol import Policy, Session
from protocol.policies import Adaptive, LocalAgreement, WaitK
from worker.commands.bench.models import harness
from worker.commands.bench.transcript import Reader, Transcript, record
from worker.commands.faults import CommandError
from worker.core.rows import Lane, Output, Prompt, Row, SampleSpec, Tokens
from worker.evaluation.corpus import Sentence
from worker.evaluation.run import translate

GROUP = Prompt(source=(1,), end=(2,), target=(3,), max_source_tokens=9, max_target_tokens=9)
CONTIGUOUS = replace(GROUP, is_contiguous=True)
TEXTS = ["I do not know where he lives.", "I do not know.", "Thank you very much for the book."]


class Author:
    """Draws the next of these tokens for each row."""

    def __init__(self, *drawn: Tokens) -> None:
        self._drawn = list(drawn)

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """One output a row."""
        return [self._drawn.pop(0) for _ in rows]


def row(prompt: Prompt, source: tuple[int, ...], place: int, *drafts: int) -> Row:
    """A row that reads this source, and asks for the token at this place of the translation."""
    position = place + len(prompt.in_layout().target)
    return Row((0, 0), source, (0, *drafts), 0, len(drafts), SampleSpec(position=position))


@pytest.mark.usefixtures("with_model")
@pytest.mark.parametrize("policy", [WaitK(k=2), Adaptive(), LocalAgreement()])
def test_both_layouts_write_what_the_model_writes_in_its_own(policy: Policy) -> None:
    """The same words with the same delays, whatever the policy asks of a draw."""
    subject, session = harness("starter", None), Session(target_language="fr", policy=policy)
    corpus = [Sentence(i, text, text) for i, text in enumerate(TEXTS * 2)]
    own = translate(subject.engine, subject.vocabulary, session, corpus)
    transcript = record(subject, session, TEXTS)
    for layout in ("group", "contiguous"):
        vocabulary = subject.in_layout(layout).vocabulary
        again = translate(Reader(transcript, vocabulary.prompt(session)), vocabulary, session, corpus, max_rows=4)
        written, expected = ([(line.prediction, line.delays) for line in run.sentences] for run in (again, own))
        assert written == expected


@pytest.mark.usefixtures("with_model")
def test_the_rows_have_the_layout() -> None:
    """It is that of the harness; the model's own needs no other harness."""
    subject = harness("starter", None)
    other = subject.in_layout("contiguous")
    assert (subject.layout, other.layout) == ("group", "contiguous")
    assert subject.in_layout("group") is subject.in_layout(None) is subject
    assert other.runner is subject.runner
    assert other.vocabulary.prompt(Session(target_language="fr")).is_contiguous


def recorded(*steps: tuple[Row, Tokens]) -> Transcript:
    """The transcript of these rows, in the group layout."""
    from worker.commands.bench.transcript import _Recorder

    recorder = _Recorder(Author(*(drawn for _, drawn in steps)), GROUP)
    for each, _ in steps:
        recorder.run([each])
    return recorder.transcript


def test_a_token_drawn_again_behind_the_end() -> None:
    """Comes again only the second time, though the end of the source has no tokens in a contiguous layout."""
    transcript = recorded((row(GROUP, (1, 8), 0), Tokens((5,))), (row(GROUP, (2,), 0, 5), Tokens((6, 7))))
    reader = Reader(transcript, CONTIGUOUS)
    assert reader.run([row(CONTIGUOUS, (1, 8), 0)]) == [Tokens((5,))]
    assert reader.run([row(CONTIGUOUS, (), 0, 5)]) == [Tokens((6, 6))]
    assert reader.run([row(CONTIGUOUS, (), 0)]) == [Tokens((6,))]
    assert (reader.num_drafts, reader.num_accepted) == (1, 0)


def test_accepted_drafts() -> None:
    """A draft is accepted where it is what was drawn, with what else a policy asks for."""
    first = Tokens((5, 6), probabilities=(0.5, 0.25), aligned=(1, 0))
    reader = Reader(recorded((row(GROUP, (1, 8), 0, 5), first)), GROUP)
    assert reader.run([row(GROUP, (1, 8), 0, 5)]) == [first]
    assert (reader.num_drafts, reader.num_accepted) == (1, 1)


def test_what_is_not_recorded_cannot_be_drawn() -> None:
    """Such as a segment that only one layout begins; the message tells the remedy."""
    reader = Reader(recorded((row(GROUP, (1, 8), 0), Tokens((5,)))), CONTIGUOUS)
    with pytest.raises(CommandError, match="shorter sentences with --file"):
        reader.run([row(CONTIGUOUS, (1, 9), 0)])
