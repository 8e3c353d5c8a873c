"""Blocking reads of many target streams at once: an XREAD for each group of sessions.

A session that joins a group while its XREAD blocks would wait for the next one. So each group also reads a stream of
its own, into which the gateway writes when a session joins. In a cluster, where one read takes the keys of one node
only, a group is one session.
"""

import asyncio
import logging
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, Final, Protocol

from redis.exceptions import RedisClusterException, RedisError

from producers.connection import BLOCK_MS, Link, backoff_s, interruptibly
from producers.tail import Entry
from protocol import target_key
from protocol.keys import wake_key

GROUP_SESSIONS: Final = 64
"""Sessions in one read: Redis walks through all of a read's keys for each answer."""

PAGE_EVENTS: Final = 256
WAKE_TTL_S: Final = 60

_LOG: Final = logging.getLogger(__name__)


class Followed(Protocol):
    """A session whose target stream is read."""

    @property
    def session_id(self) -> str:
        """Its id."""

    @property
    def last_seq(self) -> int:
        """The number behind which to read on."""

    def extend(self, entries: list[Entry]) -> None:
        """Take the next entries."""


class Readers:
    """All groups. `link` is for blocking reads, `writer` for short commands."""

    def __init__(self, link: Link, writer: Link) -> None:
        self._link: Final = link
        self._writer: Final = writer
        self._groups: Final[list[_Group]] = []
        self._wakes: Final[set[asyncio.Task[None]]] = set()

    def add(self, followed: Followed) -> None:
        """Read this session from now on."""
        size = 1 if self._link.is_cluster else GROUP_SESSIONS
        group = next((group for group in self._groups if len(group.followed) < size), None)
        if group is None:
            group = _Group(self._link, None if self._link.is_cluster else wake_key(token_hex(8)))
            group.followed[followed.session_id] = followed
            group.task = asyncio.create_task(group.run())
            self._groups.append(group)
            return
        group.followed[followed.session_id] = followed
        if group.wake is not None:
            self._keep(asyncio.create_task(self._interrupt(group.wake)))

    def remove(self, followed: Followed) -> None:
        """Stop reading this session."""
        for group in self._groups:
            if group.followed.get(followed.session_id) is followed:
                del group.followed[followed.session_id]
                if not group.followed and group.task is not None:
                    group.task.cancel()
                    self._keep(group.task)
                    self._groups.remove(group)
                return

    async def close(self) -> None:
        """End all reads."""
        tasks = [group.task for group in self._groups if group.task is not None]
        for task in (*tasks, *self._wakes):
            task.cancel()
        await asyncio.gather(*tasks, *self._wakes, return_exceptions=True)

    def _keep(self, task: asyncio.Task[None]) -> None:
        # The event loop holds tasks weakly.
        self._wakes.add(task)
        task.add_done_callback(self._wakes.discard)

    async def _interrupt(self, wake: str) -> None:
        try:
            pipeline = self._writer.client.pipeline(transaction=False)
            pipeline.xadd(wake, {"wake": b""}, maxlen=1, approximate=False)
            pipeline.expire(wake, WAKE_TTL_S)
            await interruptibly(pipeline.execute())
        except (RedisError, RedisClusterException, OSError) as failure:
            # The read ends by itself after BLOCK_MS, or has broken too.
            _LOG.warning("a blocking read could not be interrupted: %s", type(failure).__name__)


class _Group:
    """Sessions that are read together."""

    def __init__(self, link: Link, wake: str | None) -> None:
        self.followed: Final[dict[str, Followed]] = {}
        self.wake: Final = wake
        self.task: asyncio.Task[None] | None = None
        self._link: Final = link
        self._last_wake: str | bytes = "0-0"

    async def run(self) -> None:
        num_failures = 0
        while True:
            try:
                self._deliver(await interruptibly(self._read()))
                num_failures = 0
            except (RedisError, RedisClusterException, OSError) as failure:
                num_failures += 1
                if num_failures == 1:
                    _LOG.warning("Redis at %s is gone (%s), will read on", self._link.address, type(failure).__name__)
                await self._link.drop_connections()
                await asyncio.sleep(backoff_s(num_failures))

    async def _read(self) -> Sequence[Any]:
        streams: dict[Any, Any] = {target_key(name): f"{each.last_seq}-0" for name, each in self.followed.items()}
        if self.wake is not None:
            streams[self.wake] = self._last_wake
        reply: Any = await self._link.client.xread(streams, count=PAGE_EVENTS, block=BLOCK_MS)
        return reply or ()

    def _deliver(self, reply: Sequence[Any]) -> None:
        by_key = {target_key(name).encode(): each for name, each in self.followed.items()}
        for key, entries in reply:
            if key in by_key:
                by_key[key].extend(entries)
            elif self.wake is not None and key == self.wake.encode():
                self._last_wake = entries[-1][0]
