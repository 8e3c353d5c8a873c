"""The sessions that a worker holds: each one's state, its place in the log, and the events that wait to be
published.
"""

import time
from collections.abc import Callable, Container, Sequence

from msgspec.structs import replace

from protocol import Error, ErrorCode, ServerEvent, SessionPhase
from worker.core import entries, quarantine, replay, scheduler
from worker.core import session as machine
from worker.core.entries import Admission, order
from worker.core.quarantine import MAX_ATTEMPTS
from worker.core.rows import Lane, Output, Row, Vocabulary
from worker.core.scheduler import Budget
from worker.core.state import State, lane_of
from worker.io.replies import Entry
from worker.io.store import Checkpoint, Commit, Taken


class Live:
    """One session. Its methods change it in memory and tell `on_change`; `commit` says what is then to be published."""

    def __init__(self, session_id: str, number: int, taken: Taken, on_change: Callable[["Live"], None]) -> None:
        self.session_id = session_id
        self.epoch, self.saved, self.record = taken
        saved = self.saved
        self.cursor = saved.cursor
        self.rings = False
        self.is_caught_up = False  # with its log
        self.pending: list[ServerEvent] = []
        self.opened_s = time.monotonic()
        self._on_change = on_change
        self._dropped: set[Lane] = set()
        self.first_word_ms = 0  # how long the last segment took to its first word
        phase = SessionPhase(saved.status)
        self.state = State(number=number)
        self._again: State | None = replay.begin(self.state, saved.base)  # as far as the log has been read again
        self._replayed = saved.base.cursor if saved.base else "0-0"
        self.refused: Container[str] = ()  # entries that were turned away for lack of room
        if phase not in (SessionPhase.OPEN, SessionPhase.CLOSING):
            self._again = None
            done = saved.progress
            self.state = replace(
                self.state, phase=phase, seq=done.seq, source_seq=saved.source_seq, refused=done.refused
            )

    @property
    def is_open(self) -> bool:
        """Whether the session has been created and is not closed."""
        return self.state.phase in (SessionPhase.OPEN, SessionPhase.CLOSING)

    @property
    def next_cursor(self) -> str:
        """The entry behind which its log is to be read next."""
        return self.cursor if self._again is None else self._replayed

    @property
    def is_readable(self) -> bool:
        """Whether it may be given more of its log: in quarantine, only once all that the last entry led to is saved."""
        if not self.record.is_quarantined or self.needs_replay:
            return True
        return self.cursor == self.saved.cursor and not self.pending and self._is_idle()

    def catch_up(self) -> None:
        """Note that all that is in its log has been applied."""
        if not self.is_caught_up:
            self.is_caught_up = True
            self._on_change(self)

    @property
    def is_quiet(self) -> bool:
        """Whether its producer rings no bell, and may still have something to say."""
        return (not self.rings or self.record.is_quarantined) and self.state.phase is not SessionPhase.CLOSED

    @property
    def needs_replay(self) -> bool:
        """Whether it was open under another worker, and has not been read again yet."""
        return self._again is not None

    def all_lanes(self) -> set[Lane]:
        """Lanes in use, and those to be freed."""
        return self._dropped | _lanes(self.state)

    def take_dropped(self) -> set[Lane]:
        """Lanes to be freed; each is told once."""
        dropped, self._dropped = self._dropped, set()
        return dropped

    def replay(self, page: Sequence[Entry], vocabulary: Vocabulary, model: str) -> None:
        """Step through a page of the log up to the checkpoint, aside: nothing is translated meanwhile."""
        state, admit = self._again or self.state, entries.as_before(self.refused)
        for source_id, fields in page:
            if order(source_id) > order(self.saved.cursor):
                break
            self._replayed = source_id
            state, _ = entries.step(
                state, source_id, fields, heard_ms=None, vocabulary=vocabulary, model=model, admit=admit
            )
        self._again = state

    def resume(self, now_ms: int) -> None:
        """End the replay: the session goes on behind its checkpoint."""
        state, self._again = self._again or self.state, None
        if self.saved.status == SessionPhase.CLOSING.value and state.phase is SessionPhase.OPEN:
            state, _ = machine.close_idle(state, now_ms)
        if replay.is_whole(state, self.saved.progress):
            self._set((replay.resume(state, self.saved.progress, now_ms), ()))
        else:
            self.state = state
            self._give_up()

    def take(self, entry: Entry, now_ms: int, vocabulary: Vocabulary, model: str, *, admit: Admission) -> None:
        """Apply one entry of the session's source stream."""
        self.cursor, fields = entry
        self._set(
            entries.step(
                self.state, self.cursor, fields, heard_ms=now_ms, vocabulary=vocabulary, model=model, admit=admit
            )
        )

    def update(self, row: Row, sampled: Output, now_ms: int, vocabulary: Vocabulary) -> None:
        """Apply a pass."""
        if lane_of(self.state) == row.lane:  # else it was closed while the pass ran
            after = machine.update(self.state, row, sampled, now_ms=now_ms, vocabulary=vocabulary)
            self._set((after.state, after.events))

    def check(self, now_ms: int) -> None:
        """Close the session if it has been idle for too long."""
        if self.is_open:
            self._set(machine.expire(self.state, now_ms))

    def end_as_poison(self, source_id: str, cause: str) -> None:
        """End the session with an error, as it is saved, behind that event: nothing of it is tried again."""
        self._again, self.cursor = None, source_id
        message = (
            f"the event {source_id} of its source stream has failed {MAX_ATTEMPTS} workers ({cause}); the session ends"
        )
        self._end(message, ErrorCode.POISON_EVENT)

    def _give_up(self) -> None:
        message = (
            "entries of the session's source stream are gone that its output was made from, so it cannot go on; create "
            "a new session, and leave its source stream alone until it is closed"
        )
        self._end(message, ErrorCode.INTERNAL_ERROR)

    def _end(self, message: str, code: ErrorCode) -> None:
        published = self.saved.progress
        state = replace(
            self.state,
            seq=published.seq,
            source_words=published.source_words,
            target_words=published.target_words,
            created_ms=published.created_ms,
        )
        self._set(machine.fail(state, message, code=code.value))

    def _set(self, outcome: machine.Outcome) -> None:
        before = _lanes(self.state)
        state, events = outcome
        if state is self.state and not events:
            return
        self.state = state
        self._dropped |= before - _lanes(state)
        self.pending.extend(events)
        self._on_change(self)

    def commit(self) -> Commit | None:
        """Return what is to be published and saved; None where nothing has happened since."""
        advance = quarantine.advance(
            self.record,
            has_output=any(not isinstance(event, Error) for event in self.pending),
            has_read=self.cursor != self.saved.cursor,
            is_idle=self._is_idle(),
            is_caught_up=self.is_caught_up,
            is_closed=self.state.phase is SessionPhase.CLOSED,
        )
        if not self.pending and self.cursor == self.saved.cursor and not advance:
            return None
        point = Checkpoint(
            status=self.state.phase.value,
            cursor=self.cursor,
            source_seq=self.state.source_seq,
            progress=replay.progress(self.state),
            base=replay.base(self.state, self.cursor) or self.saved.base,
        )
        return Commit(self.session_id, self.epoch, tuple(self.pending), point, advance)

    def _is_idle(self) -> bool:
        return scheduler.wants(self.state, Budget()) is None

    def committed(self, commit: Commit) -> None:
        """Note that this commit is in Redis."""
        del self.pending[: len(commit.events)]
        self.saved = commit.checkpoint
        self.record = self.record.after(commit.advance)


def _lanes(state: State) -> set[Lane]:
    lane = lane_of(state)
    return set() if lane is None else {lane}
