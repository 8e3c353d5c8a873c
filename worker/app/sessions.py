"""The sessions that a worker holds: their states are `worker.core.sessions`', what Redis knows of them is here.

A `SessionHandle` has its session's place in the log, its checkpoint, and the events that wait to be published.
"""

import time
from collections.abc import Callable, Collection, Container, Iterator, Sequence

from msgspec.structs import replace

from protocol import Error, ErrorCode, Numbering, ServerEvent, SessionPhase, shard_of
from worker.core import entries, quarantine, replay, scheduler, session
from worker.core.entries import Admission, Step, order
from worker.core.quarantine import MAX_ATTEMPTS, Advance
from worker.core.replay import Published
from worker.core.rows import Output, Row
from worker.core.scheduler import Budget
from worker.core.session import Outcome
from worker.core.sessions import Sessions, Update
from worker.core.state import State
from worker.io.replies import Entry
from worker.io.store import Checkpoint, Commit, Taken


class SessionHandle:
    """One session. Its methods change its state; `commit` returns what is then to be published and saved."""

    def __init__(self, session_id: str, taken: Taken, sessions: Sessions, step: Step) -> None:
        self.session_id = session_id
        self.epoch, self.saved, self.record = taken
        self.cursor = self.saved.cursor
        self._idle_cursor = self.saved.idle_cursor
        self.pending: list[ServerEvent] = []
        self.is_held = True
        self.rings = False
        self.is_caught_up = False  # with its log
        self.refused: Container[str] = ()  # entries that were turned away for lack of room
        self.published: Published = ()  # words of the segment that the last owner was translating
        self.opened_s = time.monotonic()
        self._sessions = sessions
        self._step = step
        state = sessions.add(session_id)
        is_begun = self.saved.status in (SessionPhase.OPEN.value, SessionPhase.CLOSING.value)
        self._replayed = replay.begin(state, self.saved.base) if is_begun else None  # as far as the log was read again
        self._replay_cursor = self.saved.base.cursor if self.saved.base else "0-0"
        if not is_begun:
            self._apply(lambda state: (_after(state, self.saved), ()))

    @property
    def state(self) -> State:
        """The session as it is in memory. Raises KeyError once it is not held any more."""
        state = self._sessions.get(self.session_id) if self.is_held else None
        if state is None:
            raise KeyError(f"session {self.session_id} is not held any more")
        return state

    @property
    def is_open(self) -> bool:
        """Whether the session has been created and is not closed."""
        return self.state.phase in (SessionPhase.OPEN, SessionPhase.CLOSING)

    @property
    def is_quiet(self) -> bool:
        """Whether its producer rings no bell, and may still have something to say."""
        return (not self.rings or self.record.is_quarantined) and self.state.phase is not SessionPhase.CLOSED

    @property
    def needs_replay(self) -> bool:
        """Whether it was open under another worker, and has not been read again yet."""
        return self._replayed is not None

    @property
    def next_cursor(self) -> str:
        """The entry behind which its log is to be read next."""
        return self._replay_cursor if self.needs_replay else self.cursor

    @property
    def is_readable(self) -> bool:
        """Whether it may be given more of its log: in quarantine, only once all that the last entry led to is saved."""
        if not self.record.is_quarantined or self.needs_replay:
            return True
        return self.cursor == self.saved.cursor and not self.pending and self._is_idle()

    def replay(self, page: Sequence[Entry]) -> None:
        """Step through a page of the log up to the checkpoint, aside: nothing is translated meanwhile."""
        state, admit = self._replayed or self.state, entries.as_before(self.refused)
        for source_id, fields in page:
            if order(source_id) > order(self.saved.cursor):
                break
            if self._idle_cursor and order(source_id) > order(self._idle_cursor):
                state = _close_idle(state, order(source_id)[0])
            self._replay_cursor = source_id
            state, _ = self._step(state, source_id, fields, heard_ms=None, admit=admit)
        self._replayed = state

    def resume(self, now_ms: int) -> None:
        """End the replay: the session goes on behind its checkpoint."""
        state, self._replayed = self._replayed or self.state, None
        if self._idle_cursor:
            state = _close_idle(state, now_ms)
        progress = self.saved.progress
        try:
            if not replay.is_whole(state, progress):
                raise ValueError("expected the source that the output was made from, got fewer words")
            resumed = replay.resume(state, progress, self.published, now_ms)
        except ValueError as error:
            message = (
                f"entries of the session's streams are gone that it needs to go on ({error}); create a new session, "
                "and leave the streams alone until it is closed"
            )
            self._end(state, message, ErrorCode.INTERNAL_ERROR)
        else:
            self._apply(lambda _: (resumed, ()))

    def take(self, entry: Entry, now_ms: int, admit: Admission) -> None:
        """Apply one entry of the session's source stream."""
        self.cursor, fields = entry
        self._apply(lambda state: self._step(state, self.cursor, fields, heard_ms=now_ms, admit=admit))

    def catch_up(self) -> None:
        """Note that all that is in its log has been applied."""
        if self.is_held and not self.is_caught_up:
            self.is_caught_up = True
            self._sessions.changed.add(self.session_id)

    def check(self, now_ms: int) -> None:
        """Close the session if it has been idle for too long."""

        def expired(state: State) -> Outcome:
            after, events = session.expire(state, now_ms)
            if after is not state:
                self._idle_cursor = self.cursor
            return after, events

        self._apply(expired)

    def end_as_poison(self, source_id: str, cause: str) -> None:
        """End the session with an error, as it is saved, behind that entry: nothing of it is tried again."""
        self._replayed, self.cursor = None, source_id
        message = f"the event {source_id} of its source stream has failed {MAX_ATTEMPTS} workers ({cause})"
        self._end(self.state, f"{message}; the session ends", ErrorCode.POISON_EVENT)

    def _end(self, state: State, message: str, code: ErrorCode) -> None:
        published = self.saved.progress
        state = replace(
            state,
            seq=published.seq,
            source_words=published.source_words,
            target_words=published.target_words,
            created_ms=published.created_ms,
        )
        self._apply(lambda _: session.fail(state, message, code=code.value))

    def _apply(self, change: Callable[[State], Outcome]) -> None:
        if self.is_held:  # else it was forgotten while its entries were being applied
            self.pending += self._sessions.apply(self.session_id, change)

    def _is_idle(self) -> bool:
        return scheduler.wants(self.state, Budget()) is None

    def commit(self) -> Commit | None:
        """Return what is to be published and saved; None where nothing has happened since."""
        state, has_read = self.state, self.cursor != self.saved.cursor
        advance = self._advance(has_read=has_read)
        if not self.pending and not has_read and not advance:
            return None
        checkpoint = Checkpoint(
            status=state.phase.value,
            cursor=self.cursor,
            source_seq=state.source_seq,
            progress=replay.progress(state),
            base=replay.base(state, self.cursor) or self.saved.base,
            idle_cursor=self._idle_cursor,
        )
        visible = tuple(replay.visible(state, self.pending))
        return Commit(self.session_id, self.epoch, tuple(self.pending), checkpoint, visible, advance)

    def _advance(self, *, has_read: bool) -> Advance:
        if self.record.is_clear:  # nearly always: whether it is idle takes a while to tell
            return ""
        return quarantine.advance(
            self.record,
            has_output=any(not isinstance(event, Error) for event in self.pending),
            has_read=has_read,
            is_idle=self._is_idle(),
            is_caught_up=self.is_caught_up,
            is_closed=self.state.phase is SessionPhase.CLOSED,
        )

    def committed(self, commit: Commit) -> None:
        """Note that this commit is in Redis."""
        del self.pending[: len(commit.events)]
        self.saved = commit.checkpoint
        self.record = self.record.after(commit.advance)


