"""Real Redis servers with append-only files that lose nothing they have answered, to be killed and started again."""

import itertools
import subprocess
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.clusters import form
from worker.io.servers import HOST, free_port

_READY_LIMIT_S = 20.0


class LastingRedis:
    """A redis-server process that keeps its data in a directory, always at the same port."""

    def __init__(self, program: Path, directory: Path, **options: object) -> None:
        """It answers."""
        directory.mkdir(exist_ok=True)
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self._program = program
        # `always`: what was answered is on disk, so that every difference afterwards is the worker's fault.
        self._options = {"bind": HOST, "port": self.port, "dir": directory, "save": "", "appendonly": "yes"}
        self._options |= {"appendfsync": "always", "loglevel": "warning", "maxmemory-policy": "noeviction", **options}
        self._process = self._start()

    def restart(self) -> None:
        """It was killed at once, and answers again, with all that it had answered before."""
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def stop(self) -> None:
        """It has ended."""
        self._process.kill()
        self._process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        options = (part for name, value in self._options.items() for part in (f"--{name}", str(value)))
        command = [str(self._program), *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + _READY_LIMIT_S
        with redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0)) as client:
            while True:
                try:
                    client.ping()
                    return process
                except redis.RedisError as error:  # not there yet, or still reading its file
                    if time.monotonic() > deadline_s or process.poll() is not None:
                        process.kill()
                        raise RuntimeError(f"{self._program} does not answer at {self.url}") from error
                time.sleep(0.01)


class LastingCluster:
    """A cluster of three of them."""

    def __init__(self, program: Path, directory: Path) -> None:
        """It answers."""
        self._nodes: list[LastingRedis] = []
        buses = [free_port() for _ in range(3)]
        try:
            for i, bus in enumerate(buses):
                options = {"cluster-enabled": "yes", "cluster-port": bus}
                self._nodes.append(LastingRedis(program, directory / f"node-{i}", **options))
            form([(node.port, bus) for node, bus in zip(self._nodes, buses, strict=True)])
        except BaseException:
            self.stop()
            raise
        self.url = self._nodes[0].url.replace("://", "+cluster://")
        self._turns = itertools.cycle(self._nodes)

    def restart(self) -> None:
        """One of the nodes, the next one each time, was killed at once and answers again, with all it had."""
        next(self._turns).restart()

    def stop(self) -> None:
        """All have ended."""
        for node in self._nodes:
            node.stop()
