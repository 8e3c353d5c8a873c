"""The outbox: numbers, order, what is kept; and going on where a stream ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from producers.errors import OutboxFull
from producers.outbox import MAX_UNSENT_EVENTS, Outbox
from protocol import (
    ClientEvent,
    IllegalEvent,
    InputTextAppend,
    InputTextFinalize,
    InvalidEvent,
    ProtocolError,
    SessionClose,
    SessionCreate,
    SessionPatch,
    SessionPhase,
    SessionUpdate,
    advance,
    check_seq,
    decode_client,
    encode,
)

EVENTS: st.SearchStrategy[ClientEvent] = st.one_of(
    st.builds(InputTextAppend, text=st.text(st.characters(codec="utf-8"), max_size=20)),
    st.just(InputTextFinalize()),
    st.just(SessionUpdate(session=SessionPatch(prompt="x"))),
)
BODIES = st.lists(EVENTS, max_size=12)
ANY_DATA = st.lists(
    st.one_of(
        st.builds(InputTextAppend, text=st.just("a"), seq=st.none() | st.integers(0, 6)).map(encode),
        st.builds(SessionCreate, seq=st.none() | st.integers(0, 6)).map(encode),
        st.builds(SessionClose, seq=st.none() | st.integers(0, 6)).map(encode),
        st.builds(lambda seq: b'{"type":"nonsense","seq":%d}' % seq, st.integers(0, 6)),
        st.sampled_from([b"", b"{", b"[]"]),
    ),
    max_size=12,
)


def filled(body: list[ClientEvent]) -> Outbox:
    """An outbox with an open session and these events in it."""
    outbox = Outbox()
    for event in [SessionCreate(), *body]:
        outbox.put(event)
    return outbox


@given(BODIES, st.lists(st.integers(0, 20)))
def test_what_has_arrived_is_dropped_once(body: list[ClientEvent], numbers: list[int]) -> None:
    """In whatever order the numbers of arrived events are told, exactly the events behind the highest are kept."""
    outbox = filled(body)
    for seq in numbers:
        outbox.arrived(seq)
    kept = [decode_client(data).seq for data in outbox.unsent]
    assert kept == list(range(max(numbers, default=0) + 1, len(body) + 2))


@given(BODIES)
def test_events_go_out_in_order_and_numbered_from_one(body: list[ClientEvent]) -> None:
    """What waits decodes to what was put, in order, with seq 1 to n."""
    events = [decode_client(data) for data in filled(body).unsent]
    assert [event.seq for event in events] == list(range(1, len(body) + 2))
    unnumbered = [structs.replace(event, seq=None) for event in events]
    assert unnumbered == [SessionCreate(), *body]


@given(BODIES, st.data())
def test_any_tail_with_a_number_resumes_the_stream(body: list[ClientEvent], draw: st.DataObject) -> None:
    """Read from anywhere, with any part resent, a stream of ours is continued by the number that follows."""
    data = list(filled(body).unsent)
    resent_from = draw.draw(st.integers(0, len(data) - 1))
    resent = data + data[resent_from:]
    start = draw.draw(st.integers(0, len(data) - 1))
    for resumed in (
        Outbox.resume(data[start:], is_whole=start == 0),
        Outbox.resume(resent),
    ):
        assert resumed.next_seq == len(data) + 1
        assert resumed.phase is SessionPhase.OPEN
        assert resumed.unsent == ()


@given(ANY_DATA)
def test_whatever_stands_in_the_stream_the_next_number_is_new_to_the_worker(stream: list[bytes]) -> None:
    """After any stream, by whomever, the next event is neither a duplicate nor a gap, and the phase is the worker's."""
    last, phase = None, SessionPhase.ABSENT
    for data in stream:
        seq = None
        try:
            event = decode_client(data)
            seq = event.seq
            if check_seq(last, seq) == "duplicate":
                continue
            last = last if seq is None else seq
            phase = advance(phase, event)
        except ProtocolError:
            if b"nonsense" in data:
                number = int(data.rpartition(b":")[2].rstrip(b"}"))
                last = number if number in ((0, 1) if last is None else (last + 1,)) else last
    resumed = Outbox.resume(stream)
    assert check_seq(last, resumed.next_seq) == "new"
    assert resumed.phase is phase


@given(BODIES)
def test_a_refused_event_changes_nothing(body: list[ClientEvent]) -> None:
    """An illegal or invalid event takes no number and waits nowhere."""
    outbox = filled(body)
    before = (outbox.next_seq, outbox.unsent, outbox.phase)
    for bad, failure in (
        (SessionCreate(), IllegalEvent),
        (InputTextAppend(text="x" * 9000), InvalidEvent),
        (InputTextAppend(text="\ud800"), InvalidEvent),
    ):
        with pytest.raises(failure):
            outbox.put(bad)
    assert (outbox.next_seq, outbox.unsent, outbox.phase) == before


def test_nothing_is_said_before_create_and_after_close() -> None:
    """The outbox refuses by the protocol's own order, before anything is sent."""
    outbox = Outbox()
    with pytest.raises(IllegalEvent, match="absent"):
        outbox.put(InputTextAppend(text="early"))
    outbox.put(SessionCreate())
    outbox.put(SessionClose())
    with pytest.raises(IllegalEvent, match="closing"):
        outbox.put(InputTextAppend(text="late"))


def test_what_is_sent_is_forgotten_oldest_first() -> None:
    """`sent` takes from the front, and numbers go on."""
    outbox = filled([InputTextAppend(text="a"), InputTextAppend(text="b")])
    outbox.sent(2)
    assert [decode_client(data).seq for data in outbox.unsent] == [3]
    assert outbox.next_seq == 4


def test_the_outbox_is_bounded() -> None:
    """An event too many is refused with the bound and the remedy, and takes no number."""
    outbox = filled([InputTextAppend(text="a")] * (MAX_UNSENT_EVENTS - 1))
    with pytest.raises(OutboxFull, match=r"at most 1000 .* flush"):
        outbox.put(InputTextAppend(text="b"))
    assert outbox.next_seq == MAX_UNSENT_EVENTS + 1


def test_a_session_that_the_worker_closed_takes_nothing_more() -> None:
    """Resumed with `is_closed`, the outbox refuses with the code that the worker would use."""
    closed = Outbox.resume([encode(SessionCreate(seq=1))], is_closed=True)
    with pytest.raises(IllegalEvent) as refusal:
        closed.put(InputTextAppend(text="late"))
    assert refusal.value.code == "session_closed"
