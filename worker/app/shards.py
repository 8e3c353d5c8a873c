"""Acquire, renew and give back this worker's shard leases, timed by its own monotonic clock.

`worker.core.leases` decides; `Leasing` is the loop that renews them and passes changes on to the rest of the worker.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

import structlog

from protocol import shard_of
from worker.app.sessions import SessionTable
from worker.core import leases as rules
from worker.core.leases import Peer, Tenure
from worker.io.doorbell import Doorbell
from worker.io.leases import Leases, Seen
from worker.io.metrics import Metrics


class Shards:
    """The shards of one worker. Its leases expire unless `look` is called in time."""

    def __init__(self, leases: Leases, worker: str, num_shards: int, lease_ms: int) -> None:
        self.worker = worker
        self.num_shards = num_shards
        self.lease_ms = lease_ms
        self.woken = asyncio.Event()  # somebody has given shards back, or a lease is in doubt: look now
        self.leaving: frozenset[int] = frozenset()  # given back after the tick
        self.wait_s = 0.0  # when `look` is due again
        self._leases = leases
        self._about: Peer | None = None
        self._tenures: dict[int, Tenure] = {}
        self._dead: dict[int, str] = {}  # the worker that each shard was taken from, if it has died
        self._moved_ms = -lease_ms
        self._looked_ms = -lease_ms

    @property
    def held(self) -> frozenset[int]:
        """The shards whose lease has not run out by this worker's clock."""
        now_ms = _now_ms()
        return frozenset(shard for shard, tenure in self._tenures.items() if now_ms < tenure.until_ms)

    @property
    def kept(self) -> frozenset[int]:
        """The held shards that are not about to be given back."""
        return self.held - self.leaving

    @property
    def is_fresh(self) -> bool:
        """Whether Redis has answered within the time of a lease."""
        return _now_ms() - self._looked_ms < self.lease_ms

    def shard_of(self, session_id: str) -> int:
        """Return the session's shard."""
        return shard_of(session_id, self.num_shards)

    def epoch_of(self, session_id: str) -> int | None:
        """Return the epoch of the lease under which the session may be taken; None if it may not."""
        shard = self.shard_of(session_id)
        return self._tenures[shard].epoch if shard not in self.leaving and self._is_held(shard) else None

    def dead_before(self, session_id: str) -> str:
        """Return the previous holder of the session's shard if it has died; '' if it lives or gave the shard back."""
        return self._dead.get(self.shard_of(session_id), "")

    def may_publish(self, session_id: str) -> bool:
        """Tell whether the lease of the session's shard has not run out, by this worker's clock."""
        return self._is_held(self.shard_of(session_id))

    def _is_held(self, shard: int) -> bool:
        tenure = self._tenures.get(shard)
        return tenure is not None and _now_ms() < tenure.until_ms

    async def agree(self) -> None:
        """Check that the number of shards is that of the deployment. Raises WrongShards."""
        await self._leases.agree()

    async def look(self, about: Peer) -> frozenset[int]:
        """Renew the leases held, take free ones up to this worker's share, and add what is beyond it to `leaving`.

        Return the shards that this worker has lost, whose sessions may belong to another one.
        """
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
        """Drop the lease until Redis confirms it."""
        self._tenures.pop(shard, None)
        self.woken.set()

    async def hand_over(self) -> None:
        """Give back the shards in `leaving`, and notify the other workers."""
        given = self.leaving
        await self._leases.exchange(self._about, give=given)
        self._tenures = {shard: tenure for shard, tenure in self._tenures.items() if shard not in given}
        self.leaving, self._moved_ms = self.leaving - given, _now_ms()

    async def leave(self) -> None:
        """Give back all shards and leave the list of living workers."""
        given, self._tenures = tuple(self._tenures), {}
        await self._leases.exchange(None, give=given)


class Leasing:
    """The lease loop: renews leases, and updates bells and session table when the set of shards changes."""

    def __init__(
        self,
        shards: Shards,
        doorbell: Doorbell,
        table: SessionTable,
        *,
        metrics: Metrics,
        on_look: Callable[[], None],
        on_gain: Callable[[], None],
    ) -> None:
        """`on_look` is called after each exchange with Redis, `on_gain` when shards were gained."""
        self.known = asyncio.Event()  # the first exchange is over: it is known which bells to hear
        self._shards = shards
        self._doorbell = doorbell
        self._table = table
        self._metrics = metrics
        self._on_look = on_look
        self._on_gain = on_gain
        self._log = structlog.get_logger(worker=shards.worker)

    async def keep(self, about: Callable[[], Peer], stopping: asyncio.Event) -> None:
        """Renew, take and give up leases until `stopping`; `about` returns the worker's description of itself."""
        held = frozenset[int]()
        # Before the first look, so that what is freed after it is heard.
        await self._doorbell.listen(sorted(self._shards.held))
        while not stopping.is_set():
            self._table.forget_shards(await self._shards.look(about()))
            before, held = held, self._shards.held
            if held != before or not self.known.is_set():
                self._log.info("shards", held=len(held), of=self._shards.num_shards)
                await self._doorbell.listen(sorted(held))
            if held - before:
                self._on_gain()
            self.known.set()
            self._on_look()
            self._metrics.shards.set(len(held))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._shards.woken.wait(), self._shards.wait_s)
            self._shards.woken.clear()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
