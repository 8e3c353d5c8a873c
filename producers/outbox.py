"""A producer's events before they reach Redis: checked, in legal order, numbered, and kept until sent.

An event whose sending failed may still have arrived. It is kept with its number and sent again, before
anything newer: if it did arrive, the worker knows the number and ignores the copy.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, Self

from msgspec import structs

from producers.errors import OutboxFull
from protocol import (
    ClientEvent,
    Numbering,
    ProducerConflict,
    ProtocolError,
    SessionPhase,
    advance,
    check,
    decode_client,
    peek_producer,
    peek_seq,
)

MAX_UNSENT_EVENTS: Final = 1_000
"""The most events kept for a broker that does not answer."""


class Outbox:
    """One session's events on their way out; `unsent` are numbered and encoded, oldest first."""

    def __init__(
        self, *, phase: SessionPhase = SessionPhase.ABSENT, last_seq: int = 0, producer: str | None = None
    ) -> None:
        """`producer` names this writer in its events, so that a worker can tell it from others of the session."""
        self._producer = producer
        self._phase = phase
        self._last_seq = last_seq
        self._unsent: deque[bytes] = deque()

    @classmethod
    def resume(
        cls, data: Iterable[bytes], *, is_whole: bool = True, is_closed: bool = False, producer: str | None = None
    ) -> Self:
        """Return an outbox that continues after these last events of a source stream, counted as a worker counts them.

        `data` is their JSON, oldest first. `is_whole`: they are the whole stream; otherwise the numbers count from the
        first of them. `is_closed`: the worker has closed the session.
        """
        phase, numbering = SessionPhase.ABSENT, Numbering()
        if not is_whole:
            data = list(data)
            phase, numbering = SessionPhase.OPEN, Numbering(_base(data))
        for event_data in data:
            try:
                after = numbering.take(peek_seq(event_data), peek_producer(event_data))
                if after is None:
                    continue
                numbering = after  # an event that is refused by its content has used its number
                phase = advance(phase, decode_client(event_data))
            except ProducerConflict as conflict:
                numbering = numbering.without(conflict.producer)
            except ProtocolError:
                continue
        phase = SessionPhase.CLOSED if is_closed else phase
        return cls(phase=phase, last_seq=numbering.last or 0, producer=producer)

    @property
    def phase(self) -> SessionPhase:
        """The session's phase once a worker has read all these events."""
        return self._phase

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self._last_seq + 1

    @property
    def is_full(self) -> bool:
        """Whether `put` raises OutboxFull."""
        return len(self._unsent) >= MAX_UNSENT_EVENTS

    @property
    def unsent(self) -> tuple[bytes, ...]:
        """The JSON of the events still to be sent, oldest first."""
        return tuple(self._unsent)

    def put(self, event: ClientEvent) -> None:
        """Number the event and add it to `unsent`.

        Raises IllegalEvent at the wrong time, another ProtocolError for a bad value, OutboxFull; then changes nothing.
        """
        phase = advance(self._phase, event)
        data = check(structs.replace(event, seq=self.next_seq, producer=self._producer))
        if self.is_full:
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

    def arrived(self, seq: int) -> None:
        """Drop the events up to this number, which have arrived; those dropped before do not matter."""
        self.sent(max(0, len(self._unsent) - max(0, self._last_seq - seq)))


def _base(data: Iterable[bytes]) -> int | None:
    """Return the number before the first one in the events; None: no event has a number."""
    first_seq = next((seq for seq in map(peek_seq, data) if seq is not None), None)
    return None if first_seq is None else first_seq - 1
