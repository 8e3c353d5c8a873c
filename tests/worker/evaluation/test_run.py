"""Test sets through the session machine, many sentences to a tick."""

import doctest
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import Limits, OutputTextDelta, Session
from tests.worker.fakes import CONTIGUOUS, LATIN, FakeModel, FakeRunner, FakeVocabulary
from worker.core.rows import Failed, Lane, Output, Row
from worker.engine.model import StreamingModel
from worker.engine.text.tokenizer import Vocabulary
from worker.evaluation import policies, run
from worker.evaluation.corpus import Sentence
from worker.evaluation.errors import UnusableSentence
from worker.evaluation.run import translate
from worker.library.running import runner_of
from worker.library.words import generate_words

TEXTS = st.lists(
    st.lists(st.sampled_from(["the", "cat", "sat.", "on", "世", "x"]), min_size=1, max_size=7).map(" ".join),
    min_size=1,
    max_size=6,
)


class _Counting(FakeRunner):
    """Remembers how many rows each pass had."""

    def __init__(self, model: FakeModel) -> None:
        super().__init__(model)
        self.num_rows: list[int] = []

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        self.num_rows += [len(rows)] if rows else []
        return super().run(rows, dropped)


def _numbered(texts: Iterable[str]) -> list[Sentence]:
    return [Sentence(line, text, "a b c") for line, text in enumerate(texts, 1)]


@settings(deadline=None)
@given(TEXTS, st.integers(0, 50), st.sampled_from([1, 3, None]), st.integers(1, 7))
def test_together_as_alone(texts: list[str], seed: int, k: int | None, max_rows: int) -> None:
    """Words and delays of a sentence are the same in any company; afterwards no lane is held."""
    options = Session(limits=Limits(max_new_words=9, max_tokens_per_word=6))
    session = policies.offline(options) if k is None else policies.wait_k(options, k)
    runner, vocabulary, corpus = _Counting(FakeModel(seed)), FakeVocabulary(), _numbered(texts)
    together = translate(runner, vocabulary, session, corpus, max_rows=max_rows)
    assert together.policy == policies.policy_name(session)
    assert not runner.lanes
    assert max(runner.num_rows) <= max_rows
    for sentence, found in zip(corpus, together.sentences, strict=True):
        alone = translate(FakeRunner(FakeModel(seed)), vocabulary, session, [sentence]).sentences[0]
        assert (found.line, found.source, found.reference) == (sentence.line, sentence.source, sentence.reference)
        assert (found.prediction, found.delays) == (alone.prediction, alone.delays)
        assert found.finish_reason == alone.finish_reason


def test_sentences_share_their_passes() -> None:
    """As long as there are enough of them, every pass has as many rows as it may."""
    runner = _Counting(FakeModel(3))
    translate(runner, FakeVocabulary(), policies.wait_k(Session(), 2), _numbered(["the cat sat."] * 6), max_rows=3)
    assert set(runner.num_rows) == {3}


def test_offline_reads_all_and_wait_k_as_it_says() -> None:
    """Every offline word has the whole source behind it, the first one of wait-2 two words."""
    session, corpus = Session(limits=Limits(max_new_words=4)), _numbered(["the cat sat. on x"])
    for seed in range(5):
        runner = FakeRunner(FakeModel(seed, tokens=LATIN, eos=0.0))
        offline = translate(runner, FakeVocabulary(), policies.offline(session), corpus).sentences[0]
        assert offline.delays == (5, 5, 5, 5)
        streamed = translate(runner, FakeVocabulary(), policies.wait_k(session, 2), corpus).sentences[0]
        assert streamed.delays == (2, 3, 4, 5)
        assert (streamed.source_words, streamed.reference_words, streamed.finish_reason) == (5, 3, "length")


def test_a_long_line_may_be_several_segments() -> None:
    """Its delays count all source words before a target word."""
    vocabulary = FakeVocabulary(replace(CONTIGUOUS, max_segment_words=3))
    runner, session = (
        FakeRunner(FakeModel(tokens=LATIN, eos=0.0)),
        policies.wait_k(Session(limits=Limits(max_new_words=2)), 1),
    )
    found = translate(runner, vocabulary, session, _numbered(["the cat sat on a mat"])).sentences[0]
    assert (found.source_words, found.delays) == (6, (1, 2, 4, 5))


