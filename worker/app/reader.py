"""Brings what producers have written into the table: sessions taken, logs replayed, new entries applied.

Whatever is wrong with one session's keys stays with that session: it is set aside for a while, the others go on.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

import structlog
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as Unanswered

from worker.app.config import Settings
from worker.app.live import Live, WorkerFull
from worker.app.reports import Reports
from worker.app.table import Table
from worker.core.ports import Vocabulary
from worker.io.store import PAGE_ENTRIES, Checkpoint, Entry, Store

# A lost connection is nobody's fault: it goes up to the loop that waits for Redis.
INTERRUPTED = (Disconnected, Unanswered, OSError)
_SET_ASIDE_S = 10.0
_ENTRIES_AT_ONCE = 16  # applied before other tasks get their turn


class Reader:
    """Applies entries to the sessions of a table. `admit`s sessions up to the worker's limits."""

    def __init__(
        self, settings: Settings, store: Store, table: Table, reports: Reports, vocabulary: Vocabulary
    ) -> None:
        self.max_sessions = settings.max_sessions
        self._settings = settings
        self._store = store
        self._table = table
        self._reports = reports
        self._vocabulary = vocabulary
        self._fetching = asyncio.Lock()
        self._aside_until_s: dict[str, float] = {}
        self._log = structlog.get_logger()

    async def fetch(self, names: Iterable[str], is_ours: Callable[[str], bool]) -> bool:
        """True if there was news of these sessions, which is applied; one at a time: each entry counts once."""
        async with self._fetching:
            wanted = [name for name in dict.fromkeys(names) if is_ours(name) and not self._is_aside(name)]
            is_news = await self._take_new([name for name in wanted if name not in self._table])
            while wanted:
                cursors = {
                    name: live.cursor for name in wanted if (live := self._table.get(name)) and not live.is_behind
                }
                pages = await self._store.read(cursors)
                for name, entries in pages.items():
                    live = self._table.get(name)
                    if live is not None and entries and live.cursor == cursors[name]:
                        await self._apply(live, entries)
                        is_news = True
                wanted = [name for name, entries in pages.items() if len(entries) == PAGE_ENTRIES]
            return is_news

    @contextlib.contextmanager
    def isolated(self, name: str) -> Iterator[None]:
        """What goes wrong within the block is the fault of this one session, which is set aside."""
        try:
            yield
        except INTERRUPTED:
            raise
        except Exception as error:  # the session's border: nothing that its keys hold may reach another session
            self.lose(name, error)

    def lose(self, name: str, error: Exception) -> None:
        """The session is forgotten, and taken again after a while at the earliest."""
        reason = str(error) or type(error).__name__
        self._log.error("session_lost", session=name, error=type(error).__name__, reason=reason)
        self._table.forget(name)
        self._aside_until_s[name] = time.monotonic() + _SET_ASIDE_S

    def _is_aside(self, name: str) -> bool:
        until_s = self._aside_until_s.get(name)
        if until_s is not None and time.monotonic() >= until_s:
            del self._aside_until_s[name]
            return False
        return until_s is not None

    async def _take_new(self, names: list[str]) -> bool:
        if not names:
            return False
        is_news = False
        for name, opened in zip(names, await self._store.open(names), strict=True):
            with self.isolated(name):
                if isinstance(opened, Exception):
                    raise opened
                is_news |= await self._add(name, *opened)
        return is_news

    async def _add(self, name: str, epoch: int, saved: Checkpoint) -> bool:
        live = self._table.add(name, epoch, saved)
        if not live.needs_replay:
            return False
        try:
            await self._replay(live)
        except BaseException:  # half replayed it must not stay: it would go on from nothing
            self._table.forget(name)
            raise
        return True

    async def _replay(self, live: Live) -> None:
        # An open session that a worker before us has left: its log is read again up to the checkpoint.
        cursor, end = "0-0", live.saved.cursor
        refused = await self._store.refused(live.session_id)
        while True:
            page = (await self._store.read({live.session_id: cursor})).get(live.session_id, [])
            behind = [entry for entry in page if _order(entry[0]) <= _order(end)]
            live.replay(behind, refused, self._vocabulary, self._settings.model)
            if len(behind) < PAGE_ENTRIES:
                break
            cursor = behind[-1][0]
        live.resume(now_ms())
        self._log.info("session_resumed", session=live.session_id, epoch=live.epoch, events=live.saved.progress.seq)

    async def _apply(self, live: Live, entries: list[Entry]) -> None:
        before = live.state
        with self.isolated(live.session_id):
            for i, entry in enumerate(entries, 1):
                live.take(entry, now_ms(), self._vocabulary, self._settings.model, admit=self._admit)
                if i % _ENTRIES_AT_ONCE == 0:
                    await asyncio.sleep(0)
                    if self._table.get(live.session_id) is not live:
                        return
        self._reports.accepted(before, live.state)

    def _admit(self) -> None:
        if self._table.num_open >= self.max_sessions:
            raise WorkerFull(f"this worker has {self.max_sessions} open sessions, its limit; try again later")
        if self._reports.kv_bytes >= self._settings.max_kv_bytes:
            raise WorkerFull(
                f"this worker's sessions hold {self._reports.kv_bytes} bytes of keys and values, its limit is "
                f"{self._settings.max_kv_bytes}; try again later"
            )


def now_ms() -> int:
    """The worker's clock."""
    return time.time_ns() // 1_000_000


def _order(entry_id: str) -> tuple[int, int]:
    stamp, _, number = entry_id.partition("-")
    return int(stamp), int(number or 0)
