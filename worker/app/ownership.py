"""Which shards are this worker's: asks Redis, lets the core decide, remembers until when by the worker's own clock."""

import asyncio
import time
from collections.abc import Iterable

from protocol import shard_of
from worker.core import leases as rules
from worker.core.leases import Peer, Tenure
from worker.io.leases import Leases, Seen


class Ownership:
    """The shards of one worker. What it holds ends by itself if `look` is not called in time."""

    def __init__(self, leases: Leases, worker: str, num_shards: int, lease_ms: int) -> None:
        self.worker = worker
        self.num_shards = num_shards
        self.lease_ms = lease_ms
        self.woken = asyncio.Event()  # somebody has given shards back, or a lease is in doubt: look now
        self.leaving: frozenset[int] = frozenset()  # to be given back after the tick
        self.wait_s = 0.0  # when `look` is due again
        self._leases = leases
        self._about: Peer | None = None
        self._tenures: dict[int, Tenure] = {}
        self._dead: dict[int, str] = {}  # whom a shard was taken from, where that was not its will
        self._moved_ms = -lease_ms
        self._looked_ms = -lease_ms

    @property
    def held(self) -> frozenset[int]:
        """The shards that nobody else can have now."""
        now_ms = _now_ms()
        return frozenset(shard for shard, tenure in self._tenures.items() if now_ms < tenure.until_ms)

    @property
    def kept(self) -> frozenset[int]:
        """The shards that are held and not about to be given back."""
        return self.held - self.leaving

    @property
    def is_fresh(self) -> bool:
        """Redis has answered within the time of a lease."""
        return _now_ms() - self._looked_ms < self.lease_ms

    def shard_of(self, session_id: str) -> int:
        """The session's shard."""
        return shard_of(session_id, self.num_shards)

    def epoch_of(self, session_id: str) -> int | None:
        """The lease under which the session may be taken; None if it may not."""
        shard = self.shard_of(session_id)
        return self._tenures[shard].epoch if shard not in self.leaving and self._is_held(shard) else None

    def dead_before(self, session_id: str) -> str:
        """The worker that held the session's shard before this one, if it let its lease run out and then was gone.

        Empty where it gave the shard back, or lives.
        """
        return self._dead.get(self.shard_of(session_id), "")

    def may_publish(self, session_id: str) -> bool:
        """Whether the session's lease lasts, by this worker's clock."""
        return self._is_held(self.shard_of(session_id))

    def _is_held(self, shard: int) -> bool:
        tenure = self._tenures.get(shard)
        return tenure is not None and _now_ms() < tenure.until_ms

    async def agree(self) -> None:
        """The number of shards is that of the deployment. Raises WrongShards."""
        await self._leases.agree()

    async def look(self, about: Peer) -> frozenset[int]:
        """Prolongs what is held, takes what is due, sets `leaving`; returns shards whose sessions may be another's."""
        before, self._about = self._tenures, about
        seen = await self._exchange(about, self._kept())
        is_settled = not self.leaving and _now_ms() - self._moved_ms >= self.lease_ms
        decision = rules.decide(self.worker, seen.peers, seen.leases, self._kept(), is_settled=is_settled)
        while decision.take:  # others who came at the same time may have been faster: what they have left is taken next
            self._dead |= {shard: rules.dead_owner(seen.leases[shard], seen.peers) for shard in decision.take}
            seen = await self._exchange(about, {*self._kept(), *decision.take})
            decision = rules.decide(self.worker, seen.peers, seen.leases, self._kept(), is_settled=is_settled)
        self.leaving |= frozenset(decision.give)
        self.wait_s = rules.wait_ms(seen.leases, self._tenures, self.lease_ms) / 1000
        return rules.lost(before, self._tenures)

    def _kept(self) -> frozenset[int]:
        return frozenset(self._tenures) - self.leaving

    async def _exchange(self, about: Peer, hold: Iterable[int]) -> Seen:
        asked_ms, wanted = _now_ms(), sorted(hold)
        seen = await self._leases.exchange(about, hold=wanted)
        answers = {shard: seen.leases[shard] for shard in wanted}
        self._tenures = rules.learn(self._tenures, self.worker, answers, asked_ms=asked_ms, ttl_ms=self.lease_ms)
        self._looked_ms = asked_ms
        return seen

    def doubt(self, shard: int) -> None:
        """The shard is held no more, until Redis says that it still is."""
        self._tenures.pop(shard, None)
        self.woken.set()

    async def hand_over(self) -> None:
        """The shards that are `leaving` can be taken by others, who are told."""
        given = self.leaving
        await self._leases.exchange(self._about, give=given)
        self._tenures = {shard: tenure for shard, tenure in self._tenures.items() if shard not in given}
        self.leaving, self._moved_ms = self.leaving - given, _now_ms()

    async def leave(self) -> None:
        """This worker holds nothing, and the others do not count with it."""
        given, self._tenures = tuple(self._tenures), {}
        await self._leases.exchange(None, give=given)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
