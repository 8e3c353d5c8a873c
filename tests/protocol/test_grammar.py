"""Every pair of phase and event is either in a table or refused with the right code; sequence numbers."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import ErrorCode, IllegalEvent, SequenceGap, SessionClose, SessionCreated, check_seq, wire_type
from protocol.events import ClientEvent, Error, ServerEvent, SessionClosed, SessionCreate
from protocol.grammar import CLIENT_ORDER, SERVER_ORDER, Order, SessionPhase, advance, advance_server, diagram
from protocol.limits import MAX_SEQ

Advance = Callable[[SessionPhase, Any], SessionPhase]
SIDES = [
    pytest.param(CLIENT_ORDER, advance, SessionCreate, id="client"),
    pytest.param(SERVER_ORDER, advance_server, SessionCreated, id="server"),
]
PAIRS = [
    pytest.param(order, step, phase, kind, id=f"{phase.value} {wire_type(kind)}")
    for order, step, union in ((CLIENT_ORDER, advance, ClientEvent), (SERVER_ORDER, advance_server, ServerEvent))
    for phase in SessionPhase
    for kind in get_args(union)
]
law = settings(deadline=None, max_examples=50)
SEQ = st.none() | st.integers(0, MAX_SEQ)


def _expected_code(phase: SessionPhase) -> str:
    return {SessionPhase.ABSENT: "session_not_created", SessionPhase.OPEN: "session_exists"}.get(
        phase, "session_closed"
    )


@pytest.mark.parametrize(("order", "step", "phase", "kind"), PAIRS)
@settings(deadline=None, max_examples=3)
@given(data=st.data())
def test_every_pair_is_in_the_table_or_refused(
    order: Order, step: Advance, phase: SessionPhase, kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    """A legal pair moves as the table says; an illegal one names event, phase, rule and remedy."""
    event = data.draw(st.from_type(kind))
    if (phase, kind) in order:
        assert step(phase, event) is order[phase, kind]
        return
    with pytest.raises(IllegalEvent) as caught:
        step(phase, event)
    assert caught.value.code == _expected_code(phase)
    assert all(
        part in str(caught.value) for part in (wire_type(kind), phase.value, ErrorCode(caught.value.code).remedy)
    )


def test_the_tables_speak_of_every_event() -> None:
    """Each event is legal somewhere, and no table names an event of the other side."""
    assert {kind for _, kind in CLIENT_ORDER} == set(get_args(ClientEvent))
    assert {kind for _, kind in SERVER_ORDER} == set(get_args(ServerEvent))


@pytest.mark.parametrize(("order", "step", "first"), SIDES)
@law
@given(data=st.data())
def test_every_walk_through_a_table_is_accepted(order: Order, step: Advance, first: Any, data: st.DataObject) -> None:
    """Any sequence drawn from the table passes, and an opening event comes before all but errors."""
    phase, walk = SessionPhase.ABSENT, []
    for _ in range(data.draw(st.integers(0, 12))):
        legal = [kind for before, kind in order if before is phase]
        if not legal:
            break
        walk.append(data.draw(st.sampled_from(legal)))
        phase = step(phase, data.draw(st.from_type(walk[-1])))
    spoken = [kind for kind in walk if kind is not Error]
    assert spoken[:1] in ([], [first])
    assert spoken.count(first) <= 1


@pytest.mark.parametrize(("order", "step", "last"), [(CLIENT_ORDER, advance, SessionClose)])
def test_nothing_follows_the_clients_close(order: Order, step: Advance, last: type[msgspec.Struct]) -> None:
    """`session.close` is the last event of a source stream."""
    assert not [kind for before, kind in order if before is order[SessionPhase.OPEN, last]]
    with pytest.raises(IllegalEvent, match="another id"):
        step(SessionPhase.CLOSING, SessionClose())


def test_only_errors_follow_the_workers_close() -> None:
    """A late client event is still answered after `session.closed`."""
    after = SERVER_ORDER[SessionPhase.OPEN, SessionClosed]
    assert [kind for before, kind in SERVER_ORDER if before is after] == [Error]


def test_an_event_of_the_other_side_is_illegal_everywhere() -> None:
    """Handing a server event to the client's table is not mistaken for a matter of phase."""
    event: Any = Error(seq=1, code="a", message="b")
    for phase in SessionPhase:
        with pytest.raises(IllegalEvent) as caught:
            advance(phase, event)
        assert caught.value.code == "illegal_event"


@law
@given(last=SEQ)
def test_unnumbered_events_are_always_new(last: int | None) -> None:
    """A producer need not count."""
    assert check_seq(last, None) == "new"


@pytest.mark.parametrize("first", [0, 1])
def test_counting_starts_at_zero_or_one(first: int) -> None:
    """Both habits are legal."""
    assert check_seq(None, first) == "new"


@law
@given(seq=st.integers(2, MAX_SEQ))
def test_a_later_start_is_a_gap(seq: int) -> None:
    """A first number above one says that events were lost."""
    with pytest.raises(SequenceGap) as caught:
        check_seq(None, seq)
    assert caught.value.expected == 1


@law
@given(last=st.integers(0, MAX_SEQ), seq=st.integers(0, MAX_SEQ))
def test_a_number_is_next_or_repeated_or_a_gap(last: int, seq: int) -> None:
    """last + 1 is new, anything up to last a duplicate, anything beyond names last + 1."""
    if seq > last + 1:
        with pytest.raises(SequenceGap) as caught:
            check_seq(last, seq)
        assert (caught.value.expected, caught.value.got) == (last + 1, seq)
    else:
        assert check_seq(last, seq) == ("new" if seq == last + 1 else "duplicate")


@law
@given(start=st.sampled_from([0, 1]), arrivals=st.lists(st.integers(0, 8), max_size=30))
def test_consumed_numbers_never_skip_or_repeat(start: int, arrivals: list[int]) -> None:
    """However a producer repeats and skips, what is consumed is start, start + 1, start + 2, …"""
    consumed, last = [start], start
    for seq in arrivals:
        with suppress(SequenceGap):
            if check_seq(last, seq) == "new":
                consumed.append(seq)
                last = seq
    assert consumed == list(range(start, start + len(consumed)))


@pytest.mark.parametrize("order", [CLIENT_ORDER, SERVER_ORDER], ids=["client", "server"])
def test_the_diagram_shows_the_whole_table(order: Order) -> None:
    """Every pair of the table is on the arrow between its phases, and nothing else is drawn."""
    lines = [line.strip() for line in diagram(order).splitlines()]
    assert lines[:2] == ["stateDiagram-v2", "[*] --> absent"]
    arrows = dict(line.split(": ") for line in lines if ": " in line)
    drawn = {(arrow, kind) for arrow, kinds in arrows.items() for kind in kinds.split(", ")}
    assert drawn == {(f"{a.value} --> {b.value}", wire_type(kind)) for (a, kind), b in order.items()}
    assert sum(line.endswith("--> [*]") for line in lines) == 1
