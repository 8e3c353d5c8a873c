"""The downstream library: a session's target stream as typed events, each once and in order.

async with Subscriber("redis://127.0.0.1:6379", "talk-1") as events:
    async for event in events:
        if isinstance(event, OutputTextDelta):
            print(event.text, end="", flush=True)
"""

import asyncio
import logging
from collections import deque
from types import TracebackType
from typing import Any, Final, Self

from redis.exceptions import RedisClusterException, RedisError

from producers.arguments import check_number
from producers.connection import BLOCK_MS, Broker, backoff_s, broker_errors, interruptibly, is_passing, open_follower
from producers.cursor import Cursor
from producers.tail import Entry, target_phase
from protocol import ServerEvent, SessionPhase, check_session_id, target_key

PAGE_ENTRIES: Final = 500
FIRST_ATTEMPTS: Final = 3
"""Attempts at a broker that has never answered; one that has answered before is retried for ever."""

_LOG: Final = logging.getLogger(__name__)


class Subscriber:
    """An async iterator over the events after number `after`; ends after `session.closed`.

    When the connection breaks, it waits for the broker and reads on behind the last event delivered (`last_seq`, which
    another subscriber may take as its `after`). Raises BrokerUnreachable if the broker cannot be reached at first,
    TargetGap if events are missing, TimeoutError if no event came for `timeout_s` (None: wait for ever).
    """

    def __init__(self, broker: Broker, session_id: str, *, after: int = 0, timeout_s: float | None = None) -> None:
        """Do not connect yet.

        Raises InvalidSessionId, InvalidBrokerUrl, TypeError and ValueError for arguments of another kind.
        """
        check_number("after", after, 0, is_whole=True)
        if timeout_s is not None:
            check_number("timeout_s", timeout_s, 0)
        self.session_id: Final = check_session_id(session_id)
        self._link: Final = open_follower(broker)
        self._timeout_s: Final = timeout_s
        self._cursor = Cursor(session_id, after=after)
        self._is_placed = after == 0
        self._has_answered = False
        self._entries: deque[Entry] = deque()

    @property
    def address(self) -> str:
        """The broker's URL, without a password."""
        return self._link.address

    @property
    def last_seq(self) -> int:
        """The number of the last event delivered."""
        return self._cursor.last_seq

    async def disconnect(self) -> None:
        """Close every connection of this subscriber."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerEvent:
        if not self._entries and not self._cursor.has_ended:
            await self._fill()
        if self._cursor.has_ended:
            await self.disconnect()
            raise StopAsyncIteration
        return self._cursor.accept(*self._entries.popleft())

    async def _fill(self) -> None:
        """Read until there is an entry to deliver, or the session has ended."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._fill_patiently()
        except TimeoutError:
            raise TimeoutError(
                f"expected an event of session {self.session_id} after number {self.last_seq} within "
                f"{self._timeout_s:g} s, got none: is a worker serving {self.address}, and is the id right?"
            ) from None

    async def _fill_patiently(self) -> None:
        num_failures = 0
        while not self._entries and not self._cursor.has_ended:
            try:
                # The read itself changes nothing: an abandoned one must not deliver beside the next one.
                if self._is_placed:
                    self._entries.extend(await interruptibly(self._read()))
                else:
                    self._place(await interruptibly(self._phase()))
                self._has_answered, num_failures = True, 0
            except (RedisError, RedisClusterException, OSError) as failure:
                num_failures += 1
                if not is_passing(failure) or (not self._has_answered and num_failures >= FIRST_ATTEMPTS):
                    with broker_errors(self.address):
                        raise
                if num_failures == 1 and self._has_answered:
                    _LOG.warning("Redis at %s is gone, will read on from event %d", self.address, self.last_seq)
                await self._link.drop_connections()
                await asyncio.sleep(backoff_s(num_failures))

    async def _read(self) -> list[Entry]:
        """Return the entries behind the last event, after at most one blocking read."""
        streams: Any = {target_key(self.session_id): self._cursor.last_id}
        # The first read does not block, so that a broker that answers is recognised at once.
        block_ms = BLOCK_MS if self._has_answered else 1
        reply: Any = await self._link.client.xread(streams, count=PAGE_ENTRIES, block=block_ms)
        return [entry for _, entries in reply for entry in entries]

    async def _phase(self) -> SessionPhase:
        """Return the session's phase just before the first event to read."""
        phase = await target_phase(self._link.client, self.session_id, self._cursor.last_id)
        # Where no earlier entry is left to tell, the session counts as open: readers resume in open sessions.
        return phase or SessionPhase.OPEN

    def _place(self, phase: SessionPhase) -> None:
        self._cursor = Cursor(self.session_id, after=self.last_seq, phase=phase)
        self._is_placed = True
