"""From any text to segments: where they end, what of it the model reads, what is copied, and what never comes out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import (
    Error,
    InputTextAppend,
    InputTextFinalize,
    Limits,
    LocalAgreement,
    OutputTextDelta,
    SegmentDone,
    Session,
    SessionClose,
    SessionCreate,
    WaitK,
)
from tests.worker.core.conftest import ALL, MODELS
from tests.worker.core.drive import Driver, check_stream, deltas, timeless
from tests.worker.fakes import CONTIGUOUS, LATIN, PROMPT, FakeModel, FakeVocabulary
from worker.core.rows import Prompt
from worker.core.runaway import max_target_words

TRANSLATION = replace(PROMPT, is_translation=True, source_language="en")
SENTENCE = Session(segmentation="sentence", policy=WaitK(k=2))
MANUAL = Session(policy=WaitK(k=2))
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            ["the cat", "sat.", "No.", "U.S.", "he", "♪ ♪", "--", "5", "где он?", "世界。", "\u200b", "a\ufeffb"]
        ),
        st.sampled_from(["x" * 300, "Mr.", "Inc.", "The", "\ufffd", "मुझे नहीं पता।", "😂" * 9, "\u200d", "e\u0301", "ﬁ"]),
    ),
    max_size=12,
)


def chunks(texts: list[str], cuts: list[bool]) -> list[str]:
    """The words of the texts in other events: several in one, white space of every kind between them."""
    found: list[str] = []
    for word, is_cut in zip(" ".join(texts).split(), cuts * 1000, strict=False):
        if is_cut or not found:
            found.append(word)
        else:
            found[-1] += f" \u3000{word}"
    return found


def said(driver: Driver, session: Session, texts: list[str], *, ticks: int = 0) -> list[Any]:
    """What comes of the texts; `ticks`: passes between them."""
    driver.step(SessionCreate(session=session))
    for text in texts:
        driver.step(InputTextAppend(text=text))
        for _ in range(ticks):
            driver.tick()
    driver.step(SessionClose())
    driver.run(5_000)
    check_stream(driver.events["s"])
    return timeless(driver.events["s"])


def segments_of(texts: list[str], session: Session = SENTENCE, prompt: Any = TRANSLATION) -> list[int]:
    """How many source words each segment has."""
    driver = Driver(FakeModel(tokens=LATIN), FakeVocabulary(prompt))
    said(driver, session, texts)
    assert not [event for event in driver.events["s"] if isinstance(event, Error)]
    return [event.source_words for event in driver.events["s"] if isinstance(event, SegmentDone)]


@given(
    model=MODELS,
    prompt=st.builds(
        replace,
        st.just(TRANSLATION),
        max_source_tokens=st.sampled_from([12, 40, 10_000]),
        max_segment_words=st.sampled_from([None, 3]),
    ),
    texts=TEXTS,
    cuts=st.lists(st.booleans(), min_size=1, max_size=7),
    ticks=st.integers(0, 3),
    k=st.integers(1, 4),
)
def test_any_text(model: FakeModel, prompt: Any, texts: list[str], cuts: list[bool], ticks: int, k: int) -> None:
    """No word is refused, none has white space or a broken character, each segment is bounded by its source, and the
    same comes out whatever the chunks and the pace.
    """
    session = replace(SENTENCE, policy=WaitK(k=k))
    events = said(Driver(model, FakeVocabulary(prompt)), session, [" ".join(texts)])
    assert not [event for event in events if isinstance(event, Error)]
    for event in events:
        if isinstance(event, OutputTextDelta):
            assert event.word
            assert event.word == "".join(event.word.split())
            assert "\ufffd" not in event.text
            assert event.text.strip() == event.word
        if isinstance(event, SegmentDone):
            assert event.target_words <= max_target_words(event.source_words, is_spaceless=True)
    assert said(Driver(model, FakeVocabulary(prompt)), session, chunks(texts, cuts), ticks=ticks) == events


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Did he come?", "No.", "He was at home."], [3, 1, 4]),
        (["The U.S.", "army is here."], [5]),
        (["He works at Apple Inc.", "Thank", "you."], [5, 2]),
        (["It was 8 p.m."], [4]),
        (["I saw Dr.", "\u200b", "Who."], [4]),
        (["मुझे नहीं पता। मुझे"], [3, 1]),
        (["知りません。」はい"], [5, 2]),
        (["a\u200b \ufeff b."], [2]),
    ],
)
def test_sentences_are_segments(texts: list[str], expected: list[int]) -> None:
    """An abbreviation waits for the next word, in whatever event it comes; what cannot be seen is no word."""
    assert segments_of(texts) == expected


def test_a_sentence_ends_at_once() -> None:
    """An ordinary full stop ends its segment with its word, an abbreviation at the latest with the session's source."""
    driver = Driver()
    driver.step(SessionCreate(session=SENTENCE), InputTextAppend(text="he lives."))
    assert driver.state.num_segments == 1
    num_done = []
    for event in (InputTextAppend(text="at Apple Inc."), InputTextFinalize()):
        driver.run()
        num_done.append(sum(isinstance(event, SegmentDone) for event in driver.events["s"]))
        driver.step(event)
    driver.run()
    assert num_done == [1, 1]
    assert isinstance(driver.events["s"][-1], SegmentDone)


