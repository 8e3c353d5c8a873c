"""The worker service: concurrent loops around a table of sessions. Only `_tick_for_ever` runs passes.

_hold_leases     Renew, take and give back leases of shards.
_hear_bells      Wait for the bells of producers, and read the new entries of their sessions.
_sweep_streams   Find sessions and entries that no bell has announced, and read them.
_read_rest       Continue with sessions that have more than a page of input.
_tick_for_ever   Plan a pass, run it on the engine's thread, meanwhile publish the results of the one before.
_watch_clock     Close idle sessions, check the engine, publish figures.
"""

import asyncio
import contextlib
import itertools
import math
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog
from msgspec.structs import asdict, replace

from worker.app.config import Settings
from worker.app.engine import Engine, Report
from worker.app.health import Health
from worker.app.ingest import Ingest, now_ms
from worker.app.news import News
from worker.app.publish import Committer
from worker.app.quarantine import Quarantine
from worker.app.sessions import SessionTable
from worker.app.shards import Leasing, Shards
from worker.app.telemetry import Telemetry
from worker.core import entries
from worker.core import leases as rules
from worker.core.leases import Peer
from worker.core.rows import Output
from worker.core.scheduler import Plan
from worker.core.sessions import Sessions
from worker.io.client import GONE, connect
from worker.io.index import SessionIndex
from worker.io.leases import Leases
from worker.io.metrics import Metrics
from worker.io.store import Store

