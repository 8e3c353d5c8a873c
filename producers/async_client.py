"""Sessions through the gateway: `Publisher` and `Subscriber` over one WebSocket. Needs the extra `client`.

async with AsyncClient("http://127.0.0.1:8080", Session(target_language="fr")) as client:
    await client.create()
    await client.append("Good morning")
    await client.close()
    async for event in client:
        print(event)
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Self
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from producers.connection import backoff_s
from producers.cursor import Cursor
from producers.errors import GatewayRefused, GatewayUnreachable
from producers.outbox import Outbox
from producers.session_methods import SessionMethods
from protocol import ClientEvent, ServerEvent, Session, SessionCreate, SessionPhase
from protocol.keys import EVENT_FIELD
from protocol.limits import MAX_TARGET_EVENT_BYTES

ENDED: Final = 1000
"""The gateway's close code where the session has ended."""

GAP: Final = 4010
"""The gateway's close code where events have been trimmed."""

_AGAIN: Final = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may succeed."""


class AsyncClient(SessionMethods):
    """One session through a gateway. Iterate over it for the session's events, each once and in order.

    When the connection is lost, it connects again, reads on behind the last event, and sends again what the gateway has
    not accepted; the worker ignores what it has. Up to 1,000 events are kept for that. Behind them, a call waits until
    the gateway has accepted some; what it hears meanwhile is kept for the iterator. After `patience_s` without a
    connection, or with 1,000 events of which none is accepted, a call raises GatewayUnreachable.
    """

    def __init__(
        self,
        url: str,
        session: Session | None = None,
        *,
        key: str | None = None,
        patience_s: float = 30.0,
    ) -> None:
        """Do not connect yet. `url` is the gateway's, `key` an API key or the token of a link."""
        self.session: Final = Session() if session is None else session
        self.session_id = ""
        """The session's id, once it is known."""
        self._url: Final = url.rstrip("/").replace("http", "ws", 1) + "/v1/realtime"
        self._headers: Final = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._patience_s: Final = patience_s
        self._outbox = Outbox()
        self._cursor = Cursor("")
        self._sent_seq = 0  # the newest event that this connection has had
        self._heard: Final[deque[ServerEvent]] = deque()
        self._has_ended = False
        self._socket: ClientConnection | None = None
        self._writing: Final = asyncio.Lock()
        self._reading: Final = asyncio.Lock()

    @classmethod
    def listen(
        cls, url: str, session_id: str, *, after: int = 0, key: str | None = None, patience_s: float = 30.0
    ) -> Self:
        """Return a client that only reads a session, behind the event `after`."""
        client = cls(url, key=key, patience_s=patience_s)
        client.session_id = session_id
        client._outbox = Outbox(phase=SessionPhase.CLOSED)  # it may send nothing
        client._cursor = Cursor(session_id, after=after, phase=SessionPhase.OPEN if after else SessionPhase.ABSENT)
        return client

    @property
    def last_seq(self) -> int:
        """The number of the last event delivered."""
        return self._cursor.last_seq - len(self._heard)

    async def create(self) -> None:
        """Open the session."""
        await self.send(SessionCreate(session=self.session))

    async def send(self, *events: ClientEvent) -> None:
        """Send several events. Raises IllegalEvent, another ProtocolError, GatewayRefused, GatewayUnreachable."""
        for event in events:
            await self._send(event)

    async def _send(self, event: ClientEvent) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._read_until(lambda: self._has_ended or not self._outbox.is_full)
        except TimeoutError:
            raise GatewayUnreachable(
                f"expected the gateway at {self._url} to accept one of {len(self._outbox.unsent)} events within "
                f"{self._patience_s:g} s, got no answer; nothing is lost: send this event again later"
            ) from None
        if self._has_ended and self._outbox.phase is SessionPhase.OPEN:
            raise GatewayRefused("session_closed", "expected an open session, got one that has ended: open a new one")
        self._outbox.put(event)
        await self._connection()

    async def disconnect(self) -> None:
        """Close the connection; leave the session as it is."""
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerEvent:
        await self._read_until(lambda: bool(self._heard) or self._has_ended)
        if self._heard:
            return self._heard.popleft()
        await self.disconnect()
        raise StopAsyncIteration

    async def _read_until(self, is_enough: Callable[[], bool]) -> None:
        # The iterator and a call that waits may both want to read: one of them does, and each looks what it brought.
        while not is_enough():
            async with self._reading:
                if not is_enough():
                    await self._read()

    async def _read(self) -> None:
        """Take one message. Raises GatewayRefused, GatewayUnreachable, TargetGap, ProtocolError."""
        socket = self._socket or await self._connection()
        try:
            message = json.loads(data := await socket.recv())
        except ConnectionClosed as closed:
            code = _close_code(closed)
            if code == GAP:
                raise GatewayRefused("target_gap", str(closed)) from None
            self._has_ended = code == ENDED
            if not self._has_ended:
                await self._connection(lost=socket)
            return
        if "seq" in message:
            self._heard.append(self._cursor.accept("", {EVENT_FIELD: data}))
            self._has_ended = self._cursor.has_ended
        elif message["type"] == "gateway.accepted":
            self._outbox.arrived(message["input_seq"])
        elif message["type"] == "error":
            raise GatewayRefused(message["error"]["code"], message["error"]["message"])

    async def _connection(self, *, lost: ClientConnection | None = None) -> ClientConnection:
        """Return a connection that has had all events; a new one if there is none, or if it is the one that is lost."""
        async with self._writing:
            if self._socket is None or self._socket is lost:
                self._socket = await self._connect_patiently()
            try:
                await self._send_waiting(self._socket)
            except ConnectionClosed:
                self._socket = await self._connect_patiently()
            return self._socket

    async def _send_waiting(self, socket: ClientConnection) -> None:
        # Raises ConnectionClosed, except for good: that is for the reader to tell.
        try:
            while (num_waiting := self._outbox.next_seq - 1 - self._sent_seq) > 0:
                await socket.send(self._outbox.unsent[-num_waiting].decode())
                self._sent_seq += 1
        except ConnectionClosed as closed:
            if _close_code(closed) not in (ENDED, GAP):
                raise

    async def _connect_patiently(self) -> ClientConnection:
        end_s, num_failures = time.monotonic() + self._patience_s, 0
        while True:
            try:
                return await self._connect()
            except InvalidStatus as refused:
                status = refused.response.status_code
                if status not in _AGAIN:
                    raise _refusal(refused) from None
                reason = f"HTTP {status}"
            except (OSError, WebSocketException) as failure:
                reason = str(failure) or type(failure).__name__
            num_failures += 1
            pause_s = backoff_s(num_failures)
            if time.monotonic() + pause_s > end_s:
                raise GatewayUnreachable(f"expected the gateway at {self._url}, got {reason}; is it running?")
            await asyncio.sleep(pause_s)

    async def _connect(self) -> ClientConnection:
        # A session of which nothing has come back yet may not have been opened: then it is opened anew.
        try:
            return await self._attach(self.session_id)
        except InvalidStatus as refused:
            is_unheard = not (self._cursor.last_seq or self._num_arrived) and self._outbox.unsent
            if refused.response.status_code != 404 or not is_unheard:
                raise
            return await self._attach("")

    @property
    def _num_arrived(self) -> int:
        return self._outbox.next_seq - 1 - len(self._outbox.unsent)

    async def _attach(self, session_id: str) -> ClientConnection:
        query = urlencode({"session": session_id, "after": self._cursor.last_seq}) if session_id else ""
        socket = await connect(
            f"{self._url}?{query}", additional_headers=self._headers, max_size=MAX_TARGET_EVENT_BYTES, compression=None
        )
        try:
            self.session_id = str(json.loads(await socket.recv())["session"])
            # The first event opens the session: one that is there has had it.
            self._sent_seq = max(1, self._num_arrived) if session_id else 0
            await self._send_waiting(socket)
        except BaseException:
            await socket.close()
            raise
        return socket


def _close_code(closed: ConnectionClosed) -> int | None:
    return None if closed.rcvd is None else closed.rcvd.code


def _refusal(refused: InvalidStatus) -> GatewayRefused:
    try:
        error = json.loads(refused.response.body or b"")["error"]
        return GatewayRefused(str(error["code"]), str(error["message"]))
    except (ValueError, KeyError, TypeError):
        return GatewayRefused("refused", f"HTTP {refused.response.status_code}")