def test_times_count_from_a_sentences_first_pass() -> None:
    """They grow from word to word by the passes in between; a sentence that comes later starts anew."""
    ticks = iter(range(10_000))
    session = policies.wait_k(Session(limits=Limits(max_new_words=4)), 1)
    runner, corpus = FakeRunner(FakeModel(1, eos=0.0)), _numbered(["the cat sat. on", "the cat sat. on"])
    found = translate(runner, FakeVocabulary(), session, corpus, max_rows=1, clock_s=lambda: float(next(ticks)))
    first, second = found.sentences
    assert first.compute_ms == second.compute_ms
    assert list(first.compute_ms) == sorted(first.compute_ms)
    assert first.compute_ms[0] >= 1000
    assert found.compute_s >= (first.compute_ms[-1] + second.compute_ms[-1]) / 1000
    assert found.words_per_s == found.num_words / found.compute_s == 8 / found.compute_s


def test_each_sentence_is_told() -> None:
    """Once, when it is finished."""
    done: list[None] = []
    corpus = _numbered(["the cat", "x", "on the cat"])
    translate(FakeRunner(FakeModel(2)), FakeVocabulary(), Session(), corpus, on_done=lambda: done.append(None))
    assert len(done) == 3


class _Failing(FakeRunner):
    """Fails on the second row of its second pass."""

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        if self.lanes and len(rows) > 1:
            return (*super().run(rows[:1], dropped), Failed("MemoryError: no room"), *super().run(rows[2:]))
        return super().run(rows, dropped)


def test_a_failure_names_its_line_and_frees_the_lanes() -> None:
    """The engine's, and the model's refusal of the options; what others held is free."""
    runner = _Failing(FakeModel(2, eos=0.0))
    with pytest.raises(UnusableSentence, match=r"line 2 of the test set: .*no room"):
        translate(runner, FakeVocabulary(), Session(), _numbered(["the cat sat. on x"] * 3))
    assert not runner.lanes
    with pytest.raises(UnusableSentence, match="line 1 of the test set: expected a language of this planet"):
        translate(runner, FakeVocabulary(), Session(target_language="tlh"), _numbered(["x"]))
    with pytest.raises(ValueError, match="max_rows 0"):
        translate(runner, FakeVocabulary(), Session(), _numbered(["x"]), max_rows=0)


@pytest.mark.parametrize("max_rows", [1, 4])
def test_the_shipped_model_says_what_generate_says(
    starter: StreamingModel, starter_vocabulary: Vocabulary, corpus: list[Sentence], max_rows: int
) -> None:
    """The same words and delays as one text at a time, offline and at wait-3."""
    runner = runner_of(starter, starter_vocabulary)
    for session in (policies.wait_k(Session(target_language="fr"), 3), policies.offline(Session(target_language="fr"))):
        found = translate(runner, starter_vocabulary, session, corpus, max_rows=max_rows)
        assert runner.num_lanes == 0
        for sentence, translated in zip(corpus, found.sentences, strict=True):
            events = list(generate_words(starter, starter_vocabulary, session, sentence.source))
            deltas = [event for event in events if isinstance(event, OutputTextDelta)]
            assert translated.prediction == "".join(delta.text for delta in deltas)
            assert translated.delays == tuple(delta.source_words_read for delta in deltas)


@pytest.mark.parametrize("name", ["offline", "wait-1", "wait-12"])
def test_a_policy_by_its_name(name: str) -> None:
    """A name gives the session whose results are called so, with or without the oracle."""
    session = policies.named(Session(target_language="fr"), name)
    assert policies.policy_name(session) == name
    assert session.target_language == "fr"
    if name != policies.OFFLINE:
        assert policies.named(Session(target_language="fr"), policies.oracle_name(name)) == session


@pytest.mark.parametrize("name", ["", "wait", "wait-", "wait-k", "wait--1", "wait-3-", "Offline", "offline-oracle"])
def test_what_is_no_policy(name: str) -> None:
    """The message says what was expected, and what came."""
    with pytest.raises(ValueError, match="expected a policy such as wait-3"):
        policies.named(Session(), name)


def test_examples_hold() -> None:
    """Every example of the modules gives what it says."""
    assert doctest.testmod(run) == (0, 1)
    assert doctest.testmod(policies) == (0, 6)
