"""Real Redis servers with append-only files that survive a kill without loss of a confirmed write."""

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
        """Start the server and wait until it answers."""
        directory.mkdir(exist_ok=True)
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self._program = program
        # `always`: confirmed writes are on disk, so that every later difference is the worker's fault.
        self._options = {"bind": HOST, "port": self.port, "dir": directory, "save": "", "appendonly": "yes"}
        self._options |= {"appendfsync": "always", "loglevel": "warning", "maxmemory-policy": "noeviction", **options}
        self._process = self._start()

    def restart(self) -> None:
        """Kill the server and start it again, with all confirmed writes."""
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def stop(self) -> None:
        """End the server."""
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
    """A cluster of three such servers."""

    def __init__(self, program: Path, directory: Path) -> None:
        """Start the servers and form the cluster."""
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
        """Kill one node, the next one each time, and start it again with all its data."""
        next(self._turns).restart()

    def stop(self) -> None:
        """End all servers."""
        for node in self._nodes:
            node.stop()
