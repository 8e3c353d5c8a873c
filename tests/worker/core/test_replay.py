"""Replay: a session rebuilt from its log goes on exactly where its published words end."""

from hypothesis import given
from hypothesis import strategies as st

from protocol import (
    ClientEvent,
    InputTextAppend,
    InputTextFinalize,
    OutputTextDelta,
    SegmentDone,
    ServerEvent,
    Session,
    SessionClose,
    SessionClosed,
    SessionCreate,
)
from tests.worker.core.conftest import MODELS, SESSIONS, VOCABULARIES, WORDS
from tests.worker.core.drive import Driver, timeless
from tests.worker.fakes import FakeModel, FakeVocabulary
from worker.core import replay
from worker.core import session as sessions
from worker.core.state import State


def rebuilt(driver: Driver, log: list[ClientEvent], published: list[ServerEvent]) -> Driver:
    """A new worker with the session as its log and its target stream tell it."""
    deltas = [event for event in published if isinstance(event, OutputTextDelta)]
    segment = sum(isinstance(event, SegmentDone) for event in published)
    words = sum(event.segment == segment for event in deltas)
    done = replay.Progress(seq=len(published), segment=segment, words=words, target_words=len(deltas))
    other = Driver(driver.runner.model, driver.vocabulary)
    state = State(number=0)
    for event in log:
        state, _ = sessions.step(state, event, now_ms=9, vocabulary=driver.vocabulary, model="fake", is_replay=True)
    other.states["s"] = replay.resume(state, done, now_ms=9)
    assert replay.is_behind(other.state, done) == (words > 0)
    return other


@given(
    model=MODELS,
    vocabulary=VOCABULARIES,
    session=SESSIONS,
    texts=st.lists(WORDS, min_size=1, max_size=3),
    num_ticks=st.integers(0, 30),
)
def test_takeover_at_any_tick_changes_nothing(
    model: FakeModel, vocabulary: FakeVocabulary, session: Session, texts: list[list[str]], num_ticks: int
) -> None:
    """What was published before the takeover and what comes after it are the stream of a session that never moved."""
    spoken = [e for text in texts for e in (InputTextAppend(text=" ".join(text)), InputTextFinalize())]
    log: list[ClientEvent] = [SessionCreate(session=session), *spoken, SessionClose()]
    driver = Driver(model, vocabulary)
    driver.step(*log)
    for _ in range(num_ticks):
        driver.tick()
    published = list(driver.events["s"])
    if isinstance(published[-1], SessionClosed):
        return
    other = rebuilt(driver, log, published).run()
    driver.run()
    fresh = [event for event in other.events["s"] if event.seq > len(published)]
    assert timeless([*published, *fresh]) == timeless(driver.events["s"])
