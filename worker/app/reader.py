"""Brings what producers have written into the table: sessions taken, logs replayed, new entries applied.

Whatever is wrong with one session's keys stays with that session: it is set aside for a while, the others go on.
"""

import asyncio
import contextlib
import time
from collections.abc import Container, Iterable, Iterator

import structlog
from redis.exceptions import ClusterError, RedisClusterException
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as Unanswered

from worker.app.config import Settings
from worker.app.live import Live, WorkerFull
from worker.app.ownership import Ownership
from worker.app.reports import Reports
from worker.app.table import Table
from worker.app.trial import Trial
from worker.core.rows import Vocabulary
from worker.io.replies import Denied, Entry
from worker.io.store import PAGE_ENTRIES, Claim, Fenced, Store, Suspect

# A lost connection is nobody's fault: it goes up to the loop that waits for Redis.
INTERRUPTED = (Disconnected, Unanswered, ClusterError, RedisClusterException, OSError)
_SET_ASIDE_S = 10.0
_STARTED_NS = time.time_ns() - time.monotonic_ns()
_ENTRIES_AT_ONCE = 16  # applied before other tasks get their turn


class Reader:
    """Applies entries to the sessions of a table. `admit`s sessions up to the worker's limits."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        table: Table,
        *,
        reports: Reports,
        vocabulary: Vocabulary,
        ownership: Ownership,
        trial: Trial,
    ) -> None:
        self.max_sessions = settings.max_sessions
        self._settings = settings
        self._store = store
        self._table = table
        self._reports = reports
        self._vocabulary = vocabulary
        self._ownership = ownership
        self.trial = trial
        self._fetching = asyncio.Lock()
        self._put_off: dict[str, None] = {}  # sessions with news that wait until the one on trial is through
        self._aside_until_s: dict[str, float] = {}
        self._log = structlog.get_logger()

    async def fetch(self, names: Iterable[str]) -> bool:
        """True if there was news of those sessions that are ours, which is applied; one at a time: each entry counts
        once.
        """
        async with self._fetching:
            wanted = [name for name in {**self._put_off, **dict.fromkeys(names)} if self._is_wanted(name)]
            is_news = False
            if self._table.alone is None:
                is_news = await self._take_new([name for name in wanted if name not in self._table])
            alone = self._table.alone
            self._put_off = dict.fromkeys(wanted if alone else ())
            wanted = [alone.session_id] if alone else wanted
            while wanted:
                cursors = {name: live.cursor for name in wanted if (live := self._table.get(name)) and live.is_readable}
                pages = await self._store.read(cursors)
                wanted = []
                for name, entries in pages.items():
                    live = self._table.get(name)
                    if isinstance(entries, Denied):
                        self.lose(name, entries)
                    elif live is not None and live.cursor == cursors[name]:
                        is_news |= await self._take(live, entries)
                        wanted += [name] if len(entries) == PAGE_ENTRIES else []
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
        if not isinstance(error, Denied):  # by Redis's access rules: no fault of the session's
            self.trial.blame(name, reason)
        self._aside_until_s[name] = time.monotonic() + _SET_ASIDE_S

    def _is_wanted(self, name: str) -> bool:
        return self._ownership.epoch_of(name) is not None and not self._is_aside(name)

    def _is_aside(self, name: str) -> bool:
        until_s = self._aside_until_s.get(name)
        if until_s is not None and time.monotonic() >= until_s:
            del self._aside_until_s[name]
            return False
        return until_s is not None

    async def _take_new(self, names: list[str]) -> bool:
        # The sessions are in the table, those that a worker before us has left as their logs tell them; all or none:
        # half replayed, one would go on from nothing.
        claims = [
            Claim(name, lease, self._ownership.dead_before(name))
            for name in names
            if (lease := self._ownership.epoch_of(name)) is not None
        ]
        if not claims:
            return False
        lives: list[Live] = []
        for claim, opened in zip(claims, await self.trial.open(claims), strict=True):
            name = claim.session_id
            if isinstance(opened, Suspect):
                continue
            if isinstance(opened, Fenced):
                self._reports.fenced(name)
                self._ownership.doubt(self._ownership.shard_of(name))
            elif isinstance(opened, Exception):
                self.lose(name, opened)
            else:
                lives.append(self._table.add(name, *opened))
        try:
            condemned = [live for live in lives if await self.trial.judge(live)]
            left = [live for live in lives if live.needs_replay]
            await self._replay(left)
        except BaseException:
            for live in lives:
                self._table.forget(live.session_id)
            raise
        return bool(condemned or left)

    async def _replay(self, lives: list[Live]) -> None:
        # The logs are read again up to the checkpoints, a page of each at a time.
        started_s = time.monotonic()
        refused: dict[str, frozenset[str]] = {}
        for live in lives:
            with self.isolated(live.session_id):
                refused[live.session_id] = await self._store.refused(live.session_id, live.saved.progress.refused)
        behind = {live.session_id: live for live in lives if live.session_id in refused}
        cursors = {name: live.saved.base.cursor if live.saved.base else "0-0" for name, live in behind.items()}
        while cursors:
            pages = await self._store.read(cursors)
            cursors = {
                name: cursor
                for name in cursors
                if (cursor := self._step_again(behind[name], pages.get(name, []), refused[name]))
            }
            await asyncio.sleep(0)
        for live in behind.values():
            self._reports.resumed(live, time.monotonic() - started_s)

    def _step_again(self, live: Live, page: list[Entry] | Denied, refused: Container[str]) -> str | None:
        # Where the log's next page begins; None at the checkpoint, where the session goes on.
        with self.isolated(live.session_id):
            if isinstance(page, Denied):
                raise page
            entries = [entry for entry in page if _order(entry[0]) <= _order(live.saved.cursor)]
            live.replay(entries, refused, self._vocabulary, self._settings.model)
            if len(entries) == PAGE_ENTRIES:
                return entries[-1][0]
            live.resume(now_ms())
        return None

    async def _take(self, live: Live, page: list[Entry]) -> bool:
        # What the page holds is applied; of a session on trial only one entry, so that it is known which one it was.
        entries = page[:1] if live.is_on_trial else page
        if entries:
            await self._apply(live, entries)
        if entries == page and len(page) < PAGE_ENTRIES:
            live.catch_up()
        return bool(entries) or not live.is_further

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
        if self._reports.is_full:
            raise WorkerFull(
                f"the sessions that speak fill this worker's {self._settings.max_kv_bytes} bytes for keys and values; "
                "try again later"
            )


def now_ms() -> int:
    """The worker's clock: the wall's at its start, and what has passed since. A clock that is set ends no session."""
    return (_STARTED_NS + time.monotonic_ns()) // 1_000_000


def _order(entry_id: str) -> tuple[int, int]:
    stamp, _, number = entry_id.partition("-")
    return int(stamp), int(number or 0)
