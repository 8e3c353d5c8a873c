"""The open sessions of each shard, so that a takeover need not scan all keys.

A session is added before its state exists and removed once it is closed: after a crash it is found here or by its
unacknowledged bell. Entries last a day and are renewed hourly.
"""

import time
from collections.abc import Collection, Container, Iterable
from itertools import groupby
from typing import Final

from protocol import shard_of, source_key, state_key, target_key
from protocol.keys import ABANDONED_TTL_S, index_key
from worker.io.client import Client
from worker.io.replies import Command

RENEWAL_S: Final = 3_600.0


class SessionIndex:
    """The open sessions of all shards, in Redis."""

    def __init__(self, redis: Client, num_shards: int) -> None:
        self._redis = redis
        self._num_shards = num_shards
        self._renewed_s = time.monotonic()

    async def add(self, names: Iterable[str]) -> None:
        """Add the sessions, or renew their entries; drop entries of sessions that nobody has renewed for a day."""
        now_s = int(time.time())
        commands: list[Command] = []
        for shard, members in self._by_shard(names):
            key = index_key(shard)
            scores = [part for name in members for part in (now_s + ABANDONED_TTL_S, name)]
            commands += [
                ("ZADD", key, *scores),
                ("ZREMRANGEBYSCORE", key, "-inf", now_s),
                ("EXPIRE", key, ABANDONED_TTL_S),
            ]
        await self._all(commands)

    async def remove(self, names: Iterable[str]) -> None:
        """Drop the entries of sessions that are closed."""
        await self._all([("ZREM", index_key(shard), *members) for shard, members in self._by_shard(names)])

    async def renew(self, names: Iterable[str]) -> None:
        """Renew the entries if the last renewal was an hour ago."""
        if time.monotonic() - self._renewed_s >= RENEWAL_S:
            await self.add(names)
            self._renewed_s = time.monotonic()

    async def sessions(self, shards: Collection[int], *, besides: Container[str] = ()) -> list[str]:
        """Return the sessions of these shards but those in `besides`; drop entries of sessions whose keys are gone."""
        found = await self._all([("ZRANGE", index_key(shard), 0, -1) for shard in sorted(shards)])
        names = [member.decode(errors="replace") for members in found for member in members]
        names = [name for name in names if name not in besides]
        # Redis may deny this command for a session; its claim reports that.
        exist = await self._redis.call(
            [("EXISTS", state_key(name), source_key(name), target_key(name)) for name in names]
        )
        gone = {name for name, number in zip(names, exist, strict=True) if number == 0}
        await self.remove(gone)
        return [name for name in names if name not in gone]

    def _by_shard(self, names: Iterable[str]) -> list[tuple[int, list[str]]]:
        pairs = sorted({(shard_of(name, self._num_shards), name) for name in names})
        return [(shard, [name for _, name in group]) for shard, group in groupby(pairs, key=lambda pair: pair[0])]

    async def _all(self, commands: Collection[Command]) -> list[list[bytes]]:
        answers = await self._redis.call([*commands])
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers
