"""The sessions that a worker holds: each one's state, its place in the log, and the events that wait to be
published.
"""

from collections.abc import Callable, Container, Iterable
from typing import Literal

from msgspec.structs import replace

from protocol import (
    Error,
    ErrorCode,
    MalformedEvent,
    ProtocolError,
    ServerEvent,
    SessionCreate,
    SessionPhase,
    decode_client,
    peek_seq,
)
from protocol.keys import EVENT_FIELD
from worker.core import replay, scheduler
from worker.core import session as machine
from worker.core.rows import Lane, Output, Row, Vocabulary
from worker.core.scheduler import Budget
from worker.core.state import State, lane_of
from worker.io.store import TRIAL_OWNERS, Checkpoint, Commit, Entry

MAX_TRIALS = 3
"""So many owners fail at a session, working on nothing else, before it is to blame."""

_OLDEST_MS = 3_600_000


class WorkerFull(ProtocolError):
    """The worker takes no further session."""

    code = ErrorCode.WORKER_FULL.value


class Live:
    """One session. Its methods change it in memory and tell `on_change`; `commit` says what is then to be published."""

    def __init__(
        self, session_id: str, number: int, epoch: int, saved: Checkpoint, on_change: Callable[["Live"], None]
    ) -> None:
        self.session_id = session_id
        self.epoch = epoch
        self.cursor = saved.cursor
        self.saved = saved
        self.rings = False
        self.is_further = saved.failed_owners == 0  # than the owner before
        self.has_caught_up = False  # with its log
        self.num_passes = 0
        self.pending: list[ServerEvent] = []
        self._on_change = on_change
        self._dropped: set[Lane] = set()
        self.first_word_ms = 0  # how long the last segment took to its first word
        phase = SessionPhase(saved.status)
        self.state = State(number=number)
        self._again: State | None = replay.begin(self.state, saved.base)  # as far as the log has been read again
        if phase not in (SessionPhase.OPEN, SessionPhase.CLOSING):
            self._again = None
            done = saved.progress
            self.state = replace(
                self.state, phase=phase, seq=done.seq, source_seq=saved.source_seq, refused=done.refused
            )

    @property
    def is_open(self) -> bool:
        """The session has been created and is not closed."""
        return self.state.phase in (SessionPhase.OPEN, SessionPhase.CLOSING)

    @property
    def is_on_trial(self) -> bool:
        """Several owners have failed at it, and this one has not done all yet: it is given one entry at a time."""
        return self.saved.failed_owners >= TRIAL_OWNERS and not self.is_further

    @property
    def is_readable(self) -> bool:
        """It may be given more of its log: on trial, only once all that the last entry led to is in Redis."""
        if not self.is_on_trial:
            return True
        return self.cursor == self.saved.cursor and not self.pending and self._is_idle()

    def catch_up(self) -> None:
        """All that is in its log has been applied."""
        if not self.has_caught_up:
            self.has_caught_up = True
            self._on_change(self)

    @property
    def is_quiet(self) -> bool:
        """Its producer rings no bell, and may still have something to say."""
        return (not self.rings or self.is_on_trial) and self.state.phase is not SessionPhase.CLOSED

    @property
    def needs_replay(self) -> bool:
        """It was open under another worker, and has not been read again yet."""
        return self._again is not None

    def all_lanes(self) -> set[Lane]:
        """Lanes in use, and those to be freed."""
        return self._dropped | _lanes(self.state)

    def take_dropped(self) -> set[Lane]:
        """Lanes to be freed; each is told once."""
        dropped, self._dropped = self._dropped, set()
        return dropped

    def replay(self, entries: Iterable[Entry], refused: Container[str], vocabulary: Vocabulary, model: str) -> None:
        """Steps through the log up to the checkpoint, aside: nothing is translated meanwhile.

        `refused` holds the ids of entries that were turned away for lack of room, which a log read again does not tell.
        """
        state = self._again or self.state
        for entry_id, fields in entries:
            try:
                event = decode_client(fields.get(EVENT_FIELD.encode(), b""))
            except ProtocolError:
                continue
            if entry_id in refused:
                continue
            arrival_ms = _arrival_ms(entry_id, 0)
            state, _ = machine.step(state, event, now_ms=arrival_ms, vocabulary=vocabulary, model=model, is_replay=True)
        self._again = state

    def resume(self, now_ms: int) -> None:
        """Replay is over: the session goes on behind its checkpoint."""
        state, self._again = self._again or self.state, None
        if self.saved.status == SessionPhase.CLOSING.value and state.phase is SessionPhase.OPEN:
            state, _ = machine.close_idle(state, now_ms)
        if replay.is_whole(state, self.saved.progress):
            self._set((replay.resume(state, self.saved.progress, now_ms), ()))
        else:
            self.state = state
            self._give_up()

    def take(self, entry: Entry, now_ms: int, vocabulary: Vocabulary, model: str, *, admit: Callable[[], None]) -> None:
        """The session after one entry of its source stream."""
        entry_id, fields = entry
        self.cursor = entry_id
        data = fields.get(EVENT_FIELD.encode(), b"")
        try:
            if not data:
                raise MalformedEvent(f"expected an event in the field `event`, got the fields {_names(fields)}")
            event = decode_client(data)
            if isinstance(event, SessionCreate) and self.state.phase is SessionPhase.ABSENT:
                admit()
        except ProtocolError as error:
            self._set(machine.refuse(self.state, error, seq=peek_seq(data), source_id=entry_id))
            return
        outcome = machine.step(
            self.state,
            event,
            now_ms=_arrival_ms(entry_id, now_ms),
            vocabulary=vocabulary,
            model=model,
            # Delays count from the word's arrival in Redis, idleness from when it was heard.
            heard_ms=now_ms,
            source_id=entry_id,
        )
        self._set(outcome)

    def update(self, row: Row, sampled: Output, now_ms: int, vocabulary: Vocabulary) -> None:
        """The session after a pass."""
        self.num_passes += 1
        if lane_of(self.state) == row.lane:  # else it was closed while the pass ran
            after = machine.update(self.state, row, sampled, now_ms=now_ms, vocabulary=vocabulary)
            self._set((after.state, after.events))

    def check(self, now_ms: int) -> None:
        """Closes the session if it has been idle for too long."""
        if self.is_open:
            self._set(machine.expire(self.state, now_ms))

    def condemn(self, source_id: str, cause: str) -> None:
        """The session ends with an error, as it is saved, behind that event: nothing of it is tried again."""
        self._again, self.cursor = None, source_id
        message = (
            f"the event {source_id} of its source stream has failed {MAX_TRIALS} workers ({cause}); the session ends"
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
        """What is to be published and saved; None where nothing has happened since."""
        advance = self._advance()
        if not self.pending and self.cursor == self.saved.cursor and not advance:
            return None
        point = Checkpoint(
            status=self.state.phase.value,
            cursor=self.cursor,
            source_seq=self.state.source_seq,
            progress=replay.progress(self.state),
            base=replay.base(self.state, self.cursor),
            failed_owners=0 if advance == "further" else self.saved.failed_owners,
            failed_trials=0 if advance else self.saved.failed_trials,
        )
        return Commit(self.session_id, self.epoch, tuple(self.pending), point, advance)

    def _advance(self) -> Literal["", "event", "further"]:
        # Something was said (errors count for nothing: a producer's bad event leads to no work), or all that an event
        # led to has been done. On trial, that clears one event; the session, only once there is nothing to do.
        if self.is_further:
            return ""
        if self.has_caught_up and self._is_idle():
            return "further"
        has_output = any(not isinstance(event, Error) for event in self.pending)
        if has_output or (self._is_idle() and self.cursor != self.saved.cursor):
            return "event" if self.is_on_trial and self.state.phase is not SessionPhase.CLOSED else "further"
        return ""

    def _is_idle(self) -> bool:
        return scheduler.wants(self.state, Budget()) is None

    def committed(self, commit: Commit) -> None:
        """That commit is in Redis."""
        del self.pending[: len(commit.events)]
        self.saved = commit.checkpoint
        self.is_further |= commit.advance == "further"


def _lanes(state: State) -> set[Lane]:
    lane = lane_of(state)
    return set() if lane is None else {lane}


def _names(fields: dict[bytes, bytes]) -> str:
    return ", ".join(repr(name.decode(errors="replace")[:40]) for name in fields) or "none"


def _arrival_ms(entry_id: str, now_ms: int) -> int:
    # Entry ids carry Redis's clock. One that a producer chose itself may be anything: then what counts is now.
    stamp = int(entry_id.partition("-")[0])
    return stamp if not now_ms or 0 <= now_ms - stamp <= _OLDEST_MS else now_ms
