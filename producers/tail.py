"""Reading back what a session's streams hold: where a writer goes on, where a reader stands, which sessions exist."""

from typing import Any, Final, TypeAlias

from redis.asyncio import Redis

from producers.errors import SessionNotFound
from producers.outbox import Outbox
from protocol import (
    ClientEvent,
    Error,
    InvalidSessionId,
    MalformedEvent,
    ProtocolError,
    ServerEvent,
    SessionClosed,
    SessionPhase,
    decode_client,
    decode_server,
    session_of,
    source_key,
    target_key,
)
from protocol.keys import EVENT_FIELD, SOURCE_PATTERN

Fields: TypeAlias = dict[Any, Any]
Entry: TypeAlias = tuple[Any, Fields]
"""A stream entry as redis-py gives it: id and fields, bytes or, from a client that decodes, str."""

PAGE_ENTRIES: Final = 256
_FIRST_ID: Final = "-"
_LAST_ID: Final = "+"


def event_data(entry_id: object, fields: Fields) -> bytes | str:
    """The JSON in the entry; raises MalformedEvent when it has none."""
    data: bytes | str | None = fields.get(EVENT_FIELD.encode(), fields.get(EVENT_FIELD))
    if data is None:
        raise MalformedEvent(f"expected the field {EVENT_FIELD!r} in entry {entry_id!r}, got {sorted(map(str, fields))}")
    return data


async def resume_outbox(client: Redis, session_id: str) -> Outbox:
    """The outbox that goes on in the session; raises SessionNotFound.

    Reads back until it meets a numbered event: for a stream of ours, one page.
    """
    events: list[ClientEvent] = []
    before: Any = _LAST_ID
    num_entries = 0
    while not any(event.seq is not None for event in events):
        page: list[Entry] = await client.xrevrange(source_key(session_id), max=before, count=PAGE_ENTRIES)
        if not page:
            break
        events = _client_events(page) + events
        num_entries += len(page)
        before = _before(page[-1][0])
    if not num_entries:
        raise SessionNotFound(f"expected a session to join, got none named {session_id}: create it, or check the id")
    is_whole = not await client.xrevrange(source_key(session_id), max=before, count=1)
    is_closed = await target_phase(client, session_id, _LAST_ID) is SessionPhase.CLOSED
    return Outbox.resume(events, is_whole=is_whole, is_closed=is_closed)


def _client_events(page: list[Entry]) -> list[ClientEvent]:
    """The page's events, oldest first, without what a worker cannot read either."""
    events: list[ClientEvent] = []
    for entry_id, fields in reversed(page):
        try:
            events.append(decode_client(event_data(entry_id, fields)))
        except ProtocolError:
            continue
    return events


async def target_phase(client: Redis, session_id: str, upto: str) -> SessionPhase | None:
    """Where the session stands after the target entry with the id `upto`; None: nothing there to tell.

    Errors may come at any time, so the newest event that is none decides.
    """
    before: Any = upto
    num_entries = 0
    while page := await client.xrevrange(target_key(session_id), max=before, count=PAGE_ENTRIES):
        num_entries += len(page)
        for entry_id, fields in page:
            event: ServerEvent = decode_server(event_data(entry_id, fields))
            if not isinstance(event, Error):
                return SessionPhase.CLOSED if isinstance(event, SessionClosed) else SessionPhase.OPEN
        before = _before(page[-1][0])
    return SessionPhase.ABSENT if num_entries else None


async def last_target_seq(client: Redis, session_id: str) -> int:
    """The number of the session's newest target event; 0: none yet."""
    page: list[Entry] = await client.xrevrange(target_key(session_id), count=1)
    return _clock_ms(page[0][0]) if page else 0


async def newest_session(client: Redis) -> str | None:
    """The id of the session that was opened last, by the time of its first entry; None: there is none."""
    newest: tuple[int, str] | None = None
    async for key in client.scan_iter(match=SOURCE_PATTERN, count=1000):
        first: list[Entry] = await client.xrange(key, count=1)
        try:
            found = (_clock_ms(first[0][0]), session_of(key)) if first else None
        except InvalidSessionId:
            continue
        newest = max(filter(None, (newest, found)), default=None)
    return newest[1] if newest else None


def _clock_ms(entry_id: bytes | str) -> int:
    """The first half of an entry id: milliseconds in a source stream, the event's number in a target stream."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.partition("-")[0])


def _before(entry_id: bytes | str) -> str:
    """The exclusive bound just before this entry."""
    return f"({entry_id.decode() if isinstance(entry_id, bytes) else entry_id}"
