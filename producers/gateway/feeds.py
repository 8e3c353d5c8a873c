"""The target streams that somebody listens to: each read once, however many listen, and many in one blocking read.

A listener keeps its own position. What is recent comes from memory, what is older from Redis: a slow listener costs no
memory, and one that comes back with its position misses nothing.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from msgspec import Struct

from producers.connection import Link, broker_errors, interruptibly
from producers.errors import TargetGap
from producers.gateway.readers import Readers
from producers.tail import Entry, event_data
from protocol import Error, ProtocolError, SessionClosed, SessionCreated, SessionPhase, target_key, wire_type

RECENT_EVENTS: Final = 256
"""Events of a session kept in memory while somebody listens."""

PAGE_EVENTS: Final = 256

_ERROR, _CREATED, _CLOSED = wire_type(Error), wire_type(SessionCreated), wire_type(SessionClosed)


class TargetEvent(Struct, frozen=True):
    """One event of a target stream: its number, its type and its JSON as published."""

    seq: int
    type: str
    data: bytes


class _Typed(Struct):
    type: str


_TYPE: Final = msgspec.json.Decoder(_Typed)


def target_event(entry: Entry) -> TargetEvent:
    """Return the event of a stream entry. Raises MalformedEvent, msgspec.DecodeError for what no worker writes."""
    entry_id, fields = entry
    data = event_data(entry_id, fields)
    raw = data.encode() if isinstance(data, str) else data
    return TargetEvent(int(entry_id.partition(b"-")[0]), _TYPE.decode(raw).type, raw)


class Feed:
    """The events of one session while somebody listens."""

    def __init__(self, session_id: str, link: Link) -> None:
        self.session_id: Final = session_id
        self.last_seq = 0
        """The number of the newest event known here."""
        self.phase = SessionPhase.ABSENT
        self.num_listeners = 0
        self._link: Final = link
        self._recent: Final[deque[TargetEvent]] = deque(maxlen=RECENT_EVENTS)
        self._news = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow: the session is closed, or `session.create` was refused."""
        return self.phase is SessionPhase.CLOSED or (self.phase is SessionPhase.ABSENT and self.last_seq > 0)

    def has_ended(self, after: int) -> bool:
        """Tell whether nothing follows the event `after`."""
        return self.is_over and after >= self.last_seq

    async def start(self) -> None:
        """Read the newest events. Raises BrokerUnreachable, BrokerRefused."""
        with broker_errors(self._link.address):
            page: Any = await interruptibly(
                self._link.client.xrevrange(target_key(self.session_id), count=RECENT_EVENTS)
            )
        self.extend(list(reversed(page)), is_start=True)

    def extend(self, entries: list[Entry], *, is_start: bool = False) -> None:
        """Take the entries behind `last_seq`. `is_start`: they are the first, and may begin anywhere."""
        try:
            events = [target_event(entry) for entry in entries]
        except (ProtocolError, msgspec.DecodeError) as failure:
            self._fail(failure)
            return
        for event in events:
            if event.seq <= self.last_seq:
                continue
            if event.seq != self.last_seq + 1 and not is_start:
                self._fail(TargetGap(self.session_id, expected=self.last_seq + 1, got=event.seq))
                return
            if is_start and not self._recent and event.seq > 1:
                self.phase = SessionPhase.OPEN
            is_start = False
            self._recent.append(event)
            self.last_seq = event.seq
            if event.type == _CLOSED:
                self.phase = SessionPhase.CLOSED
            elif event.type != _ERROR and self.phase is SessionPhase.ABSENT:
                self.phase = SessionPhase.OPEN
        self._wake()

    def _fail(self, failure: Exception) -> None:
        self._failure = failure
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def next(self, after: int, timeout_s: float) -> list[TargetEvent]:
        """Return events behind number `after`, in order; none: none came in time, or the session has ended.

        Raises TargetGap where they have been trimmed, BrokerUnreachable, BrokerRefused.
        """
        if after >= self.last_seq and not self.is_over:
            try:
                async with asyncio.timeout(timeout_s):
                    while after >= self.last_seq and not self.is_over and self._failure is None:
                        await self._news.wait()
            except TimeoutError:
                return []
        if self._failure is not None:
            raise self._failure
        if after >= self.last_seq:
            return []
        if self._recent and self._recent[0].seq <= after + 1:
            return [self._recent[index] for index in range(after - self.last_seq, 0)]  # the newest ones, without a walk
        return await self._page(after)

    async def _page(self, after: int) -> list[TargetEvent]:
        with broker_errors(self._link.address):
            page: Any = await interruptibly(
                self._link.client.xrange(target_key(self.session_id), min=f"({after}-0", count=PAGE_EVENTS)
            )
        events = [target_event(entry) for entry in page]
        if not events or events[0].seq != after + 1:
            raise TargetGap(self.session_id, expected=after + 1, got=events[0].seq if events else self.last_seq + 1)
        return events


class Feeds:
    """The feeds that have listeners, by session."""

    def __init__(self, link: Link, readers: Readers) -> None:
        self._link: Final = link
        self._readers: Final = readers
        self._feeds: Final[dict[str, Feed]] = {}

    def __len__(self) -> int:
        return len(self._feeds)

    @asynccontextmanager
    async def open(self, session_id: str) -> AsyncIterator[Feed]:
        """Yield the session's feed while the block listens. Raises BrokerUnreachable, BrokerRefused."""
        feed = self._feeds.get(session_id)
        if feed is None:
            feed = await self._start(session_id)
        feed.num_listeners += 1
        try:
            yield feed
        finally:
            feed.num_listeners -= 1
            if not feed.num_listeners and self._feeds.get(session_id) is feed:
                del self._feeds[session_id]
                self._readers.remove(feed)

    async def _start(self, session_id: str) -> Feed:
        new = Feed(session_id, self._link)
        await new.start()
        # Another listener may have been quicker.
        feed = self._feeds.setdefault(session_id, new)
        if feed is new and not feed.is_over:
            self._readers.add(feed)
        return feed
