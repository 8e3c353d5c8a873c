"""Who owns which shard: what one worker decides from what it sees of the others. Pure; times are given.

Each worker looks at all leases and all living workers several times within a lease's life, in one script that also
prolongs its own (`worker/io/lua/leases.lua`). What it sees, it turns into what it holds by its own monotonic clock
(`learn`), and into what it takes and gives back (`decide`). All workers decide by the same rule, so they need not talk:

    share = shards * own weight / weight of all living workers that are not leaving
    take  free shards while fewer than the share are held
    give  shards back while one or more above the share are held and another worker lacks one or more

A worker at its share takes and gives nothing, and a shard that was given goes to one below its share: nothing swings.
Safety rests on nobody's view: a lease ends by its holder's clock before it does by Redis's, and each takeover raises
the epoch that the scripts compare.
"""

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from math import floor

import msgspec

MIN_FREE = 16
"""However full, a worker weighs a 16th of what it does empty: its sessions are not all thrown at the others."""


class Lease(msgspec.Struct, frozen=True):
    """A shard's lease as Redis shows it; `left_ms` 0: it has run out, no `owner`: it was given back."""

    owner: str = ""
    epoch: int = 0
    left_ms: int = 0


class Peer(msgspec.Struct, frozen=True):
    """A worker that lives, as it describes itself."""

    weight: int
    sessions: int = 0
    is_leaving: bool = False


class Tenure(msgspec.Struct, frozen=True):
    """A lease that is held: its epoch, and the end by the holder's own monotonic clock."""

    epoch: int
    until_ms: int


class Decision(msgspec.Struct, frozen=True):
    """Shards to ask for and shards to give back."""

    take: tuple[int, ...] = ()
    give: tuple[int, ...] = ()


def dead_owner(lease: Lease, peers: Collection[str]) -> str:
    """Who let that lease run out and does not live; empty where nobody did.

    >>> dead_owner(Lease("a"), ["b"]), dead_owner(Lease("a"), ["a", "b"]), dead_owner(Lease(""), ["b"])
    ('a', '', '')
    """
    return "" if lease.owner in peers else lease.owner


def weight(*, free_kv_bytes: int, max_kv_bytes: int, sessions: int, max_sessions: int) -> int:
    """How many shards a worker can take in comparison to others, in bytes: free ones, less where sessions run short.

    >>> weight(free_kv_bytes=800, max_kv_bytes=800, sessions=5, max_sessions=10)
    400
    """
    free = min(free_kv_bytes, max_kv_bytes * (max_sessions - sessions) // max_sessions)
    return max(1, free, max_kv_bytes // MIN_FREE)


def tenure_ms(ttl_ms: int) -> int:
    """How long a holder trusts a lease, from when it asked: less than Redis keeps it, for clocks that run unequally."""
    return ttl_ms - ttl_ms // 8


def learn(
    held: Mapping[int, Tenure], me: str, answers: Mapping[int, Lease], *, asked_ms: int, ttl_ms: int
) -> dict[int, Tenure]:
    """What `me` holds once a request sent at `asked_ms` (own clock) has been answered for the shards it asked for.

    A lease whose answer is another's is gone. One that is `me`'s has just been prolonged, or taken.
    """
    until_ms = asked_ms + tenure_ms(ttl_ms)
    own = {shard: Tenure(lease.epoch, until_ms) for shard, lease in answers.items() if lease.owner == me}
    return {shard: tenure for shard, tenure in held.items() if shard not in answers} | own


def lost(before: Mapping[int, Tenure], after: Mapping[int, Tenure]) -> frozenset[int]:
    """Shards whose sessions may have had another owner: the lease is gone, or is a new one."""
    return frozenset(shard for shard, tenure in before.items() if _epoch(after, shard) != tenure.epoch)


def _epoch(held: Mapping[int, Tenure], shard: int) -> int | None:
    tenure = held.get(shard)
    return tenure.epoch if tenure else None


def share(name: str, peers: Mapping[str, Peer], num_shards: int) -> Fraction:
    """How many shards this worker should hold; 0 for one that leaves or is not known.

    >>> share("a", {"a": Peer(10), "b": Peer(20), "c": Peer(5, is_leaving=True)}, 12)
    Fraction(4, 1)
    """
    weights = {other: peer.weight for other, peer in peers.items() if not peer.is_leaving}
    return Fraction(num_shards * weights[name], sum(weights.values())) if name in weights else Fraction()


def living(me: str, peers: Mapping[str, Peer], leases: Sequence[Lease]) -> dict[str, Peer]:
    """The workers to count with: one whose lease has run out is late, and is not waited for."""
    late = {lease.owner for lease in leases if not lease.left_ms} - {me}
    return {name: peer for name, peer in peers.items() if name not in late}


def decide(
    me: str, peers: Mapping[str, Peer], leases: Sequence[Lease], held: Collection[int], *, is_settled: bool
) -> Decision:
    """What `me`, holding `held`, takes and gives back. `is_settled`: the last hand-over is long enough ago.

    All at once is given back only by a worker that leaves; else half of the surplus, so that its effect is seen first.
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
    # Each begins at a place of its own, so that two who come at once seldom ask for the same shard.
    free = [i for i, lease in enumerate(leases) if i not in held and (lease.owner in ("", me) or not lease.left_ms)]
    start = len(free) * sorted(peers).index(me) // len(peers)
    return (*free[start:], *free[:start])


def wait_ms(leases: Sequence[Lease], held: Collection[int], ttl_ms: int) -> int:
    """When to look again: after a quarter of a lease, or as soon as another worker's lease runs out."""
    ends = [lease.left_ms + 1 for shard, lease in enumerate(leases) if lease.left_ms and shard not in held]
    return max(1, min([ttl_ms // 4, *ends]))
