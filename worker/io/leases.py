"""Leases and life signs in Redis: one script tells, prolongs, takes and gives back."""

from collections.abc import Collection
from typing import Any

import msgspec
from redis.asyncio import Redis

from protocol import lease_key
from protocol.keys import FREED_KEY, LIVE_KEY, SHARDS_KEY
from worker.core.leases import Lease, Peer
from worker.io.scripts import script

_PEER = msgspec.json.Decoder(Peer)


class WrongShards(Exception):
    """The deployment has another number of shards than this worker was set to, or something else in its place."""


class Seen(msgspec.Struct, frozen=True):
    """The workers that live, by name, and the lease of every shard."""

    peers: dict[str, Peer]
    leases: tuple[Lease, ...]


async def num_shards(redis: Redis) -> int:
    """How many shards this Redis has been fixed to; 0 before the first worker's start. Raises WrongShards."""
    answer: Any = await redis.get(SHARDS_KEY)
    found: str = (answer or b"0").decode(errors="replace")
    if not found.isdecimal():
        raise WrongShards(
            f"expected the number of shards in {SHARDS_KEY}, got {found[:40]!r}: another program has written that key; "
            "delete it, and restart the workers, which set it anew"
        )
    return int(found)


class Leases:
    """The leases of one worker. Each call is one round trip, and may be repeated when its reply was lost."""

    def __init__(self, redis: Redis, worker: str, num_shards: int, ttl_ms: int) -> None:
        self._redis = redis
        self._worker = worker
        self._num_shards = num_shards
        self._ttl_ms = ttl_ms

    async def agree(self) -> None:
        """The number of shards is this worker's, from the first worker's start on. Raises WrongShards."""
        await self._redis.set(SHARDS_KEY, self._num_shards, nx=True)
        found = await num_shards(self._redis)
        if found != self._num_shards:
            raise WrongShards(
                f"this Redis has {found} shards ({SHARDS_KEY}), this worker is set to {self._num_shards}; set "
                f"DECALAGE_NUM_SHARDS={found}, or stop all workers and producers, delete that key and start again"
            )

    async def exchange(self, about: Peer | None, *, hold: Collection[int] = (), give: Collection[int] = ()) -> Seen:
        """Prolongs or takes the leases to `hold` where they are free, gives back those to `give`; tells all of them.

        `about` is this worker's life sign for the time of a lease; None: it has left.
        """
        verbs = "".join("h" if i in hold else "g" if i in give else "-" for i in range(self._num_shards))
        keys = [LIVE_KEY, FREED_KEY, *map(lease_key, range(self._num_shards))]
        sign = b"" if about is None else msgspec.json.encode(about)
        found, leases = await self._redis.eval(
            script("leases"), len(keys), *keys, self._worker, sign, self._ttl_ms, verbs
        )
        return Seen(
            {name.decode(): _PEER.decode(sign) for name, sign in zip(found[::2], found[1::2], strict=True)},
            tuple(
                Lease(owner.decode(), int(epoch), int(left_ms))
                for owner, epoch, left_ms in zip(leases[::3], leases[1::3], leases[2::3], strict=True)
            ),
        )
