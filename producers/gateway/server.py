"""Run the gateway on uvicorn, with a time limit for the head of a request and a way to cut a slow client off."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from producers.errors import ProducerError
from producers.gateway.app import create_app
from producers.gateway.errors import ApiError
from producers.gateway.gateway import Gateway
from producers.gateway.settings import KEYS_VARIABLE, Settings
from protocol.hosts import authority, bare, is_loopback

SHUTDOWN_S: Final = 2
BACKLOG: Final = 2_048
_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class UnsafeHost(ProducerError):
    """The gateway would serve other machines without a key."""


class PortTaken(ProducerError):
    """The gateway's port is in use or not allowed."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose application may cut the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Offer `abort` to the application."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "abort": self.transport.abort}

    async def send(self, message: Any) -> None:
        """Send as uvicorn does; a refusal by HTTP completes the handshake, which uvicorn else reports as an error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True


class HttpProtocol(H11Protocol):
    """HTTP/1.1 whose request line and headers have a time limit, and whose refusals have the body of all errors."""

    head_timeout_s: float
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "abort": transport.abort}
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()  # the next head may have begun with the last bytes of this request

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP with the body of all errors; cut off whoever sends it into an answer."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        error = ApiError(400, "malformed_request", "expected a request of HTTP/1.1, got something else")
        headers = [("Content-Type", "application/json"), ("Connection", "close")]
        answer = (h11.Response(status_code=400, headers=headers), h11.Data(data=error.body), h11.EndOfMessage())
        for event in answer:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        if not self._awaits_head():
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_timeout_s, self._expire)

    def _awaits_head(self) -> bool:
        is_ours = self.transport.get_protocol() is self  # a WebSocket has a protocol of its own
        return is_ours and (self.cycle is None or self.cycle.response_complete)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if self._awaits_head():
            self.transport.abort()


def http_protocol(limit_s: float) -> type[HttpProtocol]:
    """Return a protocol that cuts a connection whose request line and headers take longer than this."""

    class LimitedProtocol(HttpProtocol):
        head_timeout_s = limit_s

    return LimitedProtocol


class _Server(uvicorn.Server):
    """A server that tells when it is ready, and leaves signals to the program."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready: Final = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets=sockets)
        if self.force_exit:  # uvicorn leaves the application out, which then ends with a traceback
            await self.lifespan.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def quietly(app: ASGIApp) -> ASGIApp:
    """Return the application, which cuts a client off where its task is cancelled.

    At its end, uvicorn cancels what is still open, such as event streams, and reports that with a traceback each.
    """

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            scope.get("state", {}).get("abort", lambda: None)()
            await asyncio.sleep(0)  # until uvicorn has heard of it

    return run


def open_port(settings: Settings, *, has_keys: bool) -> socket.socket:
    """Return a listening socket. Raises UnsafeHost for other hosts than loopback without keys, PortTaken."""
    host = bare(settings.host)
    if not has_keys and not is_loopback(host):
        raise UnsafeHost(
            f"expected keys for a gateway on {settings.host}, got none: give --keys FILE or set {KEYS_VARIABLE}, or "
            "listen on 127.0.0.1, the default"
        )
    try:
        return socket.create_server(
            (host, settings.port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=BACKLOG,
        )
    except OSError as error:
        raise PortTaken(
            f"the gateway cannot listen on {authority(host, settings.port)} ({error.strerror or error}); name an "
            "address of this machine, and a free port with --port (0: any)"
        ) from error


def url_of(listening: socket.socket) -> str:
    """Return the URL under which a socket is reached from this machine."""
    host, port = listening.getsockname()[:2]
    return f"http://{authority(host, port)}/"


def server(gateway: Gateway, on_ready: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """Return a server, not yet running. It logs no request, as addresses may hold keys."""
    settings = gateway.settings
    config = uvicorn.Config(
        quietly(create_app(gateway)),
        http=http_protocol(settings.head_timeout_s),
        ws=SocketProtocol,
        ws_max_size=settings.max_frame_bytes,
        ws_per_message_deflate=False,  # short messages gain nothing, and it takes memory for each connection
        log_level="warning",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return _Server(config, on_ready)


async def serve(gateway: Gateway, on_ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve until SIGTERM, SIGHUP or Ctrl-C; call `on_ready` with the URL. Raises UnsafeHost, PortTaken.

    A second SIGTERM or Ctrl-C ends the process without waiting for open connections. Whoever cancels it waits for its
    orderly end.
    """
    with open_port(gateway.settings, has_keys=not gateway.keys.is_open) as listening:
        url = url_of(listening)
        running = server(gateway, lambda: on_ready(url))

        def stop(number: signal.Signals) -> None:
            # A terminal that closes sends SIGHUP twice: it never ends the wait.
            running.force_exit |= running.should_exit and number is not signal.SIGHUP
            running.should_exit = True

        loop = asyncio.get_running_loop()
        # `nohup` has a program ignore SIGHUP.
        numbers = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in numbers:
            loop.add_signal_handler(number, stop, number)
        task = asyncio.create_task(running.serve(sockets=[listening]))
        try:
            await asyncio.shield(task)
        finally:
            running.should_exit = True
            await task  # uvicorn reports it as an error of the application where its own task is cancelled
            for number in numbers:
                loop.remove_signal_handler(number)
