"""A producer's events before they reach Redis: checked, in legal order, numbered, and kept until sent.

An event whose sending failed may still have arrived. It is kept with its number and sent again, before
anything newer: if it did arrive, the worker knows the number and ignores the copy.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, Self

from msgspec import structs

from producers.errors import OutboxFull
from protocol import ClientEvent, ProtocolError, SessionPhase, advance, check, check_seq, decode_client, peek_seq

MAX_UNSENT_EVENTS: Final = 1_000
"""The most events kept for a broker that does not answer."""


class Outbox:
    """One session's events on their way out; `unsent` are numbered and encoded, oldest first."""

    def __init__(self, *, phase: SessionPhase = SessionPhase.ABSENT, last_seq: int = 0) -> None:
        self._phase = phase
        self._last_seq = last_seq
        self._unsent: deque[bytes] = deque()

    @classmethod
    def resume(cls, data: Iterable[bytes], *, is_whole: bool = True, is_closed: bool = False) -> Self:
        """Return an outbox that continues after these last events of a source stream, counted as a worker counts them.

        `data` is their JSON, oldest first. `is_whole`: they are the whole stream; otherwise the numbers count from the
        first of them. `is_closed`: the worker has closed the session.
        """
        phase, last = SessionPhase.ABSENT, None
        if not is_whole:
            data = list(data)
            phase, last = SessionPhase.OPEN, _base(data)
        for event_data in data:
            try:
                if check_seq(last, seq := peek_seq(event_data)) == "duplicate":
                    continue
                # The number of an event that is refused for another reason than a gap counts as used.
                last = last if seq is None else seq
                phase = advance(phase, decode_client(event_data))
            except ProtocolError:
                continue
        return cls(phase=SessionPhase.CLOSED if is_closed else phase, last_seq=last or 0)

    @property
    def phase(self) -> SessionPhase:
        """The session's phase once a worker has read all these events."""
        return self._phase

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self._last_seq + 1

    @property
    def unsent(self) -> tuple[bytes, ...]:
        """The JSON of the events still to be sent, oldest first."""
        return tuple(self._unsent)

    def put(self, event: ClientEvent) -> None:
        """Number the event and add it to `unsent`.

        Raises IllegalEvent at the wrong time, another ProtocolError for a bad value, OutboxFull; then changes nothing.
        """
        phase = advance(self._phase, event)
        data = check(structs.replace(event, seq=self.next_seq))
        if len(self._unsent) >= MAX_UNSENT_EVENTS:
            raise OutboxFull(
                f"expected at most {MAX_UNSENT_EVENTS} events waiting for the broker, got one more: "
                "bring the broker back and call flush(), or stop the source"
            )
        self._unsent.append(data)
        self._phase = phase
        self._last_seq += 1

    def sent(self, num_events: int) -> None:
        """Drop the oldest `num_events`, which have arrived."""
        for _ in range(num_events):
            self._unsent.popleft()


def _base(data: Iterable[bytes]) -> int | None:
    """Return the number before the first one in the events; None: no event has a number."""
    first_seq = next((seq for seq in map(peek_seq, data) if seq is not None), None)
    return None if first_seq is None else first_seq - 1
