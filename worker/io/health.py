"""The HTTP endpoints of a worker: its metrics, whether it is alive (else restart it), whether it is ready (else wait).

GET /metrics   Prometheus's text format
GET /livez     200, or 503 with the reasons, as JSON
GET /readyz    likewise
"""

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class PortTaken(Exception):
    """The metrics' port is in use or not allowed."""


class Condition(msgspec.Struct, frozen=True):
    """The faults of a worker; it has none if both are empty."""

    dead: tuple[str, ...] = ()
    """The faults that only a restart removes."""
    unready: tuple[str, ...] = ()
    """The reasons why it cannot serve at the moment."""


STARTING = Condition(unready=("the model is being loaded",))


class Probes:
    """The HTTP endpoints of one process. Other threads call `ask`, which returns the condition of its worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ask: Callable[[], Condition] = lambda: STARTING
        self._registry = registry

    def serve(self, host: str, port: int) -> int:
        """Serve from now on, and return the port; `port` 0 takes a free one. Raises PortTaken."""
        try:
            server = ThreadingHTTPServer((host, port), _handler(self))
        except OSError as error:
            raise PortTaken(
                f"metrics cannot listen on {host}:{port} ({error.strerror or error}); free the port, or choose another "
                "with --metrics-port (0: any free one)"
            ) from error
        server.daemon_threads = True
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


def _handler(probes: Probes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server looks for
            status, kind, body = probes.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: a line for each scrape would flood the log."""

    return Handler
