"""One worker: bells in, ticks, commits out. A handful of tasks around a table of sessions; the tick is the only one
that works.

leases   which shards are ours                    sweep   sessions whose producers do not ring
bells    sessions with news -> their entries      clock   idle sessions, statistics
ticks    plan -> engine thread -> update -> commit
"""

import asyncio
import contextlib
import math
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog
from msgspec.structs import asdict, replace
from redis.asyncio import Redis

from worker.app.config import Settings
from worker.app.egress import Egress
from worker.app.engine import Engine, Report
from worker.app.leasing import Leasing
from worker.app.ownership import Ownership
from worker.app.pulse import Pulse
from worker.app.reader import Reader, now_ms
from worker.app.reports import Reports
from worker.app.table import Table
from worker.app.trial import Trial
from worker.core import leases as rules
from worker.core.leases import Peer
from worker.core.rows import Output
from worker.core.scheduler import Plan
from worker.io.connection import GONE, client
from worker.io.doorbell import Doorbell, Sweep
from worker.io.leases import Leases
from worker.io.metrics import Metrics
from worker.io.store import Store

_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)
_SLOW_SWEEP = 20  # in so many sweeps, others are looked at too: a bell may be lost, a closed session written to


class Service:
    """A worker on one Redis with one engine. `run` serves until `stop` is called, then drains."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics, redis_url: str) -> None:
        self.settings = settings
        self.engine = engine
        self.metrics = metrics
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns() % 1_000_000:06d}"
        self._redis: Redis = client(redis_url)
        self._blocking: Redis = client(redis_url)
        self._store = Store(self._redis, self.worker)
        leases = Leases(self._redis, self.worker, settings.num_shards, settings.lease_ms)
        self.ownership = Ownership(leases, self.worker, settings.num_shards, settings.lease_ms)
        self._doorbell = Doorbell(self._blocking)
        self._sweep = Sweep(self._redis)
        self.table = Table(settings.num_shards)
        self._work = asyncio.Event()
        # After each look, what is leaving goes, once the tick is through; and what could not be published may go now.
        self._leasing = Leasing(self.ownership, self._doorbell, self.table, metrics=metrics, on_look=self._work.set)
        metrics.engine_up.set_function(lambda: engine.is_alive)
        self.reports = Reports(self.worker, settings.model, metrics)
        self.budget = settings.budget(has_drafter=engine.has_drafter)
        about = {"worker": self.worker, "model": settings.model}
        trial = Trial(self._store, self.table, self.reports, about=about, on_over=self._leasing.gained.set)
        self.reader = Reader(
            settings,
            self._store,
            self.table,
            reports=self.reports,
            vocabulary=engine.vocabulary,
            ownership=self.ownership,
            trial=trial,
        )
        self._egress = Egress(self.table, self._store, self.ownership, reader=self.reader, reports=self.reports)
        self.pulse = Pulse(engine, self.ownership)
        self._log = structlog.get_logger(worker=self.worker)
        self._stopping = asyncio.Event()
        self._drain_end_s = math.inf

    def stop(self) -> None:
        """Asks `run` to finish: no new words are taken, those in work are published, the shards given back."""
        self._drain_end_s = time.monotonic() + self.settings.drain_ms / 1000
        self.pulse.is_draining = True
        self._stopping.set()
        self._work.set()

    async def run(self) -> None:
        """Serves until `stop`. A lost connection is waited for; only a programming error or a dead engine ends it.

        Raises WrongShards, before anything is served; EngineDead, in a group.
        """
        pulse = asyncio.create_task(self.pulse.beat())
        loops = (self._hold_leases, self._hear_bells, self._sweep_streams, self._watch_clock, self._tick_for_ever)
        try:
            await self._for_ever(self.ownership.agree)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._for_ever(loop), name=loop.__name__) for loop in loops]
                await self._stopping.wait()
                tasks.pop()  # the tick ends by itself, once what it works on is published
                for task in tasks:
                    task.cancel()
            # Who ends by a failure gives nothing back: the next owners are to know that it has died.
            with contextlib.suppress(*GONE):
                await self.ownership.leave()
        finally:
            self.table.forget_shards(range(self.settings.num_shards))
            if self.engine.is_alive:
                await self.engine.run((), self.table.plan(self.budget).dropped)
            else:
                self._log.critical("engine_dead")
            await self._redis.aclose()
            await self._blocking.aclose()
            pulse.cancel()

    async def _for_ever(self, loop: Callable[[], Awaitable[None]]) -> None:
        # Repeats a loop that Redis has interrupted; workers retry for ever.
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                await loop()
                return
            except GONE as error:
                failures = 0 if time.monotonic() - started > 10 else failures + 1
                self._log.warning("redis_interrupted", task=loop.__name__.strip("_"), error=str(error))
                # Spread, so that a Redis which comes back does not meet all its workers at once.
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)] * random.uniform(0.5, 1))
            except Exception:
                # The others are cancelled, which redis-py may swallow (on Python 3.11); then they look at this.
                self._stopping.set()
                self._work.set()
                raise

    # Whose sessions

    async def _hold_leases(self) -> None:
        await self._leasing.keep(self._about, self._stopping)

    def _about(self) -> Peer:
        # The sign of life that the others share the work by.
        limit, sessions = self.settings.max_kv_bytes, self.table.num_open
        weight = rules.weight(
            free_kv_bytes=limit - self.reports.kv_bytes,
            max_kv_bytes=limit,
            sessions=sessions,
            max_sessions=self.reader.max_sessions,
        )
        return Peer(weight, sessions, is_leaving=self._stopping.is_set())

    # What is new

    async def _hear_bells(self) -> None:
        await self._leasing.known.wait()
        while not self._stopping.is_set():
            rung = await self._doorbell.wait()
            for data in rung.settings:
                self._configure(data)
            if rung.is_freed:
                self.ownership.woken.set()
            await self._fetch(rung.sessions)
            for name in rung.sessions:
                live = self.table.get(name)
                if live is not None:
                    live.rings = True

    def _configure(self, data: bytes) -> None:
        change = self.reports.decode_configure(data)
        if change is None or change.worker not in (None, self.worker):
            return
        changed = {name: value for name, value in asdict(change).items() if value is not None}
        self._log.info("configured", **changed)
        if changed.pop("drain", False):
            self.stop()
        changed.pop("worker", None)
        self.settings = replace(self.settings, **changed)
        self.budget = self.settings.budget(has_drafter=self.engine.has_drafter)
        self.reader.max_sessions = self.settings.max_sessions

    async def _sweep_streams(self) -> None:
        round_, is_hurried = 0, False
        while not self._stopping.is_set():
            round_ += 1
            if self._leasing.gained.is_set():
                # Sessions of a shard that has just come are looked for at once, without pauses.
                self._leasing.gained.clear()
                self._sweep.restart()
                is_hurried = True
            met, all_met = await self._sweep.step()
            if all_met is not None:
                self.table.prune(all_met)
                is_hurried = False
            part = round_ % _SLOW_SWEEP
            known = {
                live.session_id: live.cursor
                for live in self.table
                if live.is_quiet or live.state.number % _SLOW_SWEEP == part
            }
            missed = await self._sweep.news(known)
            for name in missed:
                if (live := self.table.get(name)) is not None:
                    live.rings = False
            await self._fetch([name for name in met if name not in self.table] + missed)
            if not is_hurried:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._leasing.gained.wait(), self.settings.sweep_ms / 1000)

    async def _fetch(self, names: Iterable[str]) -> None:
        if await self.reader.fetch(names):
            self._work.set()

    # What is done

    async def _tick_for_ever(self) -> None:
        while True:
            is_busy = await self._tick()
            if not is_busy:
                await self._egress.publish()
            await self._egress.hand_over()
            if not is_busy:
                if self._stopping.is_set():
                    return
                await self._work.wait()
                self._work.clear()
                await self._gather()
                continue
            if time.monotonic() > self._drain_end_s:
                await self._egress.publish()
                return

    async def _gather(self) -> None:
        # Where other sessions are open, waits a moment for their words too, if the operator would have it so.
        if not self.settings.batch_timeout_ms:
            return
        end_s = asyncio.get_running_loop().time() + self.settings.batch_timeout_ms / 1000
        while 0 < self.table.num_changed < min(self.budget.max_rows, self.table.num_open):
            try:
                async with asyncio.timeout_at(end_s):
                    await self._work.wait()
            except TimeoutError:
                return
            self._work.clear()
            if self._stopping.is_set():
                return

    async def _tick(self) -> bool:  # whether there was a pass to run; then what the one before has made is published
        async with self.reader.trial.calm:
            plan = self.table.plan(self.budget)
            if not plan.rows and not plan.dropped:
                return False
            started_s, passing = time.monotonic(), self.engine.run(plan.rows, plan.dropped)
            try:
                await self._egress.publish()  # meanwhile
            except GONE:
                self._settle(plan, *await passing)
                raise
            self._settle(plan, *await passing)
            self._observe(plan, time.monotonic() - started_s)
            return True

    def _settle(self, plan: Plan, sampled: Sequence[Output], report: Report) -> None:
        settled_ms = now_ms()
        for name, row, result in zip(plan.sessions, plan.rows, sampled, strict=True):
            live = self.table.get(name)
            if live is None or live.state.number != row.lane[0]:
                continue
            self.reports.row(live, row, result, settled_ms)
            with self.reader.isolated(name):
                live.update(row, result, settled_ms, self.engine.vocabulary)
        self.reports.lost(sampled)
        self.reports.engine(report, len(plan.rows))

    def _observe(self, plan: Plan, tick_s: float) -> None:
        if plan.rows:
            self.metrics.tick.observe(tick_s)
            self.metrics.tick_rows.observe(len(plan.rows))

    async def _watch_clock(self) -> None:
        while not self._stopping.is_set():
            clock_ms = now_ms()
            self.engine.check()
            for live in self.table:
                with self.reader.isolated(live.session_id):
                    live.check(clock_ms)
            oldest_ms = self.table.oldest_waiting_ms()
            self.metrics.queue_age.set(0 if oldest_ms is None else max(0, clock_ms - oldest_ms) / 1000)
            self.metrics.sessions.set(self.table.num_open)
            self._work.set()
            await self.reports.stats(self._redis, self.table.num_open, self.settings.stats_ms)
            await asyncio.sleep(0.5)
