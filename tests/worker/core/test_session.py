"""The session machine: what it answers, in which order, and what it refuses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import (
    Adaptive,
    ClientEvent,
    Error,
    InputTextAppend,
    InputTextFinalize,
    Limits,
    OutputTextDelta,
    SegmentDone,
    Session,
    SessionClose,
    SessionClosed,
    SessionCreate,
    SessionCreated,
    SessionPatch,
    SessionPhase,
    SessionUpdate,
    SessionUpdated,
    WaitK,
)
from protocol.errors import InvalidEvent
from tests.worker.core.conftest import MODELS, SESSIONS, WORDS
from tests.worker.core.drive import Driver, check_stream, deltas, timeless
from tests.worker.fakes import LATIN, PROMPT, FakeModel, FakeVocabulary
from worker.core import session as sessions
from worker.core.state import backlog_words, deadline_ms, lane_of

TALKATIVE = FakeModel(tokens=LATIN, eos=0.1)
CREATE = SessionCreate(session=Session(policy=WaitK(k=2)))


def append(text: str, seq: int | None = None) -> InputTextAppend:
    return InputTextAppend(text=text, seq=seq)


class Careful(FakeVocabulary):
    """A model whose card names a policy."""

    default_policy = Adaptive(min_k=2, max_k=7)


def codes(driver: Driver, name: str = "s") -> list[str]:
    return [event.code for event in driver.events[name] if isinstance(event, Error)]


def kinds(driver: Driver, name: str = "s") -> list[type[Any]]:
    return [type(event) for event in driver.events[name]]


# Any client, however confused

EVENTS = st.one_of(
    WORDS.map(lambda source_words: InputTextAppend(text=" ".join(source_words))),
    st.just(InputTextFinalize()),
    st.just(SessionClose()),
    SESSIONS.map(lambda session: SessionCreate(session=session)),
    st.just(SessionUpdate(session=SessionPatch(segmentation="manual"))),
    st.just(SessionUpdate(session=SessionPatch(segmentation="sentence"))),
    st.just(SessionUpdate(session=SessionPatch(target_language="tlh"))),
)


@given(
    model=MODELS,
    script=st.lists(st.tuples(EVENTS, st.none() | st.integers(0, 6), st.integers(0, 2), st.booleans()), max_size=20),
)
def test_any_script_gives_a_legal_stream(
    model: FakeModel, script: list[tuple[ClientEvent, int | None, int, bool]]
) -> None:
    """Whatever arrives, in whatever order and with whatever numbers: a legal target stream, a state that can go on."""
    driver = Driver(model, FakeVocabulary(replace(PROMPT, max_target_tokens=30, max_source_tokens=40)))
    for event, seq, num_ticks, is_idle in script:
        planned = driver.plan()
        driver.step(replace(event, seq=seq))
        driver.update(planned)
        for _ in range(num_ticks):
            driver.tick()
        driver.now_ms += 400_000 if is_idle else 1
        driver.apply(lambda state: sessions.expire(state, driver.now_ms))
    driver.run()
    check_stream(driver.events["s"])
    if driver.state.phase is not SessionPhase.ABSENT:
        driver.step(SessionClose())
        driver.run()
        assert driver.state.phase is SessionPhase.CLOSED
        driver.plan()
        assert lane_of(driver.state) is None
    check_stream(driver.events["s"])


# The ordinary life


def test_without_a_policy_it_is_the_models() -> None:
    """What is published names it; an update with null asks for it again."""
    driver = Driver(vocabulary=Careful())
    driver.step(SessionCreate(), SessionUpdate(session=SessionPatch(policy=WaitK(k=9))))
    driver.step(SessionUpdate(session=SessionPatch(policy=None)))
    policies = [
        event.session.policy for event in driver.events["s"] if isinstance(event, SessionCreated | SessionUpdated)
    ]
    assert policies == [Careful.default_policy, WaitK(k=9), Careful.default_policy]


def test_create_answers_with_all_options() -> None:
    """`session.created` is the first event; it carries the options and the model."""
    driver = Driver()
    assert driver.step(CREATE) == [SessionCreated(seq=1, version=1, session=CREATE.session, model="fake")]


def test_close_flushes() -> None:
    """Close ends the open segment: its words come, then segment.done, then session.closed; later events are refused."""
    driver = Driver(TALKATIVE)
    driver.step(CREATE, append("one two three"), SessionClose())
    assert driver.state.phase is SessionPhase.CLOSING
    driver.step(append("late"))
    driver.run()
    assert kinds(driver)[-2:] == [SegmentDone, SessionClosed]
    assert codes(driver) == ["session_closed"]
    closed = driver.events["s"][-1]
    assert isinstance(closed, SessionClosed)
    assert (closed.reason, closed.source_words, closed.target_words) == ("closed", 3, len(deltas(driver.events["s"])))


def test_close_of_an_empty_session_closes_at_once() -> None:
    """No words, no segment: only session.closed."""
    driver = Driver()
    driver.step(CREATE, SessionClose())
    assert kinds(driver) == [SessionCreated, SessionClosed]
    assert driver.state.phase is SessionPhase.CLOSED


def test_finalize_without_words() -> None:
    """An empty segment is done at once, for the reason `empty`, and blocks nothing."""
    driver = Driver(TALKATIVE)
    driver.step(CREATE, InputTextFinalize(), append("one two"), InputTextFinalize(), InputTextFinalize())
    driver.run()
    done = [event for event in driver.events["s"] if isinstance(event, SegmentDone)]
    assert [(event.segment, event.finish_reason == "empty") for event in done] == [(0, True), (1, False), (2, True)]


def test_white_space_is_no_word() -> None:
    """An append of nothing but white space opens no segment."""
    driver = Driver()
    driver.step(CREATE, append(" \n\t"))
    assert not driver.state.segments


def test_segments_come_in_order() -> None:
    """Several segments, all there at once: each is done before the next one's first word."""
    driver = Driver(TALKATIVE)
    driver.step(CREATE, *[event for i in range(5) for event in (append(f"a b {i}"), InputTextFinalize())])
    driver.run()
    found = [event.segment for event in driver.events["s"] if isinstance(event, OutputTextDelta | SegmentDone)]
    assert found == sorted(found)
    assert kinds(driver).count(SegmentDone) == 5
    check_stream(driver.events["s"])


