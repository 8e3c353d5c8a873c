"""The loop that keeps a worker's leases, and tells the rest of the worker what has become of them."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from worker.app.ownership import Ownership
from worker.app.table import Table
from worker.core.leases import Peer
from worker.io.doorbell import Doorbell
from worker.io.metrics import Metrics


class Leasing:
    """Whose shards are the worker's decides what it listens to, and which sessions stay in its table."""

    def __init__(
        self,
        ownership: Ownership,
        doorbell: Doorbell,
        table: Table,
        *,
        metrics: Metrics,
        on_look: Callable[[], None],
        on_gain: Callable[[], None],
    ) -> None:
        """`on_look` is called whenever Redis has told how the leases stand, `on_gain` where shards have come."""
        self.known = asyncio.Event()  # they have been asked for: it is known which bells to hear
        self._ownership = ownership
        self._doorbell = doorbell
        self._table = table
        self._metrics = metrics
        self._on_look = on_look
        self._on_gain = on_gain
        self._log = structlog.get_logger(worker=ownership.worker)

    async def keep(self, about: Callable[[], Peer], stopping: asyncio.Event) -> None:
        """Prolongs, takes and gives up leases until `stopping`; `about` is how the worker describes itself."""
        held = frozenset[int]()
        # Before the first look, so that what is freed after it is heard.
        await self._doorbell.listen(sorted(self._ownership.held))
        while not stopping.is_set():
            self._table.forget_shards(await self._ownership.look(about()))
            before, held = held, self._ownership.held
            if held != before or not self.known.is_set():
                self._log.info("shards", held=len(held), of=self._ownership.num_shards)
                await self._doorbell.listen(sorted(held))
            if held - before:
                self._on_gain()
            self.known.set()
            self._on_look()
            self._metrics.shards.set(len(held))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ownership.woken.wait(), self._ownership.wait_s)
            self._ownership.woken.clear()
