"""The HTTP endpoints of a worker: its metrics, whether it is alive (else restart it), whether it is ready (else wait).

GET /metrics   Prometheus's text format; HEAD is answered too
GET /livez     200, or 503 with the reasons, as JSON
GET /readyz    likewise
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from protocol.hosts import authority, bare

_IDLE_S = 30.0
"""How long a client may take to ask."""


class PortTaken(Exception):
    """The metrics' port is in use or not allowed, or their host is none of this machine's."""


class Condition(msgspec.Struct, frozen=True):
    """The faults of a worker; it has none if both are empty."""

    dead: tuple[str, ...] = ()
    """The faults that only a restart removes."""
    unready: tuple[str, ...] = ()
    """The reasons why it cannot serve at the moment."""


STARTING = Condition(unready=("Redis has not answered yet",))
LOADING = Condition(unready=("the model is being loaded",))


class Probes:
    """The HTTP endpoints of one process. Other threads call `ask`, which returns the condition of its worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ask: Callable[[], Condition] = lambda: STARTING
        self._registry = registry

    def serve(self, host: str, port: int) -> int:
        """Serve from now on, and return the port; `port` 0 takes a free one. Raises PortTaken.

        `host` is a name or an address, IPv6 with or without brackets; empty: every IPv4 address of this machine.
        """
        try:
            server = _listen(bare(host), port, _handler(self))
        except OSError as error:
            raise PortTaken(
                f"metrics cannot listen on {authority(host, port)} ({error.strerror or error}); name an address of "
                "this machine with --metrics-host, and a free port with --metrics-port (0: any)"
            ) from error
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        return int(server.server_port)

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Return status, content type and body for a path."""
        match path.partition("?")[0]:
            case "/metrics" | "/":
                return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)
            case "/livez":
                return _verdict(self.ask().dead)
            case "/readyz":
                condition = self.ask()
                return _verdict(condition.dead + condition.unready)
        return HTTPStatus.NOT_FOUND, "text/plain", b"expected /metrics, /livez or /readyz\n"


def _verdict(reasons: tuple[str, ...]) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return status, "application/json", msgspec.json.encode({"ok": not reasons, "reasons": reasons}) + b"\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, place: tuple[Any, ...], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family, *_, address = place
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # on `::`, hear IPv4 too
        # Not HTTPServer's, which asks DNS for the name of the host: without DNS, that takes long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about a client that has hung up."""


def _listen(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
    places = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places.sort(key=lambda place: place[0] != socket.AF_INET)  # of a name that has both, what most clients ask
    for place in places[:-1]:
        with contextlib.suppress(OSError):
            return _Server(place, handler)
    return _Server(places[-1], handler)


def _handler(probes: Probes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _IDLE_S

        def do_GET(self) -> None:  # the name that http.server looks for
            self.wfile.write(self._head())

        def do_HEAD(self) -> None:
            self._head()

        def _head(self) -> bytes:
            status, kind, body = probes.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return body

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: a line for each scrape would flood the log."""

    return Handler