_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class Worker:
    """A worker on one Redis with one engine. `run` serves until `stop` is called, then drains."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics, redis_url: str) -> None:
        self.settings = settings
        self.engine = engine
        self.metrics = metrics
        self.name = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns() % 1_000_000:06d}"
        self._log = structlog.get_logger(worker=self.name)
        self._stopping = asyncio.Event()
        self._drain_end_s = math.inf
        self._work = asyncio.Event()  # there may be something to do in a pass, or to publish
        self._redis = connect(redis_url)
        leases = Leases(self._redis, self.name, settings.num_shards, settings.lease_ms)
        self.shards = Shards(leases, self.name, settings.num_shards, settings.lease_ms)
        self.telemetry = Telemetry(self.name, settings.model, metrics)
        self.health = Health(engine, self.shards)
        self.sessions = Sessions(engine.vocabulary, settings.model, settings.budget(has_drafter=engine.has_drafter))
        metrics.engine_up.set_function(lambda: engine.is_alive)
        self._connect()

    def _connect(self) -> None:
        # Puts together what reads from Redis and what writes to it.
        settings, shards, telemetry = self.settings, self.shards, self.telemetry
        index = SessionIndex(self._redis, settings.num_shards)
        store = Store(self._redis, self.name, index)
        look = asyncio.Event()
        about = {"worker": self.name, "model": settings.model}
        self.quarantine = quarantine = Quarantine(store, telemetry, about=about, on_look=look.set)
        self.table = table = SessionTable(
            self.sessions,
            partial(entries.step, vocabulary=self.engine.vocabulary, model=settings.model),
            settings.num_shards,
            on_forget=quarantine.released,
            on_gone=quarantine.forget,
        )
        self.ingest = ingest = Ingest(settings, store, table, shards=shards, telemetry=telemetry, quarantine=quarantine)
        self._committer = Committer(table, store, ingest, shards=shards, telemetry=telemetry, quarantine=quarantine)
        self._news = News(self._redis, index, shards, table=table, ingest=ingest, is_due=look, on_news=self._work.set)
        # After each look, what is leaving goes, once the pass is through; and what could not be published may go now.
        self._leasing = Leasing(
            shards, self._news.doorbell, table, metrics=self.metrics, on_look=self._work.set, on_gain=look.set
        )

    def stop(self) -> None:
        """Ask `run` to finish: stop reading input, publish words in progress, give back shards."""
        self._drain_end_s = time.monotonic() + self.settings.drain_ms / 1000
        self.health.is_draining = True
        self._stopping.set()
        self._work.set()

    async def run(self) -> None:
        """Serve until `stop`. Survives lost connections to Redis; a programming error or a dead engine ends it.

        Raises WrongShards before anything is served; EngineDead in an exception group.
        """
        beating = asyncio.create_task(self.health.beat())
        loops = (
            *(self._hold_leases, self._hear_bells, self._sweep_streams, self._read_rest),
            *(self._watch_clock, self._tick_for_ever),
        )
        try:
            await self._for_ever(self.shards.agree)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._for_ever(loop), name=loop.__name__) for loop in loops]
                await self._stopping.wait()
                tasks.pop()  # the tick ends by itself, once what it works on is published
                for task in tasks:
                    task.cancel()
            # A worker that fails gives nothing back, so that the next owners see that it has died.
            with contextlib.suppress(*GONE):
                await self.shards.leave()
        finally:
            self.table.forget_shards(range(self.settings.num_shards))
            if self.engine.is_alive:
                await self.engine.run((), self.sessions.plan().dropped)
            else:
                self._log.critical("engine_dead")
            await self._redis.aclose()
            beating.cancel()

    async def _for_ever(self, loop: Callable[[], Awaitable[None]]) -> None:
        # Repeat a loop that Redis has interrupted; workers retry for ever.
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
        # The description of this worker by which all workers compute their shares.
        limit, sessions = self.settings.max_kv_bytes, self.sessions.num_open
        weight = rules.weight(
            free_kv_bytes=limit - self.telemetry.kv_bytes,
            max_kv_bytes=limit,
            sessions=sessions,
            max_sessions=self.ingest.max_sessions,
        )
        return Peer(weight, sessions, is_leaving=self._stopping.is_set())

    # What is new

    async def _hear_bells(self) -> None:
        await self._leasing.known.wait()
        while not self._stopping.is_set():
            await self._news.hear_bell(self._configure)

    def _configure(self, data: bytes) -> None:
        change = self.telemetry.decode_configure(data)
        if change is None or change.worker not in (None, self.name):
            return
        changed = {name: value for name, value in asdict(change).items() if value is not None}
        self._log.info("configured", **changed)
        if changed.pop("drain", False):
            self.stop()
        changed.pop("worker", None)
        self.settings = replace(self.settings, **changed)
        self.sessions.budget = self.settings.budget(has_drafter=self.engine.has_drafter)
        self.ingest.max_sessions = self.settings.max_sessions

    async def _sweep_streams(self) -> None:
        for round_ in itertools.count(1):
            if self._stopping.is_set():
                return
            await self._news.sweep(round_)
            await self._news.wait(self.settings.sweep_ms / 1000)

    async def _read_rest(self) -> None:
        while not self._stopping.is_set():
            await self._news.read_rest()

    # What is done

    async def _tick_for_ever(self) -> None:
        while True:
            is_busy = await self._tick()
            if not is_busy:
                await self._committer.publish()
            await self._committer.hand_over()
            if not is_busy:
                if self._stopping.is_set():
                    return
                await self._work.wait()
                self._work.clear()
                await self._gather()
                continue
            if time.monotonic() > self._drain_end_s:
                await self._committer.publish()
                return

    async def _gather(self) -> None:
        # If other sessions are open, wait up to `batch_timeout_ms` for their words, too.
        if not self.settings.batch_timeout_ms:
            return
        end_s = asyncio.get_running_loop().time() + self.settings.batch_timeout_ms / 1000
        while 0 < self.sessions.num_unplanned < min(self.sessions.budget.max_rows, self.sessions.num_open):
            try:
                async with asyncio.timeout_at(end_s):
                    await self._work.wait()
            except TimeoutError:
                return
            self._work.clear()
            if self._stopping.is_set():
                return

    async def _tick(self) -> bool:
        # Run a pass, if one is due, and publish the results of the one before meanwhile. Tell whether one was due.
        async with self.quarantine.pass_lock:
            plan = self.sessions.plan(only=self.quarantine.exclusive or None)
            if not plan.rows and not plan.dropped:
                return False
            started_s, passing = time.monotonic(), self.engine.run(plan.rows, plan.dropped)
            try:
                await self._committer.publish()  # meanwhile
            except GONE:
                self._update(plan, *await passing)
                raise
            self._update(plan, *await passing)
            self._observe(plan, time.monotonic() - started_s)
            return True

    def _update(self, plan: Plan, outputs: Sequence[Output], report: Report) -> None:
        updated_ms = now_ms()
        for name, row, output in zip(plan.sessions, plan.rows, outputs, strict=True):
            with self.ingest.isolated(name):
                update = self.table.update(name, row, output, updated_ms)
                if update is not None:
                    self.quarantine.ran(name)
                    self.telemetry.updated(update, updated_ms)
        self.telemetry.evicted(outputs)
        self.telemetry.record_pass(report, len(plan.rows))

    def _observe(self, plan: Plan, tick_s: float) -> None:
        if plan.rows:
            self.metrics.tick.observe(tick_s)
            self.metrics.tick_rows.observe(len(plan.rows))

    async def _watch_clock(self) -> None:
        while not self._stopping.is_set():
            clock_ms = now_ms()
            self.engine.check()
            for handle in self.table:
                with self.ingest.isolated(handle.session_id):
                    handle.check(clock_ms)
            oldest_ms = self.table.oldest_waiting_ms()
            self.metrics.queue_age.set(0 if oldest_ms is None else max(0, clock_ms - oldest_ms) / 1000)
            self.metrics.sessions.set(self.sessions.num_open)
            self._work.set()
            await self.telemetry.stats(self._redis, self.sessions.num_open, self.settings.stats_ms)
            await asyncio.sleep(0.5)
