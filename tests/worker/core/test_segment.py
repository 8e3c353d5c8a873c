"""Laws of one segment: streamed decoding is the naive decoding of the whole, at any pace, with and without drafts."""

from collections.abc import Sequence
from math import floor
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import (
    Adaptive,
    AlignAtt,
    ClientEvent,
    InputTextAppend,
    InputTextFinalize,
    LocalAgreement,
    SegmentDone,
    Session,
    SessionCreate,
    Speculation,
    WaitK,
)
from tests.worker.core.conftest import MODELS, QUALITIES, SESSIONS, VOCABULARIES, WORDS
from tests.worker.core.drive import Driver, check_stream, deltas, timeless
from tests.worker.core.reference import Reference
from tests.worker.fakes import CONTIGUOUS, EOS, LATIN, PIECES, PROMPT, SOURCE, SPECIAL, FakeModel, FakeVocabulary
from worker.core.rows import Prompt, SampleSpec
from worker.core.scheduler import Budget

# Long enough for any segment of these tests, short enough to catch one that never ends.
NEVER = 5000
TEXT = ["the", "cat", "sat", "on", "the", "mat", "and", "slept"]


def translate(driver: Driver, session: Session, source_words: list[str]) -> Driver:
    """One segment, its words and its end there from the start."""
    driver.step(SessionCreate(session=session), InputTextAppend(text=" ".join(source_words)), InputTextFinalize())
    return driver.run(NEVER)


@given(model=MODELS, vocabulary=VOCABULARIES, session=SESSIONS, source_words=WORDS, draft_quality=QUALITIES)
def test_streamed_is_the_naive_reference(
    model: FakeModel,
    vocabulary: FakeVocabulary,
    session: Session,
    source_words: list[str],
    draft_quality: float | None,
) -> None:
    """Words, tokens, source words read and finish reason are those of DESIGN's rule, computed naively; with drafts of
    any quality, greedy or sampled.
    """
    events = translate(Driver(model, vocabulary, draft_quality=draft_quality), session, source_words).events["s"]
    expected = Reference(model, vocabulary, session).translate(source_words)
    found = deltas(events)
    check_stream(events)
    assert [event.word for event in found] == expected.words
    assert [event.tokens for event in found] == expected.tokens
    assert [event.source_words_read for event in found] == expected.lags
    assert isinstance(events[-1], SegmentDone)
    assert events[-1].finish_reason == expected.reason
    assert events[-1].target_words == len(expected.words)


@given(
    model=MODELS,
    vocabulary=VOCABULARIES,
    session=SESSIONS,
    pieces=st.lists(st.tuples(WORDS, st.integers(0, 3), st.booleans()), max_size=6),
    budget=st.builds(
        Budget,
        max_source_tokens=st.sampled_from([1, 3, 512]),
        min_source_tokens=st.sampled_from([1, 5, 64]),
        max_draft_tokens=st.sampled_from([0, 1, 16]),
    ),
    draft_quality=QUALITIES,
)
def test_pace_changes_nothing(
    model: FakeModel,
    vocabulary: FakeVocabulary,
    session: Session,
    pieces: list[tuple[list[str], int, bool]],
    budget: Budget,
    draft_quality: float | None,
) -> None:
    """Any mixture of arrivals and ticks, also arrivals while a row is in flight, and any drafts, give the same events
    but for times.
    """
    driver = Driver(model, vocabulary, budget=budget, draft_quality=draft_quality)
    driver.step(SessionCreate(session=session))
    for source_words, num_ticks, is_end in pieces:
        arrivals: list[ClientEvent] = [
            InputTextAppend(text=" ".join(source_words)),
            *([InputTextFinalize()] if is_end else []),
        ]
        for _ in range(num_ticks):
            driver.now_ms += 7
            driver.tick()
        planned = driver.plan()
        driver.step(*arrivals)
        driver.update(planned)
    driver.step(InputTextFinalize())
    driver.run(1000)
    at_once = Driver(model, vocabulary)
    at_once.step(SessionCreate(session=session))
    for source_words, _, is_end in pieces:
        at_once.step(*(InputTextAppend(text=word) for word in source_words), *([InputTextFinalize()] if is_end else []))
    at_once.step(InputTextFinalize())
    at_once.run(1000)
    check_stream(driver.events["s"])
    assert timeless(driver.events["s"]) == timeless(at_once.events["s"])


