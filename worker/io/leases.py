"""Leases and life signs in Redis: one script lists, renews, takes and gives back leases."""

from collections.abc import Collection
from typing import Any

import msgspec

from protocol import lease_key
from protocol.keys import FREED_KEY, LIVE_KEY, SHARDS_KEY
from worker.core.leases import Lease, Peer
from worker.io.client import Client
from worker.io.scripts import script

_PEER = msgspec.json.Decoder(Peer)


class WrongShards(Exception):
    """The deployment's number of shards differs from this worker's setting, or is not a number."""


class Seen(msgspec.Struct, frozen=True):
    """The living workers by name, and the lease of every shard."""

    peers: dict[str, Peer]
    leases: tuple[Lease, ...]


async def num_shards(redis: Client) -> int:
    """Return the number of shards of this Redis; 0 before the first worker's start. Raises WrongShards."""
    answer: Any = await redis.ask("GET", SHARDS_KEY)
    text: str = (answer or b"0").decode(errors="replace")
    if not text.isdecimal():
        raise WrongShards(
            f"expected the number of shards in {SHARDS_KEY}, got {text[:40]!r}: another program has written that key; "
            "delete it, and restart the workers, which set it anew"
        )
    return int(text)


class Leases:
    """The leases of one worker. Each call is one round trip, and may be repeated when its reply was lost."""

    def __init__(self, redis: Client, worker: str, num_shards: int, ttl_ms: int) -> None:
        self._redis = redis
        self._worker = worker
        self._num_shards = num_shards
        self._ttl_ms = ttl_ms

    async def agree(self) -> None:
        """Set the number of shards at the first worker's start. Raises WrongShards if Redis has another number."""
        await self._redis.ask("SET", SHARDS_KEY, self._num_shards, "NX")
        number = await num_shards(self._redis)
        if number != self._num_shards:
            raise WrongShards(
                f"this Redis has {number} shards ({SHARDS_KEY}), this worker is set to {self._num_shards}; set "
                f"DECALAGE_NUM_SHARDS={number}, or stop all workers and producers, delete that key and start again"
            )

    async def exchange(self, about: Peer | None, *, hold: Collection[int] = (), give: Collection[int] = ()) -> Seen:
        """Renew or take the free ones of `hold`, give back `give`, and return all leases.

        `about` is this worker's life sign for the time of a lease; None removes it.
        """
        verbs = "".join("h" if i in hold else "g" if i in give else "-" for i in range(self._num_shards))
        keys = [LIVE_KEY, FREED_KEY, *map(lease_key, range(self._num_shards))]
        sign = b"" if about is None else msgspec.json.encode(about)
        [answer] = await self._redis.run(script("leases"), [(keys, [self._worker, sign, self._ttl_ms, verbs])])
        if isinstance(answer, Exception):
            raise answer
        peers, leases = answer
        return Seen(
            {name.decode(): _PEER.decode(sign) for name, sign in zip(peers[::2], peers[1::2], strict=True)},
            tuple(
                Lease(owner.decode(), int(epoch), int(left_ms))
                for owner, epoch, left_ms in zip(leases[::3], leases[1::3], leases[2::3], strict=True)
            ),
        )
