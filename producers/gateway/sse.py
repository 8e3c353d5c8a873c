"""Events of a session as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from producers.gateway.auth import Caller
from producers.gateway.errors import api_error
from producers.gateway.feeds import TargetEvent
from producers.gateway.gateway import Gateway
from producers.gateway.listening import listen, position

RETRY_MS: Final = 1_000
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # proxies such as nginx would hold words back
}


def frame(event: TargetEvent) -> bytes:
    """Return the event's frame; its JSON has no line break."""
    return b"id: %d\ndata: %b\n\n" % (event.seq, event.data)


def named_frame(name: str, content: Any) -> bytes:
    """Return a frame that is not an event of the session."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(content))


class EventStream(Response):
    """A response whose frames come from an iterator; a client that takes nothing in time is cut off."""

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        *,
        send_timeout_s: float,
        on_slow: Callable[[], None],
        closing: AsyncExitStack,
    ) -> None:
        """`closing` is closed in the end, however it comes."""
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._frames: Final = frames
        self._send_timeout_s: Final = send_timeout_s
        self._on_slow: Final = on_slow
        self._closing: Final = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._closing:
            streaming = asyncio.create_task(self._stream(scope, send))
            leaving = asyncio.create_task(_left(receive))
            try:
                await asyncio.wait({streaming, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                streaming.cancel()
                leaving.cancel()
                results = await asyncio.gather(streaming, leaving, return_exceptions=True)
        if isinstance(results[0], Exception) and not isinstance(results[0], OSError):
            raise results[0]

    async def _stream(self, scope: Scope, send: Send) -> None:
        try:
            await self._send(
                send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async for data in self._frames:
                await self._send(send, {"type": "http.response.body", "body": data, "more_body": True})
            await self._send(send, {"type": "http.response.body", "body": b""})
        except TimeoutError:
            self._on_slow()
            abort = scope.get("state", {}).get("abort")
            if abort is not None:
                abort()

    async def _send(self, send: Send, message: dict[str, Any]) -> None:
        async with asyncio.timeout(self._send_timeout_s):
            await send(message)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def session_events(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Stream a session's events behind the client's position."""
    session_id = request.path_params["id"]
    await gateway.check_access(caller, session_id)
    after = position(request)
    async with AsyncExitStack() as stack:
        stack.enter_context(gateway.connections.hold(caller.name))
        feed = await stack.enter_async_context(gateway.feeds.open(session_id))
        if after and feed.has_ended(after):
            return Response(status_code=204, headers=HEADERS)
        if request.method == "HEAD":
            return Response(headers=HEADERS, media_type=EventStream.media_type)

        async def frames() -> AsyncIterator[bytes]:
            last_seq = after
            yield b"retry: %d\n\n" % RETRY_MS
            try:
                async for events in listen(feed, after, gateway.settings.heartbeat_s):
                    last_seq = events[-1].seq if events else last_seq
                    gateway.figures.output_events += len(events)
                    yield b"".join(map(frame, events)) or named_frame("heartbeat", {"last_seq": last_seq})
                yield named_frame("end", {"last_seq": last_seq})
            except Exception as failure:
                yield named_frame("failure", {"error": api_error(failure).error})

        return event_stream(gateway, frames(), stack.pop_all())
    raise AssertionError("the stack swallows no exception")


def event_stream(gateway: Gateway, frames: AsyncIterator[bytes], closing: AsyncExitStack) -> EventStream:
    """Return a response with these frames under the gateway's limits."""

    def on_slow() -> None:
        gateway.figures.slow_listeners += 1

    return EventStream(frames, send_timeout_s=gateway.settings.send_timeout_s, on_slow=on_slow, closing=closing)