@given(model=MODELS, vocabulary=VOCABULARIES, session=SESSIONS, source_words=WORDS)
def test_drafts_change_nothing(
    model: FakeModel, vocabulary: FakeVocabulary, session: Session, source_words: list[str]
) -> None:
    """With speculation off no row carries a draft, and the events are the same."""
    without = replace(session, speculation=Speculation(enabled=False))
    fast, plain = Driver(model, vocabulary, draft_quality=1.0), Driver(model, vocabulary, draft_quality=1.0)
    translate(fast, session, source_words)
    translate(plain, without, source_words)
    if not isinstance(session.policy, LocalAgreement):  # which is made of drafts
        assert not any(row.num_drafts for row in plain.rows)
    assert timeless(fast.events["s"])[1:] == timeless(plain.events["s"])[1:]


@given(model=MODELS, vocabulary=VOCABULARIES, session=SESSIONS, source_words=WORDS)
def test_source_words_read_grow_and_stay_within_the_source(
    model: FakeModel, vocabulary: FakeVocabulary, session: Session, source_words: list[str]
) -> None:
    """Never fewer than before, never more than there are; min(k + t, N) where nothing ends early."""
    never_ends, num_words = replace(model, eos=0.0, tokens=LATIN), len(source_words)
    unbounded = FakeVocabulary(replace(vocabulary.prompt(session), is_translation=False))
    for driver in (Driver(model, vocabulary), Driver(never_ends, unbounded)):
        read = [event.source_words_read for event in deltas(translate(driver, session, source_words).events["s"])]
        assert read == sorted(read)
        assert all(1 <= n <= num_words for n in read)
    match session.policy:
        case _ if session.mode == "completion":
            assert read == [num_words] * len(read)
        case WaitK(k=k, catchup=catchup):
            assert read == [min(k + t - floor(catchup * t), num_words) for t in range(len(read))]
        case Adaptive(min_k=low, max_k=high):
            assert all(min(low + t, num_words) <= n <= max(high, low) + t for t, n in enumerate(read))


@given(model=MODELS, source_words=WORDS, session=SESSIONS)
def test_the_text_is_the_decoded_tokens(model: FakeModel, source_words: list[str], session: Session) -> None:
    """Deltas concatenate to what the tokenizer makes of all committed tokens."""
    vocabulary = FakeVocabulary(replace(PROMPT, max_target_tokens=40))
    plain = replace(session, limits=replace(session.limits, max_tokens_per_word=50))
    events = translate(Driver(replace(model, tokens=LATIN), vocabulary), plain, source_words).events["s"]
    tokens = [token for event in deltas(events) for token in event.tokens]
    assert events[-1].text == vocabulary.decode(tokens).strip()  # type: ignore[union-attr]


def test_one_pass_for_a_word_whose_draft_holds() -> None:
    """A read, the last token again and the draft go in one row: with a steady model, one pass a one-token word."""
    steady = FakeModel(tokens=LATIN[:4], eos=0.0, steadiness=1.0)
    driver = Driver(steady, FakeVocabulary(replace(PROMPT, max_target_tokens=1000)))
    driver.step(SessionCreate(session=Session(policy=WaitK(k=2))))
    driver.step(InputTextAppend(text=" ".join(["w"] * 40)))
    driver.run()
    num_words = len(deltas(driver.events["s"]))
    assert num_words == 39
    assert len(driver.rows) <= num_words + 1
    assert driver.runner.accepted_drafts == num_words - 1


def test_k_beyond_the_sentence_reads_it_all_first() -> None:
    """With k = 50 nothing is written before the end, then everything with all source read."""
    driver = Driver(FakeModel(tokens=LATIN, eos=0.3))
    driver.step(SessionCreate(session=Session(policy=WaitK(k=50))), InputTextAppend(text=" ".join(TEXT)))
    driver.run()
    assert deltas(driver.events["s"]) == []
    driver.step(InputTextFinalize())
    driver.run()
    assert {event.source_words_read for event in deltas(driver.events["s"])} == {len(TEXT)}


