"""All sessions that a worker holds, by id; what they want, what they publish, which of them are to be forgotten.

A tick looks only at sessions that have changed since they last had nothing to say: most of thousands wait for words.
"""

import itertools
from collections.abc import Callable, Collection, Iterator

from protocol import SessionPhase, shard_of
from worker.app.live import Live
from worker.core import scheduler
from worker.core.rows import Lane
from worker.core.scheduler import Budget, Plan
from worker.io.store import Checkpoint, Commit

ALONE_PASSES = 64
"""After so many passes a session on trial shares the worker again: others wait no longer for it."""


class Table:
    """The sessions of one worker."""

    def __init__(self, num_shards: int) -> None:
        self._num_shards = num_shards
        self._lives: dict[str, Live] = {}
        self._open: set[str] = set()
        self._numbers = itertools.count()
        self._unpublished: dict[str, Live] = {}  # changed since there was last nothing to publish
        self._unplanned: dict[str, Live] = {}  # changed since they last wanted no pass
        self._dropped: set[Lane] = set()
        self.accused = ""  # the session that came on trial last, until the trial is over

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._lives

    def __iter__(self) -> Iterator[Live]:
        return iter(list(self._lives.values()))

    def get(self, session_id: str) -> Live | None:
        """The session, if this worker holds it."""
        return self._lives.get(session_id)

    def add(self, session_id: str, epoch: int, saved: Checkpoint) -> Live:
        """The session is this worker's, at the place where its checkpoint is."""
        self.forget(session_id)
        live = self._lives[session_id] = Live(session_id, next(self._numbers), epoch, saved, self._changed)
        if live.is_on_trial:
            self.accused = session_id
        return live

    @property
    def alone(self) -> Live | None:
        """The session on trial, while nothing else is worked on: if the worker dies, it is known what it died at."""
        live = self._lives.get(self.accused)
        return live if live is not None and live.is_on_trial and live.num_passes < ALONE_PASSES else None

    def _changed(self, live: Live) -> None:
        if self._lives.get(live.session_id) is live:  # else it has been forgotten while its entries were applied
            self._unpublished[live.session_id] = self._unplanned[live.session_id] = live
            (self._open.add if live.is_open else self._open.discard)(live.session_id)

    def forget(self, session_id: str) -> None:
        """The session is not held any more, its lanes are to be freed."""
        live = self._lives.pop(session_id, None)
        if live is not None:
            self._unpublished.pop(session_id, None)
            self._unplanned.pop(session_id, None)
            self._open.discard(session_id)
            self._dropped |= live.all_lanes()

    def forget_shards(self, shards: Collection[int]) -> None:
        """Forgets the sessions of these shards."""
        if not shards:  # as in nearly every tick
            return
        for name in [name for name in self._lives if shard_of(name, self._num_shards) in shards]:
            self.forget(name)

    def prune(self, present: set[str]) -> None:
        """Forgets sessions that are not open and whose keys are gone."""
        for live in self:
            if not live.is_open and live.session_id not in present:
                self.forget(live.session_id)

    @property
    def num_open(self) -> int:
        """Sessions that have been created and are not closed."""
        return len(self._open)

    @property
    def num_changed(self) -> int:
        """Sessions that may want a pass."""
        return len(self._unplanned)

    def commits(self, may_publish: Callable[[str], bool]) -> list[Commit]:
        """What is to be published and saved of each session that may be; the others keep theirs.

        A session that has nothing to say yet, and has its pass before it, is saved together with what that brings.
        """
        commits = {
            name: live.commit()
            for name, live in self._unpublished.items()
            if live.pending or name not in self._unplanned
        }
        for name in [name for name, commit in commits.items() if commit is None]:
            del self._unpublished[name]
        return [commit for name, commit in commits.items() if commit is not None and may_publish(name)]

    def plan(self, budget: Budget) -> Plan:
        """The next tick, with the lanes that nobody needs any more; each is told once."""
        for live in self._unplanned.values():
            self._dropped |= live.take_dropped()
        dropped, self._dropped = self._dropped, set()
        alone = self.alone
        waiting = {name: live for name, live in self._unplanned.items() if alone is not None and live is not alone}
        states = {name: live.state for name, live in self._unplanned.items() if name not in waiting}
        plan = scheduler.plan(states, budget, dropped=sorted(dropped))
        self._unplanned = {name: self._unplanned[name] for name in (*plan.sessions, *plan.deferred)} | waiting
        return plan

    def oldest_waiting_ms(self) -> int | None:
        """When the oldest source word arrived that is read by nobody yet, over all sessions whose turn it is."""
        waiting = [
            first.waiting_ms
            for live in self._lives.values()
            if live.state.phase is not SessionPhase.CLOSED
            if (first := live.state.segments.first) is not None
            and first.decode.num_computed_source < len(first.source.tokens)
        ]
        return min(waiting, default=None)