def test_update_counts_from_the_next_segment() -> None:
    """The open segment keeps its policy; the next one has the new policy."""
    driver = Driver(FakeModel(tokens=LATIN, eos=0.0), FakeVocabulary(replace(PROMPT, max_target_tokens=60)))
    driver.step(CREATE, append("a b"))
    driver.run()
    update = SessionUpdate(session=SessionPatch(policy=WaitK(k=5)))
    assert isinstance(driver.step(update)[0], SessionUpdated)
    words = "a b c d e f g h"
    driver.step(append("c d e f g h"), InputTextFinalize(), append(words), InputTextFinalize())
    driver.run()
    for segment, k in ((0, 2), (1, 5)):
        read = [event.source_words_read for event in deltas(driver.events["s"]) if event.segment == segment]
        assert read[:4] == [min(k + t, 8) for t in range(4)]


def test_max_new_words_ends_the_segment_for_length() -> None:
    """No more words than the limit; the segment is done once its source has ended, not before."""
    driver = Driver(FakeModel(tokens=LATIN, eos=0.0))
    driver.step(SessionCreate(session=Session(limits=Limits(max_new_words=2), policy=WaitK(k=1))))
    driver.step(append("a b c d e f"))
    driver.run()
    assert len(deltas(driver.events["s"])) == 2
    assert SegmentDone not in kinds(driver)
    done = driver.step(InputTextFinalize())[0]
    assert isinstance(done, SegmentDone)
    assert done.finish_reason == "length"


def test_a_word_without_end_is_cut() -> None:
    """A model that never begins another word gets words of max_tokens_per_word tokens."""
    endless = FakeModel(tokens=(LATIN[4],), eos=0.0)
    driver = Driver(endless)
    driver.step(SessionCreate(session=Session(limits=Limits(max_tokens_per_word=3), policy=WaitK(k=1))), append("a"))
    driver.run()
    assert [len(event.tokens) for event in deltas(driver.events["s"])] == [3]


def test_completion_waits_for_the_end() -> None:
    """In completion mode source is read as it comes, and nothing written before the segment has ended."""
    driver = Driver(TALKATIVE)
    driver.step(SessionCreate(session=Session(mode="completion")), append("one two three four"))
    driver.run()
    assert driver.rows
    assert not any(row.target for row in driver.rows)
    driver.step(InputTextFinalize())
    driver.run()
    assert {event.source_words_read for event in deltas(driver.events["s"])} == {4}


def test_delays_count_from_the_needed_word() -> None:
    """`delay_ms` is the time since the newest word that a target word waited for arrived."""
    driver = Driver(FakeModel(tokens=LATIN[:4], eos=0.0))
    driver.step(CREATE)
    for word in "abcd":
        driver.now_ms += 100
        driver.step(append(word))
    driver.now_ms += 1000
    driver.run()
    assert [(event.source_words_read, event.elapsed_ms, event.delay_ms) for event in deltas(driver.events["s"])] == [
        (2, 1400, 1200),
        (3, 1400, 1100),
        (4, 1400, 1000),
    ]


# Sentences