def test_an_early_end_holds_and_reads_on() -> None:
    """A model that always ends at once is asked again after every further word, and once more with the end read."""
    driver = Driver(FakeModel(eos=1.0))
    driver.step(SessionCreate(session=Session(policy=WaitK(k=2))))
    reads = []
    for word in TEXT:
        driver.step(InputTextAppend(text=word))
        before = len(driver.rows)
        driver.run()
        reads.append(sum(1 for row in driver.rows[before:] if row.target))
    assert reads == [0] + [1] * (len(TEXT) - 1)
    assert len(driver.events["s"]) == 1
    driver.step(InputTextFinalize())
    driver.run()
    assert [event.finish_reason for event in driver.events["s"] if isinstance(event, SegmentDone)] == ["stop"]


@pytest.mark.parametrize("mode", ["streaming", "completion"])
def test_what_words_come_from_is_asked_while_more_may_be_read(mode: Literal["streaming", "completion"]) -> None:
    """Once all has been read, nothing can change a word any more."""
    driver = Driver(FakeModel(tokens=LATIN, eos=0.1))
    driver.step(SessionCreate(session=Session(mode=mode, policy=AlignAtt())), InputTextAppend(text=" ".join(TEXT)))
    driver.run()
    assert {row.sampling.aligned_from for row in driver.rows if row.target} == ({1} if mode == "streaming" else set())
    before = len(driver.rows)
    driver.step(InputTextFinalize())
    driver.run()
    assert {row.sampling.aligned_from for row in driver.rows[before:] if row.target} == {None}


@pytest.mark.parametrize(
    ("prompt", "target_language", "source", "is_forbidden"),
    [
        (replace(CONTIGUOUS, is_translation=True), "fr", "Where is it?", True),
        (replace(CONTIGUOUS, is_translation=True), "fr", "The translator has left.", False),
        (replace(CONTIGUOUS, is_translation=True), "en", "Where is it?", False),
        (replace(PROMPT, is_translation=True), "fr", "Where is it?", False),
        (CONTIGUOUS, "fr", "Where is it?", False),
    ],
)
def test_a_stock_model_may_not_introduce_its_translation(
    prompt: Prompt, target_language: str, source: str, is_forbidden: bool
) -> None:
    """Into other languages than English, and unless the source speaks of translations."""
    driver = Driver(FakeModel(tokens=LATIN, eos=0.1), FakeVocabulary(prompt))
    session = Session(target_language=target_language, policy=WaitK(k=2))
    translate(driver, session, source.split())
    assert {row.sampling.no_introduction for row in driver.rows if row.target} == {is_forbidden}


class Hasty(FakeModel, frozen=True):
    """Writes one word less than it has read, then ends its sentence, and then its answer."""

    def next_token(self, source: Sequence[int], target: Sequence[tuple[int, int]], sampling: SampleSpec) -> int:
        """Return the next token of ` a a a.`"""
        word, stop = (SPECIAL + PIECES.index(piece) for piece in (b" a", b"."))
        written = [token for token, _ in target if token >= SPECIAL]
        num_read = 1 + sum(token >= SOURCE + 500_000 for token in source)
        if written[-1:] == [stop]:
            return EOS
        return word if written.count(word) < num_read - 1 else stop


@pytest.mark.parametrize(
    ("prompt", "text", "written", "lags"),
    [
        (CONTIGUOUS, "so it is", "a a.", [3, 3]),
        (CONTIGUOUS, "no. so it is", "a.", [2]),
        (PROMPT, "so it is", "a a.", [3, 3]),
    ],
)
def test_a_sentence_does_not_end_before_its_source(prompt: Prompt, text: str, written: str, lags: list[int]) -> None:
    """A model takes a part of a sentence for a whole one: the word is drawn again with more source, and nothing is
    taken back.
    """
    vocabulary = FakeVocabulary(replace(prompt, is_translation=True))
    driver = translate(Driver(Hasty(), vocabulary), Session(policy=WaitK(k=2)), text.split())
    found = deltas(driver.events["s"])
    assert "".join(event.text for event in found).strip() == written
    assert [event.source_words_read for event in found] == lags
