"""A reader's position in a target stream, without Redis: each event once, in order, and no gap."""

from producers.errors import TargetGap
from producers.tail import Fields, event_data
from protocol import ServerEvent, SessionPhase, advance_server, decode_server


class Cursor:
    """The position behind the last delivered event, whose number is `last_seq`."""

    def __init__(self, session_id: str, *, after: int = 0, phase: SessionPhase = SessionPhase.ABSENT) -> None:
        self._session_id = session_id
        self._phase = phase
        self._last_seq = after

    @property
    def last_seq(self) -> int:
        """The number of the last event delivered."""
        return self._last_seq

    @property
    def last_id(self) -> str:
        """The entry id to read on from; never `$`, which would skip entries added between two reads."""
        return f"{self._last_seq}-0"

    @property
    def has_ended(self) -> bool:
        """Whether `session.closed` has been delivered."""
        return self._phase is SessionPhase.CLOSED

    def accept(self, entry_id: object, fields: Fields) -> ServerEvent:
        """Return the entry's event and move behind it. Raises TargetGap or a ProtocolError and then does not move."""
        event = decode_server(event_data(entry_id, fields))
        if event.seq != self._last_seq + 1:
            raise TargetGap(self._session_id, expected=self._last_seq + 1, got=event.seq)
        self._phase = advance_server(self._phase, event)
        self._last_seq = event.seq
        return event