def test_a_full_segment_ends() -> None:
    """At the words that the model was trained on, 60 without such a number, and before its room for tokens is full."""
    assert segments_of(["word " * 150], prompt=PROMPT) == [60, 60, 30]
    assert segments_of(["word " * 150], prompt=replace(PROMPT, max_segment_words=40)) == [40, 40, 40, 30]
    assert segments_of(["word " * 30], prompt=replace(PROMPT, max_source_tokens=42)) == [10, 10, 10]


def test_a_segment_of_a_stock_model_ends_by_itself() -> None:
    """Each of its reads feeds the whole target again: so it ends before the 61st word, or the card's number, or a word
    that has no room; not with the 60th, behind which the producer may end it. A completion is read whole, however long.
    """

    def lengths(num_words: int, session: Session = MANUAL, prompt: Prompt = CONTIGUOUS) -> list[int]:
        driver = Driver(FakeModel(tokens=LATIN), FakeVocabulary(prompt))
        driver.step(SessionCreate(session=session), InputTextAppend(text="word " * num_words), InputTextFinalize())
        return [event.source_words for event in driver.run().events["s"] if isinstance(event, SegmentDone)]

    assert lengths(60) == [60]
    assert lengths(130) == [60, 60, 10]
    assert lengths(30, prompt=replace(CONTIGUOUS, max_segment_words=20)) == [20, 10]
    assert lengths(30, prompt=replace(CONTIGUOUS, max_source_tokens=41)) == [10, 10, 10]
    assert lengths(130, replace(MANUAL, mode="completion")) == [130]
    assert lengths(130, prompt=PROMPT) == [130]


def test_a_word_that_no_segment_can_hold_is_copied() -> None:
    """It is a segment of its own; the words around it are translated."""
    driver = Driver(FakeModel(tokens=LATIN), FakeVocabulary(replace(TRANSLATION, max_source_tokens=60)))
    said(driver, SENTENCE, ["see", "x" * 200, "and", "go."])
    done = [event for event in driver.events["s"] if isinstance(event, SegmentDone)]
    assert [event.source_words for event in done] == [1, 1, 2]
    assert done[1].text == "x" * 200
    assert not [event for event in driver.events["s"] if isinstance(event, Error)]


@pytest.mark.parametrize(
    "texts", [["♪ ♪", "♪"], ["- -- •"], ["1 2", "3 4.5", "10:30"], ["где он", "живёт?"], ["=" * 500]]
)
def test_what_is_no_language_is_copied(texts: list[str]) -> None:
    """Word by word, without a pass of the engine."""
    driver = Driver(FakeModel(tokens=LATIN), FakeVocabulary(TRANSLATION))
    said(driver, MANUAL, texts)
    assert [event.word for event in deltas(driver.events["s"])] == " ".join(texts).split()
    done = driver.events["s"][-2]
    assert isinstance(done, SegmentDone)
    assert (done.text, done.finish_reason) == (" ".join(texts), "stop")
    assert driver.rows == []


