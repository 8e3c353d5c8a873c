"""What both WebSocket routes share: admission before the handshake, close codes, sending with a time limit."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from producers.errors import BrokerRefused, BrokerUnreachable, TargetGap
from producers.gateway.auth import Caller, chosen_subprotocol
from producers.gateway.endpoint import admit, error_response, gateway_of, no_route
from producers.gateway.errors import ApiError
from producers.gateway.gateway import Gateway
from producers.gateway.limits import TokenBucket

SocketHandler = Callable[["Socket", Gateway, Caller], Awaitable[None]]


class CloseCode(IntEnum):
    """Why the gateway closes a WebSocket."""

    ENDED = 1000
    BINARY = 1003
    BUG = 1011
    AWAY = 1013
    IDLE = 4000
    SLOW = 4008
    GAP = 4010


class Closed(Exception):
    """The WebSocket is to be closed with this code."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code: Final = code


class Socket:
    """A WebSocket with time limits; accepted by its first use of `accept`."""

    def __init__(self, websocket: WebSocket, gateway: Gateway) -> None:
        self.websocket: Final = websocket
        self._gateway: Final = gateway
        settings = gateway.settings
        self._messages: Final = TokenBucket(settings.max_messages_per_s, settings.burst_messages, time.monotonic())

    async def accept(self) -> None:
        """Answer the handshake with the subprotocol that carries no key."""
        await self.websocket.accept(subprotocol=chosen_subprotocol(self.websocket.scope["subprotocols"]))

    async def receive(self) -> str:
        """Return the next message. Raises Closed for a binary frame, WebSocketDisconnect."""
        message = await self.websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text: str | None = message.get("text")
        if text is None:
            raise Closed(CloseCode.BINARY, "expected JSON in text frames")
        return text

    async def pace(self) -> None:
        """Wait while the client sends too fast: it is read no faster than allowed, and loses nothing."""
        while wait_s := self._messages.take(time.monotonic()):  # noqa: ASYNC110  # time itself is waited for
            await asyncio.sleep(wait_s)

    async def send(self, text: str) -> None:
        """Send one message. Raises Closed when the client takes nothing in time, WebSocketDisconnect."""
        try:
            async with asyncio.timeout(self._gateway.settings.send_timeout_s):
                await self.websocket.send({"type": "websocket.send", "text": text})
        except TimeoutError:
            self._gateway.figures.slow_listeners += 1
            raise Closed(CloseCode.SLOW, "the listener reads too slowly") from None
        except (OSError, RuntimeError):  # the client has gone
            raise WebSocketDisconnect(1006) from None

    async def send_json(self, content: Any) -> None:
        """Send one message as JSON. Raises as `send`."""
        await self.send(msgspec.json.encode(content).decode())

    async def close(self, closed: Closed) -> None:
        """Close with a code; cut the connection of a client that does not take even that."""
        try:
            async with asyncio.timeout(1.0):
                await self.websocket.close(closed.code, str(closed))
        except TimeoutError:
            abort = self.websocket.scope.get("state", {}).get("abort")
            if abort is not None:
                abort()
        except (OSError, RuntimeError, WebSocketDisconnect):  # the client has gone
            pass


def socket_endpoint(handler: SocketHandler) -> Callable[[WebSocket], Awaitable[None]]:
    """Return the handler as a route. Errors before `accept` are HTTP answers, later ones close codes."""

    async def serve(websocket: WebSocket) -> None:
        gateway = gateway_of(websocket)
        socket = Socket(websocket, gateway)
        try:
            caller = admit(websocket, gateway, websocket.scope["subprotocols"])
            with gateway.connections.hold(caller.name):
                await handler(socket, gateway, caller)
        except WebSocketDisconnect:
            return
        except Closed as closed:
            await socket.close(closed)
        except Exception as failure:
            if websocket.application_state.name == "CONNECTING":
                await websocket.send_denial_response(error_response(failure))
                return
            await socket.close(_closed(failure))

    return serve


async def no_socket(socket: Socket, gateway: Gateway, caller: Caller) -> None:
    """Refuse a path that takes no WebSocket. Raises ApiError."""
    raise no_route()


def _closed(failure: Exception) -> Closed:
    match failure:
        case BrokerUnreachable() | BrokerRefused():
            return Closed(CloseCode.AWAY, "Redis does not answer")
        case TargetGap():
            return Closed(CloseCode.GAP, f"event {failure.expected} is gone; {failure.got} is there")
        case ApiError(status=503):
            return Closed(CloseCode.AWAY, failure.code)
    error_response(failure)  # logs where it happened
    return Closed(CloseCode.BUG, "this is a bug in the gateway")


@asynccontextmanager
async def beside(call: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run the block and the call beside it; the first that fails ends both, with its own exception."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(call())
            yield
            task.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
