"""One session that a worker holds: its place in the log, its checkpoint, and the events to be published."""

import time
from collections.abc import Callable, Container, Sequence

from msgspec.structs import replace

from protocol import Error, ErrorCode, Numbering, SegmentDone, ServerEvent, SessionPhase
from worker.core import entries, quarantine, recovery, replay, scheduler, session
from worker.core.entries import Admission, Step, order
from worker.core.quarantine import MAX_ATTEMPTS, Advance
from worker.core.recovery import Outline, Words
from worker.core.replay import Progress, Published
from worker.core.scheduler import Budget
from worker.core.session import Outcome
from worker.core.sessions import Sessions
from worker.core.state import State
from worker.io.checkpoint import Checkpoint
from worker.io.replies import Entry
from worker.io.store import Commit, Taken


class SessionHandle:
    """One session. Its methods change its state; `commit` returns the events and the checkpoint that result."""

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
        self._outline: Outline | None = None  # of its target stream, where its state was lost
        self._made: list[ServerEvent] = []  # by the log, while it is read for that reason
        self._unmade: Words = ()  # published, and to be made again before anything is published
        if not is_begun and not self.saved.is_lost:
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
        """Whether the session must be polled: its producer rings no bell or it is quarantined, and it is not closed."""
        return (not self.rings or self.record.is_quarantined) and self.state.phase is not SessionPhase.CLOSED

    @property
    def needs_replay(self) -> bool:
        """Whether the session was open under an earlier owner and its log has not been replayed yet."""
        return self._replayed is not None

    @property
    def next_cursor(self) -> str:
        """The entry after which the log is read next."""
        return self._replay_cursor if self.needs_replay else self.cursor

    @property
    def is_readable(self) -> bool:
        """Whether more of the log may be applied: in quarantine, only once all that the last entry led to is saved."""
        if not self.record.is_quarantined or self.needs_replay:
            return True
        return self.cursor == self.saved.cursor and not self.pending and self._is_idle()

    def recover(self, found: Outline, newest_id: str) -> None:
        """Continue a session whose state is lost, from its target stream and its log up to entry `newest_id`."""
        # A used number counts as published, although its event may be gone, or of a kind that this version cannot read.
        found = replace(found, seq=max(found.seq, self.saved.progress.seq))
        progress = Progress(
            seq=found.seq,
            segment_seq=found.segment_seq,
            segment=found.segment,
            source_words=found.source_words,
            target_words=found.target_words,
            refused=len(found.refused),
        )
        self.saved = Checkpoint(status=found.phase.value, cursor=newest_id, progress=progress)
        self.cursor, self.refused = newest_id, found.refused
        self._outline, self._replayed = found, self.state

    def replay(self, page: Sequence[Entry]) -> None:
        """Replay one page of the log, up to the checkpoint, on a separate state, without translating."""
        state, admit = self._replayed or self.state, entries.as_before(self.refused)
        for source_id, fields in page:
            if order(source_id) > order(self.saved.cursor):
                break
            if self._idle_cursor and order(source_id) > order(self._idle_cursor):
                state = _close_idle(state, order(source_id)[0])
            self._replay_cursor = source_id
            state, events = self._step(state, source_id, fields, heard_ms=None, admit=admit)
            self._made += events if self._outline else ()
        self._replayed = state

    def resume(self, now_ms: int) -> None:
        """End the replay, and continue the session after its checkpoint."""
        state, self._replayed = self._replayed or self.state, None
        if self._idle_cursor:
            state = _close_idle(state, now_ms)
        try:
            outcome = self._resumed(state, now_ms)
        except ValueError as error:
            self._end_as_broken(state, error)
        else:
            self._apply(lambda _: outcome)

    def _resumed(self, state: State, now_ms: int) -> Outcome:
        progress = self.saved.progress
        found, made = self._outline, self._made
        if found is not None:
            self._outline, self._made, self._unmade = None, [], found.words
            return recovery.resume(state, found, made, now_ms)
        if not replay.is_whole(state, progress):
            raise ValueError("expected the source that the output was made from, got fewer words")
        return replay.resume(state, progress, self.published, now_ms), ()

    def renew(self, epoch: int) -> None:
        """Continue under this epoch after Redis has lost the state, which this worker still has."""
        self.epoch = epoch
        self._sessions.changed.add(self.session_id)

    def take(self, entry: Entry, now_ms: int, admit: Admission) -> None:
        """Apply one entry of the session's source stream."""
        self.cursor, fields = entry
        self._apply(lambda state: self._step(state, self.cursor, fields, heard_ms=now_ms, admit=admit))

    def catch_up(self) -> None:
        """Note that the whole log has been applied."""
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
        """End the session with an error at its saved state, and skip to after entry `source_id`."""
        self._replayed, self.cursor = None, source_id
        message = f"the event {source_id} of its source stream has failed {MAX_ATTEMPTS} workers ({cause})"
        self._end(self.state, f"{message}; the session ends", ErrorCode.POISON_EVENT)

    def _end_as_broken(self, state: State, error: ValueError) -> None:
        self._unmade, self.pending = (), []
        message = (
            f"entries of the session's streams, or its state, are gone that it needs to go on ({error}); create a new "
            "session, leave its keys alone until it is closed, and set Redis's maxmemory-policy to noeviction"
        )
        self._end(state, message, ErrorCode.INTERNAL_ERROR)

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
        """Return the pending events and the new checkpoint; None if nothing changed since the last commit."""
        if self._unmade:
            self._compare()
        if self._unmade:
            return None
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

    def _compare(self) -> None:
        # Drop the events that are published already, and number the others after those.
        try:
            kept, self._unmade = recovery.compare(self.pending, self._unmade)
        except ValueError as error:
            self._end_as_broken(self.state, error)
            return
        last = self.saved.progress.seq
        self.pending = recovery.renumbered(kept, last + 1)
        ends = [event.seq for event in self.pending if isinstance(event, SegmentDone)]
        seq = last + len(kept)
        change = {"seq": seq, **({"segment_seq": ends[-1]} if ends else {})}
        self._apply(lambda state: (replace(state, **change), ()))

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
        """Take note that this commit is in Redis: its events are no longer pending, its checkpoint is the saved one."""
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
