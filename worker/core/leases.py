"""Shard ownership: which shards one worker takes and gives back, given the leases and workers that it sees.

Each worker reads all leases and all living workers several times within a lease's life, in one script that also renews
its own leases (`worker/io/lua/leases.lua`). From the answer it computes the leases that it holds, by its own monotonic
clock (`learn`), and the shards to take and to give back (`decide`). All workers use the same rule, so they need no
other coordination:

    share = shards * own weight / weight of all living workers that are not leaving
    take  free shards while fewer than the share are held
    give  shards back while at least one more than the share is held and another worker lacks at least one

A worker at its share takes and gives nothing, and a shard that is given back goes to a worker below its share, so
shards do not move back and forth. Safety does not depend on what a worker has seen: a lease ends by its holder's clock
before it ends by Redis's, and each takeover raises the epoch that the scripts compare.
"""

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from math import floor

import msgspec

MIN_FREE = 16
"""Least weight of a full worker, as a fraction: a 16th of its empty weight, so that not all its sessions move."""


class Lease(msgspec.Struct, frozen=True):
    """A shard's lease as stored in Redis; `left_ms` 0: it has run out; no `owner`: it was given back."""

    owner: str = ""
    epoch: int = 0
    left_ms: int = 0


class Peer(msgspec.Struct, frozen=True):
    """A living worker, as it describes itself."""

    weight: int
    sessions: int = 0
    is_leaving: bool = False


class Tenure(msgspec.Struct, frozen=True):
    """A held lease: its epoch, and its end by the holder's own monotonic clock."""

    epoch: int
    until_ms: int


class Decision(msgspec.Struct, frozen=True):
    """Shards to ask for and shards to give back."""

    take: tuple[int, ...] = ()
    give: tuple[int, ...] = ()


def dead_owner(lease: Lease, peers: Collection[str]) -> str:
    """Return the owner of a lease that has run out, if it is dead; else "".

    >>> dead_owner(Lease("a"), ["b"]), dead_owner(Lease("a"), ["a", "b"]), dead_owner(Lease(""), ["b"])
    ('a', '', '')
    """
    return "" if lease.owner in peers else lease.owner


def weight(*, free_kv_bytes: int, max_kv_bytes: int, sessions: int, max_sessions: int) -> int:
    """Return a worker's weight against the others': its free KV bytes, or fewer where it has few sessions left.

    >>> weight(free_kv_bytes=800, max_kv_bytes=800, sessions=5, max_sessions=10)
    400
    """
    free = min(free_kv_bytes, max_kv_bytes * (max_sessions - sessions) // max_sessions)
    return max(1, free, max_kv_bytes // MIN_FREE)


def tenure_ms(ttl_ms: int) -> int:
    """Return how long a holder trusts a lease from its request on: shorter than in Redis, as clocks run unequally."""
    return ttl_ms - ttl_ms // 8


def learn(
    held: Mapping[int, Tenure], me: str, answers: Mapping[int, Lease], *, asked_ms: int, ttl_ms: int
) -> dict[int, Tenure]:
    """Return the leases that `me` holds after the answers to a request sent at `asked_ms` by its own clock.

    A lease answered with another owner is lost. One answered with `me` has just been renewed or taken.
    """
    until_ms = asked_ms + tenure_ms(ttl_ms)
    own = {shard: Tenure(lease.epoch, until_ms) for shard, lease in answers.items() if lease.owner == me}
    return {shard: tenure for shard, tenure in held.items() if shard not in answers} | own


def lost(before: Mapping[int, Tenure], after: Mapping[int, Tenure]) -> frozenset[int]:
    """Return the shards whose sessions may have had another owner meanwhile: their lease is lost, or a new one."""
    return frozenset(shard for shard, tenure in before.items() if _epoch(after, shard) != tenure.epoch)


def _epoch(held: Mapping[int, Tenure], shard: int) -> int | None:
    tenure = held.get(shard)
    return tenure.epoch if tenure else None


def share(name: str, peers: Mapping[str, Peer], num_shards: int) -> Fraction:
    """Return the number of shards that this worker should hold; 0 for a leaving or unknown worker.

    >>> share("a", {"a": Peer(10), "b": Peer(20), "c": Peer(5, is_leaving=True)}, 12)
    Fraction(4, 1)
    """
    weights = {other: peer.weight for other, peer in peers.items() if not peer.is_leaving}
    return Fraction(num_shards * weights[name], sum(weights.values())) if name in weights else Fraction()


def living(me: str, peers: Mapping[str, Peer], leases: Sequence[Lease]) -> dict[str, Peer]:
    """Return the workers that count: `me`, and all others that let no lease run out."""
    late = {lease.owner for lease in leases if not lease.left_ms} - {me}
    return {name: peer for name, peer in peers.items() if name not in late}


def decide(
    me: str, peers: Mapping[str, Peer], leases: Sequence[Lease], held: Collection[int], *, is_settled: bool
) -> Decision:
    """Return what `me`, holding `held`, takes and gives back. `is_settled`: the last hand-over is long enough ago.

    A leaving worker gives all shards back at once; others give half of their surplus, and then look at the effect.
    """
    if me not in peers or peers[me].is_leaving:
        return Decision(give=tuple(sorted(held)))
    alive = living(me, peers, leases)
    surplus = len(held) - share(me, alive, len(leases))
    if surplus < 0:
        return Decision(take=_nearest_free(me, alive, leases, held)[: -floor(surplus)])
    wanted = sum(_whole_lack(name, alive, leases) for name in alive if name != me)
    if surplus < 1 or not wanted or not is_settled:
        return Decision()
    count = min(wanted, max(1, floor(surplus) // 2))
    return Decision(give=tuple(sorted(held)[-count:]))


def _whole_lack(name: str, peers: Mapping[str, Peer], leases: Sequence[Lease]) -> int:
    lack = share(name, peers, len(leases)) - sum(lease.owner == name for lease in leases)
    return max(0, floor(lack))


def _nearest_free(
    me: str, peers: Mapping[str, Peer], leases: Sequence[Lease], held: Collection[int]
) -> tuple[int, ...]:
    # Each worker begins at its own offset, so that two that join at once seldom ask for the same shard.
    free = [i for i, lease in enumerate(leases) if i not in held and (lease.owner in ("", me) or not lease.left_ms)]
    start = len(free) * sorted(peers).index(me) // len(peers)
    return (*free[start:], *free[:start])


def wait_ms(leases: Sequence[Lease], held: Collection[int], ttl_ms: int) -> int:
    """Return the time until the next look: a quarter of a lease, or less if another worker's lease runs out sooner."""
    ends = [lease.left_ms + 1 for shard, lease in enumerate(leases) if lease.left_ms and shard not in held]
    return max(1, min([ttl_ms // 4, *ends]))
