"""Table of held sessions: what is known of each in Redis. Their states are in `worker.core.sessions`."""

from collections.abc import Callable, Collection, Iterator

from protocol import shard_of
from worker.app.handle import SessionHandle
from worker.core.entries import Step
from worker.core.rows import Output, Row
from worker.core.sessions import Sessions, Update
from worker.io.store import Commit, Taken


class SessionTable:
    """The handles of one worker's sessions, by id; the sessions themselves are in `sessions`."""

    def __init__(
        self,
        sessions: Sessions,
        step: Step,
        num_shards: int,
        *,
        on_forget: Callable[[str], None],
        on_gone: Callable[[Callable[[str], bool]], None],
    ) -> None:
        """`on_forget(id)`: a held session was dropped. `on_gone(is_gone)`: a predicate for sessions that this worker
        may no longer claim.
        """
        self.sessions = sessions
        self._step = step
        self._num_shards = num_shards
        self._on_forget = on_forget
        self._on_gone = on_gone
        self._handles: dict[str, SessionHandle] = {}

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._handles

    def __iter__(self) -> Iterator[SessionHandle]:
        return iter(list(self._handles.values()))

    def get(self, session_id: str) -> SessionHandle | None:
        """Return the session, if this worker holds it."""
        return self._handles.get(session_id)

    def add(self, session_id: str, taken: Taken) -> SessionHandle:
        """Add the session, at the place of its checkpoint, instead of one with that id."""
        self.forget(session_id)
        handle = self._handles[session_id] = SessionHandle(session_id, taken, self.sessions, self._step)
        return handle

    def forget(self, session_id: str) -> None:
        """Remove the session, if it is held; the next pass frees its lane."""
        handle = self._handles.pop(session_id, None)
        if handle is not None:
            handle.is_held = False
            self.sessions.forget(session_id)
            self._on_forget(session_id)

    def forget_shards(self, shards: Collection[int]) -> None:
        """Forget the sessions of these shards, and what is known of others that are not held."""
        if not shards:  # as in nearly every tick
            return

        def is_gone(name: str) -> bool:
            return shard_of(name, self._num_shards) in shards

        for name in [name for name in self._handles if is_gone(name)]:
            self.forget(name)
        self._on_gone(is_gone)

    def prune(self, present: Collection[str]) -> None:
        """Forget sessions that are not open and whose keys are gone."""
        for handle in self:
            if not handle.is_open and handle.session_id not in present:
                self.forget(handle.session_id)
        self._on_gone(lambda name: name not in self._handles and name not in present)

    def update(self, name: str, row: Row, output: Output, now_ms: int) -> Update | None:
        """Take one output of a pass; return None if the row's session or segment has gone since it was planned."""
        update = self.sessions.update_one(name, row, output, now_ms=now_ms)
        if update is not None:
            self._handles[name].pending += update.events
        return update

    def commits(self, may_publish: Callable[[str], bool]) -> list[Commit]:
        """Return the commits of the sessions that `may_publish`; the others keep their changes.

        A session with no pending events but a pass due is saved after that pass.
        """
        changed = self.sessions.changed
        due = [n for n in changed if self._handles[n].pending or not self.sessions.may_want_pass(n)]
        commits = {name: self._handles[name].commit() for name in due}
        changed -= {name for name, commit in commits.items() if commit is None}
        return [commit for name, commit in commits.items() if commit is not None and may_publish(name)]

    def oldest_waiting_ms(self) -> int | None:
        """Return when the oldest unread source word of all first segments arrived; None: there is none."""
        firsts = [first for handle in self if (first := handle.state.segments.first) is not None]
        unread = [first for first in firsts if first.decode.num_computed_source < len(first.source.tokens)]
        return min((first.waiting_ms for first in unread), default=None)
