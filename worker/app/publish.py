"""What leaves the worker between two ticks: events and checkpoints, then the shards that others shall have."""

import structlog

from worker.app.ownership import Ownership
from worker.app.quarantine import Quarantine
from worker.app.reader import Reader
from worker.app.reports import Reports
from worker.app.table import Table
from worker.io.store import Behind, Commit, Fenced, Store


class Egress:
    """Publishes for the sessions of a table as long as their leases last."""

    def __init__(
        self,
        table: Table,
        store: Store,
        ownership: Ownership,
        *,
        reader: Reader,
        reports: Reports,
        quarantine: Quarantine,
    ) -> None:
        self._table = table
        self._store = store
        self._ownership = ownership
        self._reader = reader
        self._reports = reports
        self._quarantine = quarantine
        self._log = structlog.get_logger(worker=ownership.worker)

    async def publish(self) -> None:
        """Publish all that may be. A session that is another worker's is dropped, with its shard."""
        commits = self._table.commits(self._ownership.may_publish)
        if not commits:
            return
        doubtful: set[int] = set()
        for commit, answer in zip(commits, await self._store.commit(commits), strict=True):
            live = self._table.get(commit.session_id)
            if live is None or live.epoch != commit.epoch:
                continue
            if isinstance(answer, int):
                live.committed(commit)
                self._quarantine.committed(live)
                self._reports.published(live, commit, num_repeated=answer)
            elif isinstance(answer, Fenced):
                self._reports.fenced(commit.session_id)
                doubtful.add(self._ownership.shard_of(commit.session_id))
            else:
                self._drop(commit, answer)
        # Another worker has one of its sessions: so it has, or had, the lease. What is still ours is taken again.
        for shard in doubtful:
            self._ownership.doubt(shard)
        self._table.forget_shards(doubtful)

    def _drop(self, commit: Commit, failure: Exception) -> None:
        self._table.forget(commit.session_id)
        if isinstance(failure, Behind):  # taken again and replayed
            self._log.warning("session_dropped", session=commit.session_id, reason=str(failure))
        else:
            self._reader.lose(commit.session_id, failure)

    async def hand_over(self) -> None:
        """Give back what is `leaving`; others go on at the place where this worker has published last."""
        if leaving := self._ownership.leaving:
            await self.publish()
            self._table.forget_shards(leaving)
            await self._ownership.hand_over()
            self._log.info("handed_over", shards=len(leaving))
