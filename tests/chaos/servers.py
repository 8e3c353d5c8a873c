"""A real Redis with an append-only file that loses nothing it has answered, to be killed and started again."""

import subprocess
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.io.servers import HOST, free_port

_READY_LIMIT_S = 20.0


class LastingRedis:
    """A redis-server process that keeps its data in a directory, always at the same port."""

    def __init__(self, program: Path, directory: Path) -> None:
        """It answers."""
        self._program = program
        self._directory = directory
        self._port = free_port()
        self.url = f"redis://{HOST}:{self._port}/0"
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
        # `always`: what was answered is on disk, so that every difference afterwards is the worker's fault.
        options = {"bind": HOST, "port": self._port, "dir": self._directory, "save": "", "appendonly": "yes"}
        options |= {"appendfsync": "always", "loglevel": "warning", "maxmemory-policy": "noeviction"}
        command = [str(self._program), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
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
