"""Samples of memory, connections and keys while sessions come and go, and the check that they stay flat."""

import asyncio
import subprocess
from collections.abc import Sequence
from statistics import mean
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

_OWNED: Final = b"decalage:{workers}:"
"""Keys of the deployment itself, whose number is fixed: they belong to all workers."""

_MOMENT_S: Final = 1.0


class Sample(msgspec.Struct, frozen=True):
    """The figures at one time."""

    at_s: float
    sessions: int  # ended so far
    worker_bytes: int  # resident, of all workers
    redis_bytes: int
    connections: int
    keys: int
    immortal: tuple[str, ...]  # keys without a TTL that belong to a session, or to nobody


LIMITS: Final = {"worker_bytes": 1.10, "redis_bytes": 1.15, "connections": 1.10, "keys": 1.15}
"""Allowed growth of each figure from the middle third to the last; the first third is for warming up."""


async def take(redis: Redis, at_s: float, sessions: int, pids: Sequence[int]) -> Sample:
    """Take a sample of these processes and this Redis."""
    info: Any = await redis.info()
    keys = [key async for key in redis.scan_iter(count=1000)]
    suspects = [key for key in keys if not key.startswith(_OWNED)]
    for _ in range(2):  # a producer sets its stream's TTL just after its append
        suspects = await _without_ttl(redis, suspects)
        if suspects:
            await asyncio.sleep(_MOMENT_S)
    return Sample(
        at_s=round(at_s, 1),
        sessions=sessions,
        worker_bytes=sum(map(_resident_bytes, pids)),
        redis_bytes=info["used_memory"],
        connections=info["connected_clients"],
        keys=len(keys),
        immortal=tuple(key.decode(errors="replace") for key in suspects),
    )


async def _without_ttl(redis: Redis, keys: Sequence[bytes]) -> list[bytes]:
    pipe = redis.pipeline(transaction=False)
    for key in keys:
        pipe.pttl(key)
    return [key for key, ttl in zip(keys, await pipe.execute(), strict=True) if ttl == -1]


def _resident_bytes(pid: int) -> int:
    # `ps` works on both Linux and macOS.
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True).stdout
    return int(shown.strip() or 0) * 1024


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """Return each figure's mean over the last third divided by that over the middle one. Raises ValueError without."""
    third = len(samples) // 3
    if not third:
        raise ValueError(f"expected at least 3 samples, got {len(samples)}: let it run for longer")
    middle, last = samples[third : 2 * third], samples[-third:]
    return {
        name: round(mean(getattr(one, name) for one in last) / mean(getattr(one, name) for one in middle), 3)
        for name in LIMITS
    }


def problems(samples: Sequence[Sample]) -> list[str]:
    """Return the figures that grew and the keys that would stay for ever; empty: all is flat."""
    growing = [
        f"{name} grew to {factor:.2f} of what it was, expected at most {LIMITS[name]:.2f}"
        for name, factor in growth(samples).items()
        if factor > LIMITS[name]
    ]
    immortal = {key for sample in samples for key in sample.immortal}
    return growing + [f"a key without a TTL or an owner: {key}" for key in sorted(immortal)]
