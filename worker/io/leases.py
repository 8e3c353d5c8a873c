"""Which shards are this worker's: a key with a time to live for each, taken when free and prolonged while held."""

from collections.abc import Sequence

from redis.asyncio import Redis

from protocol import lease_key
from worker.io.store import script


class Leases:
    """The leases of one worker. `held` is what the last `renew` found; it holds for at most `ttl_ms` after it."""

    def __init__(self, redis: Redis, worker: str, num_shards: int, ttl_ms: int) -> None:
        self._redis = redis
        self._worker = worker
        self._shards = range(num_shards)
        self._ttl_ms = ttl_ms
        self.held: frozenset[int] = frozenset()

    async def renew(self) -> frozenset[int]:
        """The shards that are this worker's: held leases prolonged, free ones taken. Call it every quarter of
        the TTL.
        """
        kept = await self._each(sorted(self.held), self._ttl_ms)
        wanted = [shard for shard in self._shards if shard not in kept]
        pipe = self._redis.pipeline(transaction=False)
        for shard in wanted:
            pipe.set(lease_key(shard), self._worker, nx=True, px=self._ttl_ms)
        taken = await pipe.execute() if wanted else []
        self.held = kept | {shard for shard, answer in zip(wanted, taken, strict=True) if answer}
        return self.held

    async def release(self) -> None:
        """Gives all leases back at once, so that the next worker need not wait for their end."""
        await self._each(sorted(self.held), 0)
        self.held = frozenset()

    async def _each(self, shards: Sequence[int], ttl_ms: int) -> frozenset[int]:
        if not shards:
            return frozenset()
        pipe = self._redis.pipeline(transaction=False)
        for shard in shards:
            pipe.eval(script("renew"), 1, lease_key(shard), self._worker, ttl_ms)
        answers = await pipe.execute()
        return frozenset(shard for shard, answer in zip(shards, answers, strict=True) if answer)
