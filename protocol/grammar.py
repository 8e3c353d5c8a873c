"""The legal order of events, as two tables that producer, worker and subscriber share.

`advance(phase, event)` walks the source stream's table, `advance_server` the target stream's; a pair that is not in
the table is illegal. `diagram()` draws a table, as the page of the wire shows it. Sequence numbers are apart from the
order of types: `check_seq` decides what the `seq` of a client event means.
"""

from enum import Enum
from typing import Literal, TypeAlias

from msgspec import Struct

from protocol.errors import ErrorCode, IllegalEvent, SequenceGap
from protocol.events import (
    ClientEvent,
    Error,
    InputTextAppend,
    InputTextFinalize,
    OutputTextDelta,
    SegmentDone,
    ServerEvent,
    SessionClose,
    SessionClosed,
    SessionCreate,
    SessionCreated,
    SessionUpdate,
    SessionUpdated,
    wire_type,
)


class SessionPhase(Enum):
    """Where a session stands; CLOSING has been asked to close, CLOSED has published `session.closed`."""

    ABSENT = "absent"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


Order: TypeAlias = dict[tuple[SessionPhase, type[Struct]], SessionPhase]

CLIENT_ORDER: Order = {
    (SessionPhase.ABSENT, SessionCreate): SessionPhase.OPEN,
    (SessionPhase.OPEN, InputTextAppend): SessionPhase.OPEN,
    (SessionPhase.OPEN, InputTextFinalize): SessionPhase.OPEN,
    (SessionPhase.OPEN, SessionUpdate): SessionPhase.OPEN,
    (SessionPhase.OPEN, SessionClose): SessionPhase.CLOSING,
}
"""Events that a client may send, by phase. Only the worker moves to CLOSED, with `session.closed`."""

SERVER_ORDER: Order = {
    (SessionPhase.ABSENT, Error): SessionPhase.ABSENT,
    (SessionPhase.ABSENT, SessionCreated): SessionPhase.OPEN,
    (SessionPhase.OPEN, SessionUpdated): SessionPhase.OPEN,
    (SessionPhase.OPEN, OutputTextDelta): SessionPhase.OPEN,
    (SessionPhase.OPEN, SegmentDone): SessionPhase.OPEN,
    (SessionPhase.OPEN, Error): SessionPhase.OPEN,
    (SessionPhase.OPEN, SessionClosed): SessionPhase.CLOSED,
    (SessionPhase.CLOSED, Error): SessionPhase.CLOSED,
}
"""Events that a worker may publish, by phase. Errors are always legal: they also answer early and late events."""


def advance(phase: SessionPhase, event: ClientEvent) -> SessionPhase:
    """Return the phase after a client event. Raises IllegalEvent, whose code and message name the broken rule.

    >>> advance(SessionPhase.ABSENT, SessionCreate())
    <SessionPhase.OPEN: 'open'>
    """
    return _follow(CLIENT_ORDER, phase, event)


def advance_server(phase: SessionPhase, event: ServerEvent) -> SessionPhase:
    """Return the phase after a server event. Raises IllegalEvent, whose code and message name the broken rule."""
    return _follow(SERVER_ORDER, phase, event)


def _follow(order: Order, phase: SessionPhase, event: Struct) -> SessionPhase:
    following = order.get((phase, type(event)))
    if following is None:
        raise _illegal(order, phase, event)
    return following


def _illegal(order: Order, phase: SessionPhase, event: Struct) -> IllegalEvent:
    code = _broken_rule(order, phase, event)
    legal = [wire_type(kind) for before, kind in order if before is phase]
    expected = f"expected {' or '.join(legal)}" if legal else "no event is legal"
    name = wire_type(type(event))
    return IllegalEvent(f"{name} while the session is {phase.value}: {expected}. {code.remedy}", code=code)


def _broken_rule(order: Order, phase: SessionPhase, event: Struct) -> ErrorCode:
    if type(event) not in {kind for _, kind in order}:
        return ErrorCode.ILLEGAL_EVENT
    match phase:
        case SessionPhase.ABSENT:
            return ErrorCode.SESSION_NOT_CREATED
        case SessionPhase.OPEN:
            # Everything but creating is legal in an open session, in both tables.
            return ErrorCode.SESSION_EXISTS
        case SessionPhase.CLOSING | SessionPhase.CLOSED:
            return ErrorCode.SESSION_CLOSED


def check_seq(last: int | None, seq: int | None) -> Literal["new", "duplicate"]:
    """Tell what a client event's number means after `last`, the largest number seen (None: none yet).

    Unnumbered events are always new. The first number may be 0 or 1. Raises SequenceGap when a number is missing.

    >>> check_seq(None, 1), check_seq(1, 1), check_seq(1, 2), check_seq(2, None)
    ('new', 'duplicate', 'new', 'new')
    """
    if seq is None:
        return "new"
    if last is None:
        expected = min(seq, 1)
    elif seq <= last:
        return "duplicate"
    else:
        expected = last + 1
    if seq != expected:
        raise SequenceGap(expected=expected, got=seq)
    return "new"


def diagram(order: Order = CLIENT_ORDER) -> str:
    """Draw the table as a Mermaid state diagram, one arrow for each pair of phases."""
    arrows: dict[tuple[SessionPhase, SessionPhase], list[str]] = {}
    for (before, kind), after in order.items():
        arrows.setdefault((before, after), []).append(wire_type(kind))
    lines = ["stateDiagram-v2", f"    [*] --> {SessionPhase.ABSENT.value}"]
    lines += [f"    {a.value} --> {b.value}: {', '.join(kinds)}" for (a, b), kinds in arrows.items()]
    left = {before for before, after in arrows if before is not after}
    lines += [f"    {phase.value} --> [*]" for phase in dict.fromkeys(b for _, b in arrows) if phase not in left]
    return "\n".join(lines) + "\n"
