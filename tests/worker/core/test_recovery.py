"""What a target stream tells of its session, and what is still to be published behind it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import Error, OutputTextDelta, SessionClosed, SessionPhase
from tests.worker.core.drive import Driver
from tests.worker.core.test_session import CREATE, TALKATIVE, append
from worker.core import recovery


def driven(num_words: int) -> Driver:
    """Return a session with this many words of source in one open segment, translated as far as it goes."""
    driver = Driver(TALKATIVE)
    driver.step(CREATE, *(append(f"w{i}") for i in range(num_words)))
    driver.run()
    return driver


def test_an_outline_counts_what_is_finished() -> None:
    """Words of the open segment are kept; answers by their kinds; a session that has closed is closed."""
    stream = driven(5).events["s"]
    found = recovery.outline(stream)
    deltas = tuple(event for event in stream if isinstance(event, OutputTextDelta))
    assert (found.phase, found.seq, found.segment, found.words) == (SessionPhase.OPEN, len(stream), 0, deltas)
    assert found.answers == ("session.created ",)
    closed = SessionClosed(seq=9, reason="idle", source_words=0, target_words=0)
    assert recovery.outline([*stream, closed]).phase is SessionPhase.CLOSED
    refused = Error(seq=1, code="worker_full", message="x", source_id="5-0")
    assert recovery.outline([refused]).refused == {"5-0"}


@given(st.integers(0, 6), st.data())
def test_what_is_made_again_is_published_once(num_words: int, data: st.DataObject) -> None:
    """Law: of the same words made again, in any pieces, what goes out is what was not there."""
    words = tuple(event for event in driven(num_words).events["s"] if isinstance(event, OutputTextDelta))
    num_published = data.draw(st.integers(0, len(words)))
    unmade, fresh = words[:num_published], []
    cut = data.draw(st.integers(0, len(words)))
    for piece in (words[:cut], words[cut:]):
        kept, unmade = recovery.compare(piece, unmade)
        fresh += kept
    assert (tuple(fresh), unmade) == (words[num_published:], ())


def test_another_word_is_no_repetition() -> None:
    """A published word is never taken back: neither another text in its place nor the end before it is accepted."""
    first, *_ = (event for event in driven(5).events["s"] if isinstance(event, OutputTextDelta))
    other = OutputTextDelta(
        seq=1,
        segment=0,
        index=0,
        word="x",
        text="x",
        tokens=(),
        source_words_read=0,
        elapsed_ms=0,
        delay_ms=0,
    )
    for made in (other, SessionClosed(seq=2, reason="closed", source_words=0, target_words=0)):
        with pytest.raises(ValueError, match="published word 0"):
            recovery.compare([made], (first,))
