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
from typing import Final, Self
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from producers.connection import backoff_s
from producers.cursor import Cursor
from producers.errors import GatewayRefused, GatewayUnreachable
from producers.outbox import Outbox
from producers.session_methods import SessionMethods
from protocol import (
    ClientEvent,
    ServerEvent,
    Session,
    SessionCreate,
    SessionPhase,
)
from protocol.keys import EVENT_FIELD
from protocol.limits import MAX_TARGET_EVENT_BYTES

KEPT_EVENTS: Final = 1_000
"""Events sent again after a lost connection; the worker ignores those that it has."""

GAP: Final = 4010
"""The gateway's close code where events have been trimmed."""

_AGAIN: Final = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may succeed."""


class AsyncClient(SessionMethods):
    """One session through a gateway. Iterate over it for the session's events, each once and in order.

    When the connection is lost, it connects again, reads on behind the last event, and sends again what may not have
    arrived; it gives up after `patience_s` and raises GatewayUnreachable.
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
        self._kept: Final[deque[bytes]] = deque(maxlen=KEPT_EVENTS)
        self._socket: ClientConnection | None = None
        self._connecting: Final = asyncio.Lock()

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
        return self._cursor.last_seq

    async def create(self) -> None:
        """Open the session."""
        await self.send(SessionCreate(session=self.session))

    async def send(self, *events: ClientEvent) -> None:
        """Send several events. Raises IllegalEvent, another ProtocolError, GatewayRefused, GatewayUnreachable."""
        for event in events:
            await self._send(event)

    async def _send(self, event: ClientEvent) -> None:
        self._outbox.put(event)
        data = self._outbox.unsent[-1]
        self._outbox.sent(1)
        self._kept.append(data)
        before = self._socket
        socket = await self._connection()
        if socket is not before:  # a new connection has sent all that is kept
            return
        try:
            await socket.send(data.decode())
        except ConnectionClosed:
            await self._connection(lost=socket)

    async def disconnect(self) -> None:
        """Close the connection; leave the session as it is."""
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerEvent:
        while not self._cursor.has_ended:
            socket = await self._connection()
            try:
                message = json.loads(data := await socket.recv())
            except ConnectionClosed as closed:
                if closed.rcvd is not None and closed.rcvd.code == GAP:
                    raise GatewayRefused("target_gap", closed.rcvd.reason) from None
                if closed.rcvd is not None and closed.rcvd.code == 1000:
                    break
                await self._connection(lost=socket)
                continue
            if "seq" in message:
                return self._cursor.accept("", {EVENT_FIELD: data})
            if message["type"] == "error":
                raise GatewayRefused(message["error"]["code"], message["error"]["message"])
        await self.disconnect()
        raise StopAsyncIteration

    async def _connection(self, *, lost: ClientConnection | None = None) -> ClientConnection:
        """Return the connection; a new one if there is none, or if it is the one that is lost."""
        async with self._connecting:
            if self._socket is None or self._socket is lost:
                self._socket = await self._connect_patiently()
            return self._socket

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
            if refused.response.status_code != 404 or self.last_seq or not self._kept:
                raise
            return await self._attach("")

    async def _attach(self, session_id: str) -> ClientConnection:
        query = urlencode({"session": session_id, "after": self.last_seq}) if session_id else ""
        socket = await connect(
            f"{self._url}?{query}", additional_headers=self._headers, max_size=MAX_TARGET_EVENT_BYTES, compression=None
        )
        try:
            self.session_id = str(json.loads(await socket.recv())["session"])
            is_new = not session_id
            for data in tuple(self._kept):
                if is_new or b'"type":"session.create"' not in data[:30]:
                    await socket.send(data.decode())
        except BaseException:
            await socket.close()
            raise
        return socket


def _refusal(refused: InvalidStatus) -> GatewayRefused:
    try:
        error = json.loads(refused.response.body or b"")["error"]
        return GatewayRefused(str(error["code"]), str(error["message"]))
    except (ValueError, KeyError, TypeError):
        return GatewayRefused("refused", f"HTTP {refused.response.status_code}")