@pytest.mark.parametrize(
    ("text", "num_words"),
    [
        ("It rains. We stay.", [2, 2]),
        ('He said "Go." Then he left', [3]),
        ("Dr. Smith saw J. Doe, e.g. in No. 5. Fine!", [9, 1]),
        ("Really?! Yes… no", [1, 1]),
        ("3.5 is a number.", [4]),
        ("は い。は い。", [2, 2]),
        ("one two three four five six seven", [5]),
    ],
)
def test_sentences_end_segments(text: str, num_words: list[int]) -> None:
    """Full stops end segments, abbreviations do not, and no segment is longer than the model was trained for."""
    driver = Driver(TALKATIVE, FakeVocabulary(replace(PROMPT, max_segment_words=5 if "seven" in text else None)))
    driver.step(SessionCreate(session=Session(segmentation="sentence")), append(text))
    driver.run()
    assert [event.source_words for event in driver.events["s"] if isinstance(event, SegmentDone)] == num_words


def test_finalize_behind_a_full_stop_adds_no_empty_segment() -> None:
    """The sentence's own end has ended the segment."""
    driver = Driver(TALKATIVE)
    driver.step(SessionCreate(session=Session(segmentation="sentence")), append("Yes."), InputTextFinalize())
    driver.run()
    assert kinds(driver).count(SegmentDone) == 1


# Numbers


def test_a_duplicate_is_counted_and_ignored() -> None:
    """An event that arrives twice counts once."""
    driver = Driver()
    driver.step(replace(CREATE, seq=0), append("a", 1), append("a", 1), append("b", 2), append("a", 1))
    assert driver.state.source_words == 2
    assert driver.state.duplicates == 2
    assert codes(driver) == []


def test_a_gap_names_the_expected_number_and_consumes_nothing() -> None:
    """After the gap is filled the same event is taken."""
    driver = Driver()
    driver.step(replace(CREATE, seq=1))
    error = driver.step(append("c", 3))[0]
    assert isinstance(error, Error)
    assert (error.code, error.expected_seq, error.source_id, error.param) == ("sequence_gap", 2, "7-0", "$.seq")
    driver.step(append("b", 2), append("c", 3))
    assert driver.state.source_words == 2


def test_a_full_backlog_takes_the_same_event_later() -> None:
    """`backlog_full` consumes neither the words nor the number; after some ticks the event is taken as it is."""
    driver = Driver(TALKATIVE)
    session = Session(limits=Limits(max_backlog_words=3), policy=WaitK(k=1))
    driver.step(SessionCreate(session=session, seq=1), append("a b c", 2), append("d", 3))
    assert codes(driver) == ["backlog_full"]
    assert driver.state.source_words == 3
    driver.run()
    driver.step(append("d", 3))
    assert codes(driver) == ["backlog_full"]
    assert driver.state.source_words == 4


def test_the_end_marker_is_no_backlog() -> None:
    """Words count until they are in a lane; the end of a segment never counts, read or not."""
    driver = Driver(FakeModel(tokens=LATIN, eos=0.0), FakeVocabulary(replace(PROMPT, max_target_tokens=500)))
    driver.step(SessionCreate(session=Session(policy=WaitK(k=9))), append("a b"), InputTextFinalize(), append("c"))
    assert backlog_words(driver.state) == 3
    driver.tick()
    assert backlog_words(driver.state) == 1


def test_a_segment_beyond_the_model_is_refused_whole() -> None:
    """`segment_too_long` refuses the event with all its words, and uses its number: sent again it can never succeed."""
    driver = Driver(TALKATIVE, FakeVocabulary(replace(PROMPT, max_source_tokens=6)))
    driver.step(replace(CREATE, seq=1), append("ab cdefgh", 2))
    assert codes(driver) == ["segment_too_long"]
    assert driver.state.source_words == 0
    assert not driver.state.segments
    driver.step(append("abcd", 3), append("e", 4), InputTextFinalize(seq=5), append("e", 6))
    assert codes(driver) == ["segment_too_long"] * 2
    assert driver.state.source_words == 2


def test_a_refused_event_uses_its_number() -> None:
    """The event after a refused one is no gap, whether it was refused by the machine or by the decoder before it."""
    driver = Driver()
    driver.step(append("early", 1), replace(CREATE, seq=2), replace(CREATE, seq=3))
    driver.apply(lambda state: sessions.refuse(state, InvalidEvent("text is a number", param="$.text"), seq=4))
    driver.step(append("a", 5))
    assert codes(driver) == ["session_not_created", "session_exists", "invalid_event"]
    assert driver.state.source_words == 1


def test_a_refusal_by_the_model_leaves_the_options() -> None:
    """A language that the model lacks is an error, at creation and in an update; the session stays as it was."""
    driver = Driver()
    driver.step(SessionCreate(session=Session(target_language="tlh")))
    assert driver.state.phase is SessionPhase.ABSENT
    driver.step(CREATE, SessionUpdate(session=SessionPatch(target_language="tlh", policy=WaitK(k=9))))
    assert codes(driver) == ["unsupported_option"] * 2
    assert driver.state.session == CREATE.session


