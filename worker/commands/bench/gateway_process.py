"""The gateway process under test in `bench gateway`."""

import re
import subprocess
import sys
from subprocess import PIPE, Popen
from types import TracebackType
from typing import Self

from worker.commands.faults import CommandError


class GatewayProcess:
    """A gateway at `url`; a context manager, which ends it. Raises CommandError if it does not start."""

    def __init__(self, redis: str) -> None:
        command = [sys.executable, "-m", "worker", "gateway", "--port", "0", "--redis", redis]
        self._process = Popen(command, stderr=PIPE, text=True)
        line = self._process.stderr.readline() if self._process.stderr else ""
        found = re.search(r"http://\S+/", line)
        if found is None:
            self._process.kill()
            self._process.communicate()
            raise CommandError(f"the benchmark's gateway did not start: {line}", code="internal_error")
        self.url = found[0]

    def memory_kib(self) -> int:
        """Return its resident memory."""
        return int(self._told("rss"))

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used, to a hundredth or, on macOS, as `ps` tells them."""
        days, _, rest = self._told("time").rpartition("-")
        seconds = 0.0
        for part in rest.split(":"):
            seconds = 60 * seconds + float(part)
        return 86_400 * int(days or 0) + seconds

    def _told(self, field: str) -> str:
        command = ["ps", "-o", f"{field}=", "-p", str(self._process.pid)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()