def _close_idle(state: State, now_ms: int) -> State:
    return session.close_idle(state, now_ms)[0] if state.phase is SessionPhase.OPEN else state


def _after(state: State, saved: Checkpoint) -> State:
    # A session that is not open: all that its target stream goes on with.
    return replace(
        state,
        phase=SessionPhase(saved.status),
        seq=saved.progress.seq,
        numbering=Numbering(saved.source_seq),
        refused=saved.progress.refused,
    )


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
        """`on_forget` is told the id of a session that is not held any more; `on_gone`, which ids, held before or not,
        are not this worker's to take any more.
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
        """Hold the session from now on, at the place where its checkpoint is."""
        self.forget(session_id)
        handle = self._handles[session_id] = SessionHandle(session_id, taken, self.sessions, self._step)
        return handle

    def forget(self, session_id: str) -> None:
        """Hold the session no more; its lane is freed with the next pass."""
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
        """Take one output of a pass; None where the row's session or segment has gone since it was planned."""
        update = self.sessions.update_one(name, row, output, now_ms=now_ms)
        if update is not None:
            self._handles[name].pending += update.events
        return update

    def commits(self, may_publish: Callable[[str], bool]) -> list[Commit]:
        """Return what is to be published and saved of each session that may be; the others keep theirs.

        A session that has nothing to say yet, and has its pass before it, is saved together with what that brings.
        """
        changed = self.sessions.changed
        due = [n for n in changed if self._handles[n].pending or not self.sessions.may_want_pass(n)]
        commits = {name: self._handles[name].commit() for name in due}
        changed -= {name for name, commit in commits.items() if commit is None}
        return [commit for name, commit in commits.items() if commit is not None and may_publish(name)]

    def oldest_waiting_ms(self) -> int | None:
        """Tell when the oldest source word arrived that has not been read, over all sessions whose turn it is."""
        firsts = [first for handle in self if (first := handle.state.segments.first) is not None]
        unread = [first for first in firsts if first.decode.num_computed_source < len(first.source.tokens)]
        return min((first.waiting_ms for first in unread), default=None)