@given(
    model=MODELS,
    texts=st.lists(
        st.sampled_from(["the", "cat.", "No.", "5", "--", "世", "where", "Inc.", "!"]), min_size=1, max_size=9
    ),
    pictographs=st.lists(
        st.sampled_from(["", "", "🎉", " 🎉", "🎉 ", " 👩\u200d👧", "❤\ufe0f 🍕 "]), min_size=1, max_size=9
    ),
    session=st.sampled_from([MANUAL, replace(MANUAL, policy=LocalAgreement(k=2))]),
    ticks=st.integers(0, 2),
)
def test_pictographs_in_a_sentence_change_nothing(
    model: FakeModel, texts: list[str], pictographs: list[str], session: Session, ticks: int
) -> None:
    """Before, behind and between words, the same comes out as without them."""
    texts = ["the", *texts]
    decorated = ["🎉 " + texts[0], *(text + more for text, more in zip(texts[1:], pictographs * 9, strict=False))]
    plain = said(Driver(model, FakeVocabulary(TRANSLATION)), session, texts, ticks=ticks)
    assert said(Driver(model, FakeVocabulary(TRANSLATION)), session, decorated, ticks=ticks) == plain


@pytest.mark.parametrize(
    ("text", "expected", "of_chat"),
    [
        ("🎉 the x🎉.", [2], [3]),
        ("Great job!👏 See you.", [2, 2], [4]),
        ("Great job! 👏 See you. 👏", [2, 2, 1], [2, 3, 1]),
        ("Apple Inc. 👏 Thank you.", [2, 2], [5]),
    ],
)
def test_pictographs_do_not_count(text: str, expected: list[int], of_chat: list[int]) -> None:
    """Nor do they hide the end of a sentence, except for chat models, which know them."""
    assert segments_of([text]) == expected
    assert segments_of([text], prompt=replace(CONTIGUOUS, is_translation=True)) == of_chat


@pytest.mark.parametrize("text", ["🎉", "🎉 5🎉 👩\u200d👧", "x" * 101 + "🎉"])
def test_pictographs_without_a_sentence_are_copied(text: str) -> None:
    """With the words around them that are no language either."""
    driver = Driver(FakeModel(tokens=LATIN), FakeVocabulary(TRANSLATION))
    said(driver, SENTENCE, [text])
    assert [event.word for event in deltas(driver.events["s"])] == text.split()
    assert driver.rows == []


def test_copies_wait_for_their_turn() -> None:
    """A copied segment comes behind the one before it, and no more words than were asked for."""
    driver = Driver(FakeModel(tokens=LATIN), FakeVocabulary(TRANSLATION))
    session = replace(MANUAL, limits=Limits(max_new_words=2))
    driver.step(SessionCreate(session=session), InputTextAppend(text="one two"), InputTextFinalize())
    driver.step(InputTextAppend(text="♪ ♪ ♪"), InputTextFinalize(), InputTextAppend(text="three"), SessionClose())
    assert deltas(driver.events["s"]) == []
    driver.run()
    copied = [event for event in deltas(driver.events["s"]) if event.segment == 1]
    assert [(event.index, event.word, event.text, event.source_words_read) for event in copied] == [
        (0, "♪", "♪", 3),
        (1, "♪", " ♪", 3),
    ]
    done = [event for event in driver.events["s"] if isinstance(event, SegmentDone)]
    assert [(event.finish_reason == "length", event.target_words) for event in done[1:2]] == [(True, 2)]
    check_stream(driver.events["s"])


def test_with_language_all_is_translated() -> None:
    """Numbers and marks before or behind words are the model's, and so is everything where no translation is asked."""
    for texts, prompt in ((["5 men came"], TRANSLATION), (["la ♪ ♪"], TRANSLATION), (["♪ ♪ ♪"], PROMPT)):
        driver = Driver(FakeModel(tokens=LATIN), FakeVocabulary(prompt))
        said(driver, MANUAL, texts)
        assert sum(len(row.source) for row in driver.rows) >= len("".join(texts[0].split()))


def test_a_runaway_is_bounded() -> None:
    """A model that never ends writes three words for each of the source's, and ten; in a loop, it ends at once."""
    talkative = Driver(FakeModel(seed=1, tokens=ALL, eos=0.0), FakeVocabulary(TRANSLATION))
    said(talkative, MANUAL, ["one two three four"])
    done = talkative.events["s"][-2]
    assert isinstance(done, SegmentDone)
    assert done.finish_reason == "length"
    assert done.target_words <= max_target_words(4, is_spaceless=True)
    stuck = Driver(FakeModel(tokens=LATIN[:1], eos=0.0), FakeVocabulary(TRANSLATION))
    said(stuck, MANUAL, ["a b c d e f g h"])
    done = stuck.events["s"][-2]
    assert isinstance(done, SegmentDone)
    assert (done.finish_reason, done.target_words) == ("length", 16)
