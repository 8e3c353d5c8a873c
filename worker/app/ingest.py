"""Read what producers have written: claim sessions, replay logs, apply new entries.

An error in one session's keys affects only that session: it is set aside for a while, the others go on.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator

import structlog
from redis.exceptions import ClusterError, RedisClusterException
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as Unanswered

from protocol import ClientEvent
from worker.app.config import Settings
from worker.app.handle import SessionHandle
from worker.app.quarantine import Quarantine
from worker.app.sessions import SessionTable
from worker.app.shards import Shards
from worker.app.telemetry import Telemetry
from worker.core import recovery
from worker.core.entries import WorkerFull, opens, order
from worker.core.state import State
from worker.io.replies import Denied, Entry
from worker.io.store import PAGE_ENTRIES, Claim, Fenced, Store, Suspect

# A lost connection is nobody's fault: it goes up to the loop that waits for Redis.
INTERRUPTED = (Disconnected, Unanswered, ClusterError, RedisClusterException, OSError)
_STARTED_NS = time.time_ns() - time.monotonic_ns()
_ENTRIES_AT_ONCE = 16  # applied before other tasks get their turn


class Ingest:
    """Applies entries to the sessions of a table. Admits sessions up to the worker's limits.

    It reads in rounds, each a page of every session whose turn it is: a producer that writes faster than it is read
    takes its turn with the others. How far a session may be read ahead of its translation is bounded by `backlog_full`.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        table: SessionTable,
        *,
        shards: Shards,
        telemetry: Telemetry,
        quarantine: Quarantine,
    ) -> None:
        self.max_sessions = settings.max_sessions
        self._settings = settings
        self._store = store
        self._table = table
        self._telemetry = telemetry
        self._shards = shards
        self._quarantine = quarantine
        self._reading = asyncio.Lock()  # one round at a time: each entry counts once
        self._unread: dict[str, None] = {}  # sessions with news that no round has read to the end
        self._is_due = asyncio.Event()  # some of these may be read now
        self._log = structlog.get_logger()

    async def read(self, names: Iterable[str]) -> bool:
        """Read and apply one page for each session this worker owns. Return whether anything was new.

        `read_rest` reads what is left or was interrupted.
        """
        async with self._reading:
            batch = dict.fromkeys(names)
            self._unread |= batch
            try:
                return await self._round(list(batch))
            finally:
                if self._readable(self._unread):
                    self._is_due.set()

    async def read_rest(self) -> bool:
        """Wait for sessions that no round has read to the end, and read a page of each."""
        await self._is_due.wait()
        self._is_due.clear()
        return await self.read(self._unread)

    def _readable(self, names: Iterable[str]) -> list[str]:
        # While a session is exclusive, the others wait.
        exclusive = self._quarantine.exclusive
        return [name for name in names if not exclusive or name == exclusive]

    async def _round(self, names: list[str]) -> bool:
        is_news = await self._take_new([name for name in self._readable(names) if name not in self._table])
        if exclusive := self._quarantine.exclusive:
            names.append(exclusive)
        names = self._readable(names)
        handles = {name: handle for name in names if (handle := self._table.get(name)) and handle.is_readable}
        cursors = {name: handle.next_cursor for name, handle in handles.items()}
        pages = await self._store.read(cursors)
        unread = []
        for name, handle in handles.items():
            page, was_replay = pages.get(name, []), handle.needs_replay
            if handle.is_held:
                is_news |= await self._take(handle, page)
            if was_replay or (isinstance(page, list) and len(page) == PAGE_ENTRIES):
                unread.append(name)
        done = set(names)
        self._unread = {name: None for name in self._unread if name not in done} | dict.fromkeys(unread)
        return is_news

    @contextlib.contextmanager
    def isolated(self, name: str) -> Iterator[None]:
        """Blame any exception in the block on this session and set the session aside; interruptions of Redis pass."""
        try:
            yield
        except INTERRUPTED:
            raise
        except Exception as error:  # the session's border: nothing that its keys hold may reach another session
            self.lose(name, error)

    def lose(self, name: str, error: Exception) -> None:
        """Forget the session after an error; it is claimed again after `RETRY_MS` at the earliest."""
        cause = str(error) or type(error).__name__
        self._log.error("session_lost", session=name, error=type(error).__name__, reason=cause)
        self._table.forget(name)
        # What Redis's access rules deny is no fault of the session's.
        self._quarantine.failed(name, cause, now_ms(), is_counted=not isinstance(error, Denied))

    async def _take_new(self, names: list[str]) -> bool:
        # All or none: a session that is in the table goes on from its checkpoint.
        claims = [
            Claim(name, lease, self._shards.dead_before(name))
            for name in names
            if (lease := self._shards.epoch_of(name)) is not None and self._quarantine.can_take(name, now_ms())
        ]
        if not claims:
            return False
        handles: list[SessionHandle] = []
        for claim, opened in zip(claims, await self._quarantine.open(claims), strict=True):
            name = claim.session_id
            if isinstance(opened, Suspect):
                continue
            if isinstance(opened, Fenced):
                self._telemetry.fenced(name)
                self._shards.doubt(self._shards.shard_of(name))
            elif isinstance(opened, Exception):
                self.lose(name, opened)
            else:
                handles.append(self._table.add(name, opened))
        try:
            await self._recover([handle for handle in handles if handle.saved.is_lost])
            poisoned = [handle for handle in handles if await self._quarantine.end_poison(handle)]
            await self._read_output([handle for handle in handles if handle.needs_replay])
        except BaseException:
            for handle in handles:
                self._table.forget(handle.session_id)
            raise
        return bool(poisoned)

    async def _recover(self, handles: list[SessionHandle]) -> None:
        # Read what is left of sessions whose state Redis has lost, or whose checkpoint another version has written.
        for handle in handles:
            with self.isolated(handle.session_id):
                events, newest_id = await self._store.remains(handle.session_id)
                handle.recover(recovery.outline(events), newest_id)
                self._log.warning("state_lost", session=handle.session_id, events=handle.saved.progress.seq)

    async def _read_output(self, handles: list[SessionHandle]) -> None:
        # What a replay needs of the target streams.
        for handle in handles:
            if handle.saved.progress.refused:
                with self.isolated(handle.session_id):
                    handle.refused = await self._store.refused(handle.session_id, handle.saved.progress.refused)
        begun = {handle.session_id: handle.saved.progress for handle in handles if handle.saved.progress.decode}
        published = await self._store.published(begun)
        for handle in handles:
            words = published.get(handle.session_id, ())
            if isinstance(words, Denied):
                self.lose(handle.session_id, words)
            else:
                handle.published = words

    async def _take(self, handle: SessionHandle, page: list[Entry] | Denied) -> bool:
        # Applies the page; of a session in quarantine only one entry, so that it is known which one it was.
        if isinstance(page, Denied):
            self.lose(handle.session_id, page)
            return False
        if handle.needs_replay:
            self._replay(handle, page)
            return not handle.needs_replay
        entries = page[:1] if handle.record.is_quarantined else page
        if entries:
            await self._apply(handle, entries)
        if entries == page and len(page) < PAGE_ENTRIES:
            handle.catch_up()
        return bool(entries) or not handle.record.is_clear

    def _replay(self, handle: SessionHandle, page: list[Entry]) -> None:
        # Reads the log again as far as the checkpoint, where the session goes on.
        with self.isolated(handle.session_id):
            handle.replay(page)
            if len(page) < PAGE_ENTRIES or order(page[-1][0]) > order(handle.saved.cursor):
                handle.resume(now_ms())
                self._telemetry.resumed(handle)

    async def _apply(self, handle: SessionHandle, entries: list[Entry]) -> None:
        before = after = handle.state
        with self.isolated(handle.session_id):
            for i, entry in enumerate(entries, 1):
                handle.take(entry, now_ms(), self._admit)
                after = handle.state
                if i % _ENTRIES_AT_ONCE == 0:
                    await asyncio.sleep(0)
                    if not handle.is_held:
                        break
        self._telemetry.accepted(before, after)

    def _admit(self, state: State, event: ClientEvent, source_id: str) -> None:
        if not opens(state, event):
            return
        if self._table.sessions.num_open >= self.max_sessions:
            raise WorkerFull(f"this worker has {self.max_sessions} open sessions, its limit; try again later")
        if self._telemetry.is_full:
            raise WorkerFull(
                f"the sessions that speak fill this worker's {self._settings.max_kv_bytes} bytes for keys and values; "
                "try again later"
            )


def now_ms() -> int:
    """Return the wall-clock time at start plus the monotonic time since: clock changes must not expire sessions."""
    return (_STARTED_NS + time.monotonic_ns()) // 1_000_000
