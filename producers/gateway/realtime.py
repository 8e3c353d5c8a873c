"""`WS /v1/realtime`: one session, the wire's own events in both directions."""

import asyncio
from typing import Final

from producers.gateway.auth import Caller
from producers.gateway.errors import ApiError, api_error
from producers.gateway.feeds import Feed
from producers.gateway.gateway import Gateway, new_session_id
from producers.gateway.listening import listen, position
from producers.gateway.sockets import CloseCode, Closed, Socket, beside
from protocol import ErrorCode, IllegalEvent, ProtocolError, SessionCreate, decode_client


async def realtime(socket: Socket, gateway: Gateway, caller: Caller) -> None:
    """Serve a new session, or go on with `?session=ID&after=SEQ`."""
    caller.require("subscribe")
    after = position(socket.websocket)
    session_id = socket.websocket.query_params.get("session")
    is_new = session_id is None
    if session_id is None:
        caller.require("produce")
        await gateway.check_workers()
        await gateway.check_sessions(caller)
        session_id, after = new_session_id(), 0
    else:
        await gateway.check_access(caller, session_id)
    await socket.accept()
    await socket.send_json({"type": "gateway.attached", "session": session_id, "after": after})
    source = Source(socket, gateway, caller, session_id)
    if is_new:
        await source.create()
    async with gateway.feeds.open(session_id) as feed, beside(source.run):
        await _send_events(socket, gateway, feed, after)
    raise Closed(CloseCode.ENDED, "the session has ended")


async def _send_events(socket: Socket, gateway: Gateway, feed: Feed, after: int) -> None:
    async for events in listen(feed, after, gateway.settings.heartbeat_s):
        for event in events:
            await socket.send(event.data.decode())
            after = event.seq
        gateway.figures.output_events += len(events)
        if not events:
            await socket.send_json({"type": "gateway.heartbeat", "last_seq": after})


ACCEPTED_EVERY_EVENTS: Final = 64
"""How often a client that numbers its events learns which of them Redis has, so that it need not keep them."""


class Source:
    """The client's side of a session: its messages, checked and written to Redis as they are."""

    def __init__(self, socket: Socket, gateway: Gateway, caller: Caller, session_id: str) -> None:
        self._socket = socket
        self._gateway = gateway
        self._caller = caller
        self._session_id = session_id

    async def create(self) -> None:
        """Wait for `session.create` and write it. Raises Closed when it does not come in time."""
        limit_s = self._gateway.settings.create_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                while not await self._take(is_first=True):
                    pass
        except TimeoutError:
            raise Closed(CloseCode.IDLE, f"no session.create within {limit_s:g} s") from None

    async def run(self) -> None:
        """Write the client's events until it leaves."""
        while True:
            await self._take()

    async def _take(self, *, is_first: bool = False) -> bool:
        # Return whether the next message was written; answer one that is wrong.
        text = await self._socket.receive()
        await self._socket.pace()
        try:
            self._caller.require("produce")
            event = decode_client(text)
            if isinstance(event, SessionCreate) is not is_first:
                raise _out_of_order(is_first=is_first)
        except (ApiError, ProtocolError) as failure:
            await self._socket.send_json({"type": "error", "error": api_error(failure).error})
            return False
        if is_first:
            await self._gateway.open(self._caller, self._session_id, text.encode())
        else:
            await self._gateway.writer.send(self._session_id, [text.encode()])
            self._gateway.figures.input_events += 1
            if event.seq and event.seq % ACCEPTED_EVERY_EVENTS == 0:
                await self._socket.send_json({"type": "gateway.accepted", "input_seq": event.seq})
        return True


def _out_of_order(*, is_first: bool) -> IllegalEvent:
    code = ErrorCode.SESSION_NOT_CREATED if is_first else ErrorCode.SESSION_EXISTS
    wanted = "session.create first" if is_first else "one session.create, at the beginning"
    return IllegalEvent(f"expected {wanted}. {code.remedy}", code=code)
