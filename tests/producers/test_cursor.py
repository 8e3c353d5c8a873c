"""The cursor: each event once, in order, and no gap passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.cursor import Cursor
from producers.errors import TargetGap
from protocol import IllegalEvent, MalformedEvent, SessionPhase, encode
from tests.producers.streams import delta, whole_stream


@given(st.integers(0, 10), st.data())
def test_reading_may_stop_and_go_on_anywhere(num_deltas: int, draw: st.DataObject) -> None:
    """Two cursors, the second begun where the first stopped, deliver the stream exactly."""
    stream = whole_stream(num_deltas)
    stop = draw.draw(st.integers(1, len(stream) - 1))
    first = Cursor("s")
    delivered = [first.accept(b"", {b"event": encode(event)}) for event in stream[:stop]]
    second = Cursor("s", after=first.last_seq, phase=SessionPhase.OPEN)
    assert second.last_id == f"{stop}-0"
    delivered += [second.accept("", {"event": encode(event).decode()}) for event in stream[stop:]]
    assert delivered == stream
    assert second.has_ended
    assert not first.has_ended


@given(st.integers(1, 9).filter(lambda seq: seq != 2))
def test_a_gap_or_a_repetition_is_refused_and_moves_nothing(seq: int) -> None:
    """The error names the session and both numbers; the cursor still waits for the right event."""
    cursor = Cursor("talk", after=1, phase=SessionPhase.OPEN)
    with pytest.raises(TargetGap, match=f"expected event 2 of session talk, got {seq}"):
        cursor.accept(b"x", {b"event": encode(delta(seq))})
    assert cursor.accept(b"x", {b"event": encode(delta(2))}) == delta(2)


def test_an_illegal_order_is_refused() -> None:
    """A word before `session.created` is an error."""
    with pytest.raises(IllegalEvent):
        Cursor("s").accept(b"1-0", {b"event": encode(delta(1))})


def test_an_entry_without_event_is_refused_by_name() -> None:
    """The error says which field is missing, and in which entry."""
    with pytest.raises(MalformedEvent, match="'event' in entry b'1-0'"):
        Cursor("s").accept(b"1-0", {b"other": b"1"})
