"""Worker processes, each behind its own proxy, that join, leave, are killed and paused."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.producers.proxy import Proxy

ROOT: Final = Path(__file__).parents[2]
_START_LIMIT_S: Final = 60.0
_LEAVE_LIMIT_S: Final = 20.0
_LARGEST_SKEW_S: Final = 1800.0


class Member:
    """One worker process."""

    def __init__(self, process: Process, proxy: Proxy, status: Path) -> None:
        self.process = process
        self.proxy = proxy
        self._status = status

    @property
    def sessions(self) -> set[str]:
        """The open sessions that the worker held a moment ago."""
        return set(self._status_of("sessions") or [])

    @property
    def counters(self) -> dict[str, float]:
        """The worker's counters a moment ago."""
        return self._status_of("counters") or {}

    @property
    def is_ready(self) -> bool:
        """Whether the worker serves."""
        return self._status.exists()

    def _status_of(self, name: str) -> Any:
        return json.loads(self._status.read_text())[name] if self._status.exists() else None

    def signal(self, number: signal.Signals) -> None:
        """Send the process this signal, if it still runs."""
        if self.process.returncode is None:
            os.kill(self.process.pid, number)


class Fleet:
    """All workers of one run on one Redis. `members` should be alive, `past` have ended."""

    def __init__(self, url: str, model: Path, directory: Path, *, lease_ms: int, options: Sequence[str] = ()) -> None:
        self.members: list[Member] = []
        self.past: list[Member] = []
        self.failures: list[str] = []
        self._url = url
        self._directory = directory
        self._arguments = ["--model", str(model), "--lease-ms", str(lease_ms), *options]
        self._number = 0

    async def join(self, dice: Random) -> Member:
        """Start one more worker, with a wrong clock, and return it once it serves."""
        self._number += 1
        name = f"worker-{self._number}"
        status = self._directory / f"{name}.json"
        proxy = Proxy(self._url)
        await proxy.up()
        skew_s = dice.uniform(-_LARGEST_SKEW_S, _LARGEST_SKEW_S)
        # A cluster's clients connect to the nodes that its first one names: a proxy cannot stand between.
        url = self._url if "+cluster" in self._url else proxy.url
        arguments = ["--redis", url, "--status", str(status), "--skew-s", str(skew_s), *self._arguments]
        with (self._directory / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.chaos.worker", *arguments), cwd=ROOT, stderr=log, env=_environment()
            )
        member = Member(process, proxy, status)
        self.members.append(member)
        async with asyncio.timeout(_START_LIMIT_S):
            while not member.is_ready and process.returncode is None:  # noqa: ASYNC110  # another process tells
                await asyncio.sleep(0.02)
        return member

    async def kill(self, member: Member) -> None:
        """Kill the worker with SIGKILL."""
        self._remove(member)
        member.signal(signal.SIGKILL)
        await member.process.wait()
        await member.proxy.down()

    async def leave(self, member: Member) -> None:
        """Stop the worker with SIGTERM; add to `failures` unless it ends in time with status 0."""
        self._remove(member)
        member.signal(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(member.process.wait(), _LEAVE_LIMIT_S)
        except TimeoutError:
            member.signal(signal.SIGKILL)
            status = await member.process.wait()
        if status:
            self.failures.append(f"a worker that was told to leave ended with status {status}")
        await member.proxy.down()

    async def stop(self) -> None:
        """Stop all workers; add one that had ended by itself to `failures`."""
        for member in list(self.members):
            if member.process.returncode is not None:
                self.failures.append(f"a worker ended by itself with status {member.process.returncode}")
            await self.leave(member)

    def count(self, name: str) -> int:
        """Return a counter, summed over all workers, past ones included."""
        return int(sum(member.counters.get(name) or 0 for member in (*self.members, *self.past)))

    def _remove(self, member: Member) -> None:
        self.members.remove(member)
        self.past.append(member)


def _environment() -> dict[str, str]:
    # One thread each: many workers share few cores.
    return os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
