"""One listener of one session: events behind a position, heartbeats in silence, an end; for SSE and WebSocket."""

from collections.abc import AsyncIterator

from starlette.requests import HTTPConnection

from producers.gateway.errors import ApiError
from producers.gateway.feeds import Feed, TargetEvent
from protocol.limits import MAX_SEQ


async def listen(feed: Feed, after: int, heartbeat_s: float) -> AsyncIterator[list[TargetEvent]]:
    """Yield the events behind number `after`; an empty list after each `heartbeat_s` of silence; end with the session.

    Raises TargetGap where events have been trimmed, BrokerUnreachable, BrokerRefused.
    """
    while not feed.has_ended(after):
        events = await feed.next(after, heartbeat_s)
        if events:
            after = events[-1].seq
        elif feed.has_ended(after):
            return
        yield events


def position(connection: HTTPConnection) -> int:
    """Return the number behind which to go on: `Last-Event-ID`, else `?after=`, else 0. Raises ApiError."""
    text = connection.headers.get("last-event-id") or connection.query_params.get("after") or "0"
    if not text.isascii() or not text.isdecimal() or len(text) > 16 or int(text) > MAX_SEQ:
        message = "expected the number of an event, from 0, in Last-Event-ID or after; got something else"
        raise ApiError(400, "invalid_value", message, param="after")
    return int(text)
