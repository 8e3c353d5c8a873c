"""Find sessions with new input: by their bells, by a periodic sweep, and after this worker has gained shards."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from worker.app.ingest import Ingest
from worker.app.sessions import SessionTable
from worker.app.shards import Shards
from worker.io.client import GONE, Client
from worker.io.doorbell import Doorbell, Sweep
from worker.io.index import SessionIndex

_SLOW_SWEEP = 20  # sweeps in which all other sessions are looked at, too: bells get lost, closed sessions get input


class News:
    """Loops that find sessions with new input and have it read; `on_news` is called when that made work for a pass."""

    def __init__(
        self,
        redis: Client,
        index: SessionIndex,
        shards: Shards,
        *,
        table: SessionTable,
        ingest: Ingest,
        is_due: asyncio.Event,
        on_news: Callable[[], None],
    ) -> None:
        """`is_due` is set when there may be unclaimed sessions."""
        self.doorbell = Doorbell(redis)
        self.is_due = is_due
        self._sweep = Sweep(redis)
        self._index = index
        self._shards = shards
        self._table = table
        self._ingest = ingest
        self._on_news = on_news

    async def hear_bell(self, configure: Callable[[bytes], None]) -> None:
        """Wait for the next bells and read their sessions; changes of settings among them go to `configure`."""
        rung, kept = await self.doorbell.wait(), self._shards.kept
        for data in rung.settings:
            configure(data)
        if rung.is_freed:
            self._shards.woken.set()
        await self._read(rung.sessions)
        for name in rung.sessions:
            if (handle := self._table.get(name)) is not None:
                handle.rings = True
        # Sessions of shards that were lost meanwhile were perhaps not read.
        self.doorbell.acknowledge(rung, kept & self._shards.kept)

    async def sweep(self, round_: int) -> None:
        """Find sessions and entries that no bell has announced, and read them."""
        part = round_ % _SLOW_SWEEP
        if self.is_due.is_set() or not part:
            await self._take_over()
        met, all_met = await self._sweep.step()
        if all_met is not None:
            self._table.prune(all_met)
        known = {
            handle.session_id: handle.cursor
            for handle in self._table
            if handle.is_quiet or handle.state.number % _SLOW_SWEEP == part
        }
        missed = await self._sweep.news(known)
        for name in missed:
            if (handle := self._table.get(name)) is not None:
                handle.rings = False
        await self._read([name for name in met if name not in self._table] + missed)
        await self._index.renew(handle.session_id for handle in self._table if handle.is_open)

    async def wait(self, seconds: float) -> None:
        """Wait for the next sweep: that many seconds, or until there may be unclaimed sessions."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.is_due.wait(), seconds)

    async def _take_over(self) -> None:  # the sessions of a shard that has just come, and any that were set aside
        self.is_due.clear()
        try:
            await self._read(await self._index.sessions(self._shards.kept, besides=self._table))
        except GONE:
            self.is_due.set()
            raise

    async def read_rest(self) -> None:
        """Continue with sessions that have more than a page of input, or whose reading was interrupted."""
        if await self._ingest.read_rest():
            self._on_news()

    async def _read(self, names: Iterable[str]) -> None:
        if await self._ingest.read(names):
            self._on_news()