# Time


def test_an_idle_session_is_flushed_and_closed() -> None:
    """At its deadline a session goes the way of a close, for the reason `idle`; before it, nothing happens."""
    driver = Driver(TALKATIVE)
    driver.step(SessionCreate(session=Session(limits=Limits(idle_timeout_ms=1000), policy=WaitK(k=9))), append("a b"))
    assert deadline_ms(driver.state) == 1000
    driver.apply(lambda state: sessions.expire(state, 999))
    assert driver.state.phase is SessionPhase.OPEN
    driver.apply(lambda state: sessions.expire(state, 1000))
    driver.run()
    assert kinds(driver)[-2:] == [SegmentDone, SessionClosed]
    assert driver.events["s"][-1].reason == "idle"  # type: ignore[union-attr]
    assert deadline_ms(driver.state) is None


def test_every_event_puts_the_deadline_off() -> None:
    """An accepted event counts as life, a refused one does not."""
    driver = Driver()
    driver.step(CREATE)
    driver.now_ms = 500
    driver.step(append("a"))
    driver.now_ms = 900
    driver.step(CREATE)
    assert deadline_ms(driver.state) == 500 + CREATE.session.limits.idle_timeout_ms


# Many sessions


@given(
    model=MODELS,
    texts=st.lists(st.tuples(SESSIONS, WORDS, st.integers(0, 3)), min_size=2, max_size=4),
    max_rows=st.integers(1, 4),
)
def test_sessions_never_mix(model: FakeModel, texts: list[tuple[Session, list[str], int]], max_rows: int) -> None:
    """What a session publishes does not depend on the others that are served beside it."""
    vocabulary = FakeVocabulary(replace(PROMPT, max_target_tokens=30))
    names = [f"s{i}" for i in range(len(texts))]
    together = Driver(model, vocabulary, names=names)
    together.sessions.budget = replace(together.sessions.budget, max_rows=max_rows)
    for name, (session, source_words, num_ticks) in zip(names, texts, strict=True):
        together.step(SessionCreate(session=session), append(" ".join(source_words)), SessionClose(), name=name)
        for _ in range(num_ticks):
            together.tick()
    together.run()
    for name, (session, source_words, _) in zip(names, texts, strict=True):
        alone = Driver(model, vocabulary)
        alone.step(SessionCreate(session=session), append(" ".join(source_words)), SessionClose())
        alone.run()
        assert timeless(together.events[name]) == timeless(alone.events["s"])
    together.plan()
    together.update(together.plan())


def test_a_fault_closes_one_session_only() -> None:
    """The faulty session gets engine_error and session.closed; its neighbour's output is what it is without it."""
    driver = Driver(TALKATIVE, names=("good", "bad"), faulty=[(1, 0)])
    for name in ("good", "bad"):
        driver.step(CREATE, append("one two three"), SessionClose(), name=name)
    driver.run()
    assert kinds(driver, "bad") == [SessionCreated, Error, SessionClosed]
    assert codes(driver, "bad") == ["engine_error"]
    alone = Driver(TALKATIVE)
    alone.step(CREATE, append("one two three"), SessionClose())
    alone.run()
    assert timeless(driver.events["good"]) == timeless(alone.events["s"])


def test_results_that_come_after_the_end_are_dropped() -> None:
    """A session that failed while its row was in flight publishes nothing more."""
    driver = Driver(TALKATIVE)
    driver.step(CREATE, append("one two three"))
    planned = driver.plan()
    driver.apply(lambda state: sessions.fail(state, "lost"))
    num_events = len(driver.events["s"])
    driver.update(planned)
    assert len(driver.events["s"]) == num_events


def test_lanes_are_dropped_with_their_segment() -> None:
    """A finished segment's lane is freed, an unfinished one's kept."""
    driver = Driver(TALKATIVE)
    driver.step(CREATE, append("one two three"), InputTextFinalize(), append("four five six"))
    driver.run()
    driver.update(driver.plan())
    assert set(driver.runner.lanes) == {(0, 1)}
    driver.step(SessionClose())
    driver.run()
    driver.update(driver.plan())
    assert driver.runner.lanes == {}


@pytest.mark.parametrize(("lags", "source_words", "expected"), [((), 3, None), ((1,), 0, None), ((4, 4), 4, 4.0)])
def test_average_lagging_of_the_extremes(lags: tuple[int, ...], source_words: int, expected: Any) -> None:
    """Undefined without words; the length of the source for a translation that waits for its end."""
    assert sessions.average_lagging(lags, source_words) == expected


def test_wait_k_lags_k_words() -> None:
    """As many target as source words, wait-k: an average lag of k."""
    assert sessions.average_lagging([min(3 + t, 10) for t in range(10)], 10) == pytest.approx(3.0)
