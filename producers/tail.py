"""Reading a session's streams backwards: where a writer continues, where a reader stands, which sessions exist."""

from contextlib import suppress
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis

from producers.errors import SessionNotFound
from producers.outbox import Outbox
from protocol import (
    Error,
    InvalidSessionId,
    MalformedEvent,
    SessionClosed,
    SessionPhase,
    decode_server,
    peek_seq,
    session_of,
    source_key,
    target_key,
)
from protocol.keys import EVENT_FIELD, SOURCE_PATTERN

Fields: TypeAlias = dict[Any, Any]
Entry: TypeAlias = tuple[Any, Fields]
"""A stream entry as redis-py returns it: id and fields, as bytes or, from a client that decodes, as str."""

PAGE_ENTRIES: Final = 256
_LAST_ID: Final = "+"


def event_data(entry_id: object, fields: Fields) -> bytes | str:
    """Return the JSON in the entry. Raises MalformedEvent when it has none."""
    data: bytes | str | None = fields.get(EVENT_FIELD.encode(), fields.get(EVENT_FIELD))
    if data is None:
        raise MalformedEvent(
            f"expected the field {EVENT_FIELD!r} in entry {entry_id!r}, got {sorted(map(str, fields))}"
        )
    return data


async def resume_outbox(client: Redis, session_id: str, producer: str | None = None) -> Outbox:
    """Return the outbox that continues the session. Raises SessionNotFound.

    Read backwards to the newest numbered event: one page in a stream that a `Publisher` wrote.
    """
    key = source_key(session_id)
    data: list[bytes] = []
    before = _LAST_ID
    while not any(peek_seq(event) is not None for event in data):
        page = await _page_back(client, key, before)
        if not page:
            break
        data = [_raw(fields) for _, fields in reversed(page)] + data
        before = _before(page[-1][0])
    if not data:
        raise SessionNotFound(f"expected a session to join, got none named {session_id}: create it, or check the id")
    is_whole = not await _page_back(client, key, before, count=1)
    is_closed = await target_phase(client, session_id) is SessionPhase.CLOSED
    return Outbox.resume(data, is_whole=is_whole, is_closed=is_closed, producer=producer)


async def _page_back(client: Redis, key: str, before: str, *, count: int = PAGE_ENTRIES) -> list[Entry]:
    """Return up to `count` entries from `before` backwards, the newest first."""
    page: Any = await client.xrevrange(key, max=before, count=count)
    return list(page)


def _raw(fields: Fields) -> bytes:
    """Return the JSON in a source entry; empty where it has none."""
    data: Any = fields.get(EVENT_FIELD.encode(), fields.get(EVENT_FIELD, b""))
    return data if isinstance(data, bytes) else str(data).encode()


async def target_phase(client: Redis, session_id: str, upto: str = _LAST_ID) -> SessionPhase | None:
    """Return the session's phase after the target entry with the id `upto`; None: there is no entry up to it.

    The newest event that is not an error decides: errors may come at any time.
    """
    before, has_entries = upto, False
    while page := await _page_back(client, target_key(session_id), before):
        has_entries = True
        for entry_id, fields in page:
            event = decode_server(event_data(entry_id, fields))
            if not isinstance(event, Error):
                return SessionPhase.CLOSED if isinstance(event, SessionClosed) else SessionPhase.OPEN
        before = _before(page[-1][0])
    return SessionPhase.ABSENT if has_entries else None


async def last_target_seq(client: Redis, session_id: str) -> int:
    """Return the number of the session's newest target event; 0: none yet."""
    page = await _page_back(client, target_key(session_id), _LAST_ID, count=1)
    return _first_half(page[0][0]) if page else 0


async def newest_session(client: Redis) -> str | None:
    """Return the id of the session that was opened last, by the time of its first entry; None: there is none."""
    sessions: list[tuple[int, str]] = []
    async for key in client.scan_iter(match=SOURCE_PATTERN, count=1000):
        entries: Any = await client.xrange(key, count=1)
        with suppress(InvalidSessionId):
            sessions += [(_first_half(entry_id), session_of(key)) for entry_id, _ in entries]
    return max(sessions)[1] if sessions else None


def _first_half(entry_id: bytes | str) -> int:
    """Return the first half of an entry id: milliseconds in a source stream, the event's number in a target stream."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.partition("-")[0])


def _before(entry_id: bytes | str) -> str:
    """Return the exclusive bound just before this entry."""
    return f"({entry_id.decode() if isinstance(entry_id, bytes) else entry_id}"
