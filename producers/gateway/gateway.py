"""The parts of a running gateway, and the rules of access that all routes share."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Final, Self

from producers.connection import Link, open_follower, open_once, open_writer
from producers.gateway.auth import Caller, Keys
from producers.gateway.directory import Directory
from producers.gateway.errors import RETRY_AFTER_S, ApiError, no_worker, session_not_found
from producers.gateway.feeds import Feeds
from producers.gateway.figures import Figures, registry_of
from producers.gateway.limits import ConnectionLimit, RequestLimit
from producers.gateway.readers import Readers
from producers.gateway.settings import Settings
from producers.gateway.writer import Writer
from protocol import Session, SessionCreate, check

SESSION_PREFIX: Final = "sess_"
FORGET_EVERY_S: Final = 1.0
"""How often, at most, to look which sessions of a key have closed, when it has too many."""


def new_session_id() -> str:
    """Return an id that nobody can guess."""
    return f"{SESSION_PREFIX}{token_hex(16)}"


class Gateway:
    """The parts of one gateway."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        """Do not connect yet. Raises InvalidBrokerUrl."""
        self.settings: Final = settings
        self.keys: Final = keys
        self.figures: Final = Figures()
        self.requests: Final = RequestLimit(settings.max_requests_per_s, settings.burst_requests)
        self.connections: Final = ConnectionLimit(settings.max_connections)
        lookups, writes, reads = open_writer(settings.redis), open_once(settings.redis), open_follower(settings.redis)
        self._links: Final[tuple[Link, ...]] = (lookups, writes, reads)
        self.lookups: Final = lookups
        self.directory: Final = Directory(lookups)
        self.writer: Final = Writer(writes)
        self._readers: Final = Readers(reads, lookups)
        self.feeds: Final = Feeds(lookups, self._readers)
        gauges = {
            "connections": ("Open WebSockets and event streams.", lambda: self.connections.num_open),
            "feeds": ("Sessions that somebody listens to.", lambda: len(self.feeds)),
        }
        self.registry: Final = registry_of(self.figures, gauges)
        self._open: Final[dict[str | None, dict[str, None]]] = {}
        self._forgotten_s: Final[dict[str | None, float]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run the writer while the block runs; close all connections in the end."""
        writing = asyncio.create_task(self.writer.run())
        try:
            yield self
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await self._readers.close()
            for link in self._links:
                await link.close()

    async def check_access(self, caller: Caller, session_id: str) -> None:
        """Raise ApiError unless the session is there and the caller's, or the one that its link reads."""
        if caller.session_id is not None and caller.session_id != session_id:
            raise session_not_found()
        owner = await self.directory.owner(session_id)
        if caller.session_id is None and not self.keys.is_open and owner != caller.name:
            raise session_not_found()

    async def check_workers(self) -> None:
        """Raise ApiError unless a worker lives."""
        if not await self.directory.num_workers():
            raise no_worker()

    async def create(self, caller: Caller, session: Session) -> str:
        """Open a session that belongs to the caller, and return its id. Raises as `create_all`."""
        session_id = new_session_id()
        await self.create_all(caller, {session_id: session})
        return session_id

    async def create_all(self, caller: Caller, sessions: Mapping[str, Session]) -> None:
        """Open sessions under these ids that belong to the caller.

        Raises ApiError without a worker or above the limit of sessions, a ProtocolError for wrong options; then none
        of them is opened.
        """
        data = {session_id: check(SessionCreate(session=session)) for session_id, session in sessions.items()}
        await self.check_workers()
        await self.check_sessions(caller, len(sessions))
        await asyncio.gather(*(self.open(caller, session_id, each) for session_id, each in data.items()))

    async def open(self, caller: Caller, session_id: str, data: bytes) -> None:
        """Write `session.create`, as JSON, for a session that belongs to the caller."""
        await self.writer.send(session_id, [data], owner=caller.name or "")
        self.directory.remember(session_id, caller.name or "")
        self._open.setdefault(caller.name, {})[session_id] = None
        self.figures.sessions += 1

    async def check_sessions(self, caller: Caller, number: int = 1) -> None:
        """Raise ApiError when the caller would have more open sessions than allowed, of those opened here."""
        maximum = self.settings.max_sessions
        opened = self._open.get(caller.name, {})
        if len(opened) + number > maximum:
            await self._forget_closed(caller, opened)
        if len(opened) + number > maximum:
            message = f"expected at most {maximum} open sessions of one key, got more: close some"
            raise ApiError(429, "too_many_sessions", message, retry_after_s=RETRY_AFTER_S)

    async def _forget_closed(self, caller: Caller, opened: dict[str, None]) -> None:
        # Asks Redis about every session, so not for every request above the limit.
        now_s = time.monotonic()
        if now_s - self._forgotten_s.get(caller.name, -FORGET_EVERY_S) < FORGET_EVERY_S:
            return
        self._forgotten_s[caller.name] = now_s
        for session_id in list(opened):
            if (await self.directory.status(session_id)).is_over:
                opened.pop(session_id, None)

    def count_request(self, caller: Caller) -> None:
        """Count a request of the caller. Raises ApiError when there are too many."""
        self.requests.check(caller.name, time.monotonic())
