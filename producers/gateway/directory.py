"""What Redis tells about sessions and workers: whose a session is, where it stands, which workers live."""

import time
from typing import Any, Final

from msgspec import Struct

from producers.connection import Link, broker_errors, interruptibly
from producers.errors import SessionNotFound
from producers.gateway.feeds import target_event
from producers.tail import target_phase
from protocol import (
    Error,
    SessionClosed,
    SessionPhase,
    WorkerStats,
    check_session_id,
    decode_worker,
    source_key,
    target_key,
    wire_type,
)
from protocol.errors import ProtocolError
from protocol.keys import EVENT_FIELD, LIVE_KEY, OWNER_FIELD, STATS_KEY

MAX_OWNERS: Final = 100_000
"""Sessions whose owner is remembered."""

LIVE_FOR_S: Final = 0.25
"""How long an answer about the workers counts."""

STATS_MAX_AGE_MS: Final = 60_000
STATS_ENTRIES: Final = 1_000


class SessionStatus(Struct, frozen=True):
    """Where a session stands."""

    phase: SessionPhase
    last_seq: int

    @property
    def is_over(self) -> bool:
        """Whether the session is closed, or its creation was refused."""
        return self.phase is SessionPhase.CLOSED or (self.phase is SessionPhase.ABSENT and self.last_seq > 0)


class Directory:
    """Answers from Redis; those that cannot change are remembered."""

    def __init__(self, link: Link) -> None:
        self._link: Final = link
        self._owners: Final[dict[str, str | None]] = {}
        self._num_workers = 0
        self._asked_s = -LIVE_FOR_S

    async def owner(self, session_id: str) -> str | None:
        """Return the name of the key that opened the session; None: no gateway has, or one without keys.

        Raises SessionNotFound, InvalidSessionId, BrokerUnreachable, BrokerRefused.
        """
        if session_id in self._owners:
            return self._owners[session_id]
        key = source_key(check_session_id(session_id))
        with broker_errors(self._link.address):
            first: Any = await interruptibly(self._link.client.xrange(key, count=1))
        if not first:
            raise SessionNotFound(f"expected a session, got none named {session_id}")
        owner = first[0][1].get(OWNER_FIELD.encode())
        self.remember(session_id, None if owner is None else owner.decode(errors="replace"))
        return self._owners[session_id]

    def remember(self, session_id: str, owner: str | None) -> None:
        """Note the owner of a session."""
        if len(self._owners) >= MAX_OWNERS:
            self._owners.clear()
        self._owners[session_id] = owner

    async def status(self, session_id: str) -> SessionStatus:
        """Return where the session stands, by its newest event. Raises BrokerUnreachable, BrokerRefused."""
        with broker_errors(self._link.address):
            newest: Any = await interruptibly(self._link.client.xrevrange(target_key(session_id), count=1))
            if not newest:
                return SessionStatus(SessionPhase.ABSENT, 0)
            event = target_event(newest[0])
            if event.type == wire_type(SessionClosed):
                phase = SessionPhase.CLOSED
            elif event.type != wire_type(Error):
                phase = SessionPhase.OPEN
            else:  # errors may come at any time: an earlier event decides
                phase = await target_phase(self._link.client, session_id) or SessionPhase.ABSENT
        return SessionStatus(phase, event.seq)

    async def num_workers(self) -> int:
        """Return how many workers live and stay. Raises BrokerUnreachable, BrokerRefused."""
        if time.monotonic() - self._asked_s < LIVE_FOR_S:
            return self._num_workers
        with broker_errors(self._link.address):
            signs: Any = await interruptibly(self._link.client.hgetall(LIVE_KEY))
        # Each worker removes the signs of the dead; that of the last one goes with the key, which has a TTL.
        self._num_workers = sum(b'"is_leaving":true' not in sign for sign in signs.values())
        self._asked_s = time.monotonic()
        return self._num_workers

    async def worker_stats(self) -> list[WorkerStats]:
        """Return the newest report of each worker that has reported lately. Raises BrokerUnreachable, BrokerRefused."""
        with broker_errors(self._link.address):
            entries: Any = await interruptibly(self._link.client.xrevrange(STATS_KEY, count=STATS_ENTRIES))
        newest: dict[str, WorkerStats] = {}
        for entry_id, fields in entries:
            if _milliseconds(entry_id) < _milliseconds(entries[0][0]) - STATS_MAX_AGE_MS:
                break
            try:
                event = decode_worker(fields[EVENT_FIELD.encode()])
            except (ProtocolError, KeyError):
                continue
            if isinstance(event, WorkerStats):
                newest.setdefault(event.worker, event)
        return list(newest.values())


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
