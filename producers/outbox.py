"""What a producer has to say, before any Redis: events checked, in legal order, numbered, and kept until sent.

An event whose sending failed may or may not have arrived. It is kept with its number and goes out again, before
anything newer: if it had arrived, the worker knows the number and ignores the copy.
"""

from collections import deque
from collections.abc import Iterable
from itertools import dropwhile
from typing import Final, Self

from msgspec import structs

from producers.errors import OutboxFull
from protocol import ClientEvent, IllegalEvent, SequenceGap, SessionPhase, advance, check, check_seq

MAX_UNSENT_EVENTS: Final = 1_000
"""How many events wait at most for a broker that does not answer."""


class Outbox:
    """One session's events on their way out; `unsent` are numbered and encoded, oldest first."""

    def __init__(self, *, phase: SessionPhase = SessionPhase.ABSENT, last_seq: int = 0) -> None:
        self._phase = phase
        self._last_seq = last_seq
        self._unsent: deque[bytes] = deque()

    @classmethod
    def resume(cls, events: Iterable[ClientEvent], *, is_whole: bool = True, is_closed: bool = False) -> Self:
        """An outbox that goes on where these last events of a source stream end, read as a worker reads them.

        `is_whole`: they are all events of the stream. Otherwise they must hold a numbered event, unless none in the
        stream is; the numbers count from the first. `is_closed`: the worker has closed the session.
        """
        phase, last = (SessionPhase.ABSENT, None) if is_whole else (SessionPhase.OPEN, _base(events := list(events)))
        for event in events:
            try:
                if check_seq(last, event.seq) == "duplicate" and event.seq != last:
                    continue
                last = last if event.seq is None else event.seq
                phase = advance(phase, event)
            except (SequenceGap, IllegalEvent):
                continue
        return cls(phase=SessionPhase.CLOSED if is_closed else phase, last_seq=last or 0)

    @property
    def phase(self) -> SessionPhase:
        """Where the session stands once everything here has been read."""
        return self._phase

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self._last_seq + 1

    @property
    def unsent(self) -> tuple[bytes, ...]:
        """The JSON of what has still to be sent, oldest first."""
        return tuple(self._unsent)

    def put(self, event: ClientEvent) -> None:
        """The event has its number and waits among `unsent`.

        Raises IllegalEvent at the wrong time, another ProtocolError for a bad value, OutboxFull; then nothing changed.
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
        """The oldest `num_events` have arrived and are forgotten."""
        for _ in range(num_events):
            self._unsent.popleft()


def _base(events: Iterable[ClientEvent]) -> int | None:
    """The number before the first numbered event, or None."""
    first = next(dropwhile(lambda event: event.seq is None, events), None)
    return None if first is None or first.seq is None else first.seq - 1
