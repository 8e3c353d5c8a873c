"""Publish the pending events and checkpoints of sessions whose leases last, then hand over leaving shards."""

import structlog

from worker.app.handle import SessionHandle
from worker.app.ingest import Ingest
from worker.app.quarantine import Quarantine
from worker.app.sessions import SessionTable
from worker.app.shards import Shards
from worker.app.telemetry import Telemetry
from worker.io.store import Behind, Claim, Commit, Fenced, StateLost, Store, Taken


class Committer:
    """Publishes the pending events and checkpoints of a table's sessions."""

    def __init__(
        self,
        table: SessionTable,
        store: Store,
        ingest: Ingest,
        *,
        shards: Shards,
        telemetry: Telemetry,
        quarantine: Quarantine,
    ) -> None:
        self._table = table
        self._store = store
        self._shards = shards
        self._ingest = ingest
        self._telemetry = telemetry
        self._quarantine = quarantine
        self._log = structlog.get_logger(worker=shards.worker)

    async def publish(self) -> None:
        """Publish everything whose lease is valid. If a session turns out fenced, drop all sessions of its shard."""
        commits = self._table.commits(self._shards.may_publish)
        if not commits:
            return
        doubtful, lost = set[int](), list[SessionHandle]()
        for commit, answer in zip(commits, await self._store.commit(commits), strict=True):
            handle = self._table.get(commit.session_id)
            if handle is None or handle.epoch != commit.epoch:
                continue
            if isinstance(answer, int):
                handle.committed(commit)
                self._quarantine.committed(handle)
                self._telemetry.published(handle, commit, num_repeated=answer)
            elif isinstance(answer, Fenced):
                self._telemetry.fenced(commit.session_id)
                doubtful.add(self._shards.shard_of(commit.session_id))
            elif isinstance(answer, StateLost):
                lost.append(handle)
            else:
                self._drop(commit, answer)
        # Another worker has a session of the shard, so it has, or had, the lease. If the lease is still ours, all its
        # sessions are taken again.
        for shard in doubtful:
            self._shards.doubt(shard)
        self._table.forget_shards(doubtful)
        if lost and await self._renew(lost):
            await self.publish()

    async def _renew(self, handles: list[SessionHandle]) -> bool:
        # Redis has lost the states of these sessions. Go on with those that nobody else has published for meanwhile.
        # Drop the others: they are taken again, from what is left in Redis. Tell whether there are any to go on with.
        leases = {handle.session_id: self._shards.epoch_of(handle.session_id) for handle in handles}
        claims = [Claim(name, lease) for name, lease in leases.items() if lease is not None]
        opened = dict(zip(leases, await self._store.open(claims), strict=False)) if len(claims) == len(leases) else {}
        for handle in handles:
            answer = opened.get(handle.session_id)
            self._log.warning("state_lost", session=handle.session_id, events=handle.saved.progress.seq)
            if isinstance(answer, Taken) and answer.saved.progress.seq == handle.saved.progress.seq:
                handle.renew(answer.epoch)
            else:
                self._table.forget(handle.session_id)
        return any(handle.is_held for handle in handles)

    def _drop(self, commit: Commit, failure: Exception) -> None:
        self._table.forget(commit.session_id)
        if isinstance(failure, Behind):  # taken again and replayed
            self._log.warning("session_dropped", session=commit.session_id, reason=str(failure))
        else:
            self._ingest.lose(commit.session_id, failure)

    async def hand_over(self) -> None:
        """Publish what is pending, then give the `leaving` shards to other workers."""
        if leaving := self._shards.leaving:
            await self.publish()
            self._table.forget_shards(leaving)
            await self._shards.hand_over()
            self._log.info("handed_over", shards=len(leaving))
