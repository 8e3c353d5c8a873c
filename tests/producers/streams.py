"""Helpers for the tests of producers: target streams to read, and ways to read source streams."""

from collections.abc import Sequence
from typing import Any

from msgspec import structs
from redis.asyncio import Redis

from protocol import (
    ClientEvent,
    OutputTextDelta,
    SegmentDone,
    ServerEvent,
    Session,
    SessionClosed,
    SessionCreated,
    decode_client,
    encode,
    source_key,
    target_key,
)
from protocol.keys import EVENT_FIELD


def delta(seq: int, text: str = " mot") -> OutputTextDelta:
    """Return one target word with this number."""
    return OutputTextDelta(
        seq=seq,
        segment=0,
        index=seq,
        word=text.strip(),
        text=text,
        tokens=(seq,),
        source_words_read=seq,
        elapsed_ms=seq,
        delay_ms=1,
    )


def whole_stream(num_deltas: int) -> list[ServerEvent]:
    """Return a session's events from created to closed, with this many words."""
    deltas = [delta(2 + index) for index in range(num_deltas)]
    done = SegmentDone(
        seq=2 + num_deltas,
        segment=0,
        text=" mot" * num_deltas,
        source_words=num_deltas,
        target_words=num_deltas,
        finish_reason="stop",
        average_lagging=2.5,
        elapsed_ms=9,
    )
    closed = SessionClosed(seq=3 + num_deltas, reason="closed", source_words=num_deltas, target_words=num_deltas)
    return [SessionCreated(seq=1, version=1, session=Session(), model="fake"), *deltas, done, closed]


async def publish(client: Redis, session_id: str, events: Sequence[ServerEvent]) -> None:
    """Write the events to the session's target stream, as a worker does."""
    for event in events:
        await client.xadd(target_key(session_id), {EVENT_FIELD: encode(event)}, id=f"{event.seq}-0")
    await client.expire(target_key(session_id), 100)


async def source_events(client: Redis, session_id: str) -> list[ClientEvent]:
    """Read the events of the session's source stream, without the names of their producers, which are random."""
    entries: Any = await client.xrange(source_key(session_id))
    events = [decode_client(fields[EVENT_FIELD.encode()]) for _, fields in entries]
    return [structs.replace(event, producer=None) for event in events]
