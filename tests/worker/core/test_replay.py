"""Replay: a session rebuilt from its log goes on exactly where its published words end."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import (
    ClientEvent,
    InputTextAppend,
    InputTextFinalize,
    OutputTextDelta,
    Session,
    SessionClose,
    SessionClosed,
    SessionCreate,
    SessionPhase,
)
from tests.worker.core.conftest import MODELS, SESSIONS, VOCABULARIES, WORDS
from tests.worker.core.drive import Driver, timeless
from tests.worker.fakes import LATIN, FakeModel, FakeVocabulary
from worker.core import replay
from worker.core import session as sessions
from worker.core.scheduler import Budget
from worker.core.segment import Decode
from worker.core.state import State


def saved(driver: Driver) -> replay.Progress:
    """What a checkpoint and the target stream tell of the session: the words are those that were published."""
    progress = replay.progress(driver.state)
    if progress.written is None:
        return progress
    decode = msgspec.msgpack.decode(msgspec.msgpack.encode(progress.written.decode), type=Decode)
    visible = msgspec.msgpack.decode(
        msgspec.msgpack.encode(driver.visible["s"][progress.segment_seq :]), type=list[replay.Visible | None]
    )
    published = [
        (event, behind)
        for event, behind in zip(driver.events["s"][progress.segment_seq :], visible, strict=True)
        if isinstance(event, OutputTextDelta) and behind is not None
    ]
    words = replay.restore(len(driver.vocabulary.prompt(Session()).target), published)
    assert words == progress.written.words
    return replace(progress, written=replay.Written(decode, tuple(words)))


def rebuilt(driver: Driver, log: list[ClientEvent], base: replay.Base | None = None) -> Driver:
    """A new worker with the session as its log behind the base, its output and its checkpoint tell it."""
    done = saved(driver)
    other = Driver(driver.runner.model, driver.vocabulary, budget=driver.sessions.budget)
    state = replay.begin(State(number=0), base)
    for event in log:
        state, _ = sessions.step(state, event, now_ms=9, vocabulary=driver.vocabulary, model="fake", is_replay=True)
    if driver.state.phase is SessionPhase.CLOSING and state.phase is SessionPhase.OPEN:
        state, _ = sessions.close_idle(state, 9)
    assert replay.is_whole(state, done)
    other.apply(lambda _: (replay.resume(state, done, now_ms=9), ()))
    return other


@given(
    model=MODELS,
    vocabulary=VOCABULARIES,
    session=SESSIONS,
    texts=st.lists(WORDS, min_size=1, max_size=3),
    num_ticks=st.integers(0, 30),
    max_draft_tokens=st.sampled_from([0, 16]),
)
def test_takeover_at_any_tick_changes_nothing(
    model: FakeModel,
    vocabulary: FakeVocabulary,
    session: Session,
    texts: list[list[str]],
    num_ticks: int,
    max_draft_tokens: int,
) -> None:
    """What was published before the takeover and what comes after it are the stream of a session that never moved."""
    spoken = [e for text in texts for e in (InputTextAppend(text=" ".join(text)), InputTextFinalize())]
    log: list[ClientEvent] = [SessionCreate(session=session), *spoken, SessionClose()]
    driver = Driver(model, vocabulary, budget=Budget(min_source_tokens=1, max_draft_tokens=max_draft_tokens))
    driver.step(*log)
    for _ in range(num_ticks):
        driver.tick()
    published = list(driver.events["s"])
    if isinstance(published[-1], SessionClosed):
        return
    before = len(driver.rows)
    other = rebuilt(driver, log).run()
    driver.run()
    if not max_draft_tokens:  # how long drafts may be is learned anew
        assert len(other.rows) == len(driver.rows) - before  # what was written is not written again
    fresh = [event for event in other.events["s"] if event.seq > len(published)]
    assert timeless([*published, *fresh]) == timeless(driver.events["s"])


@given(
    model=MODELS,
    vocabulary=VOCABULARIES,
    session=SESSIONS,
    texts=st.lists(WORDS, min_size=1, max_size=3),
    ticks=st.lists(st.sampled_from([0, 1, 20]), min_size=31, max_size=31),
    cut=st.integers(0, 30),
    is_idle=st.booleans(),
)
def test_a_log_need_not_be_read_from_its_beginning(
    model: FakeModel,
    vocabulary: FakeVocabulary,
    session: Session,
    texts: list[list[str]],
    ticks: list[int],
    cut: int,
    is_idle: bool,
) -> None:
    """Whatever lies before the session's last pause, between two segments, makes no difference; nor does it that a
    session was on its way to closed for idleness, which its log does not tell.
    """
    log: list[ClientEvent] = [SessionCreate(session=session)]
    for text in texts:
        log += [*(InputTextAppend(text=word) for word in text), InputTextFinalize()]
    driver, pause = Driver(model, vocabulary), None
    for i, event in enumerate(log[: cut + 1]):
        driver.step(event)
        for _ in range(ticks[i]):
            driver.tick()
        pause = replay.base(driver.state, str(i + 1)) or pause
    if is_idle:
        driver.apply(lambda state: sessions.close_idle(state, 9))
        if driver.state.phase is SessionPhase.CLOSED:
            return
        driver.tick()
    if driver.state.phase is SessionPhase.CLOSED:
        return
    behind = log[int(pause.cursor) if pause else 0 : cut + 1]
    published = len(driver.events["s"])
    other = rebuilt(driver, behind, pause)
    for each in (driver, other):
        each.step(*log[cut + 1 :], SessionClose())
        each.run()
    fresh = [event for event in other.events["s"] if event.seq > published]
    assert timeless(fresh) == timeless(driver.events["s"][published:])


@given(session=SESSIONS, num_lost=st.integers(1, 3))
def test_a_log_that_lacks_words_is_told(session: Session, num_lost: int) -> None:
    """A source stream that somebody has trimmed is not the one that the output was made from."""
    log: list[ClientEvent] = [SessionCreate(session=session), *[InputTextAppend(text="word")] * 9]
    driver = Driver(FakeModel(eos=0.0))
    driver.step(*log)
    driver.run()
    again = State(number=0)
    for event in log[: len(log) - num_lost]:
        again, _ = sessions.step(again, event, now_ms=9, vocabulary=driver.vocabulary, model="fake", is_replay=True)
    assert not replay.is_whole(again, replay.progress(driver.state))


def test_a_target_stream_that_lacks_words_is_told() -> None:
    """Somebody has trimmed it: which word is missing is said."""
    driver = Driver(FakeModel(tokens=LATIN, eos=0.0))
    driver.step(SessionCreate(session=Session()), InputTextAppend(text="the cat sat on x y"))
    driver.run()
    published = [
        (event, behind)
        for event, behind in zip(driver.events["s"], driver.visible["s"], strict=True)
        if isinstance(event, OutputTextDelta) and behind is not None
    ]
    assert len(replay.restore(1, published)) == len(published) > 2
    with pytest.raises(ValueError, match="expected word 1 of segment 0, got word 2"):
        replay.restore(1, [published[0], *published[2:]])


def test_a_checkpoint_is_as_long_as_a_word() -> None:
    """However much of the segment has been written before."""
    driver = Driver(FakeModel(tokens=LATIN[:4], eos=0.0, steadiness=1.0))
    driver.step(SessionCreate(session=Session()))
    sizes: list[int] = []
    for _ in range(100):
        driver.step(InputTextAppend(text="x"))
        driver.run()
        sizes.append(len(msgspec.msgpack.encode(saved(driver).written.decode)))  # type: ignore[union-attr]
    assert max(sizes[50:]) <= max(sizes[:50])
