"""The session machine: events of the source stream in, events of the target stream out.

`step` takes a producer's event, `update` the engine's output; both number the events that they publish. A changed
option counts from the next segment on, so that the outcome depends on the order of the log and never on the time when
it was read.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple, TypeAlias, assert_never

from msgspec.structs import replace

from protocol import (
    WIRE_VERSION,
    ClientEvent,
    Error,
    ErrorCode,
    InputTextAppend,
    InputTextFinalize,
    OutputTextDelta,
    ProtocolError,
    SegmentDone,
    ServerEvent,
    Session,
    SessionClose,
    SessionClosed,
    SessionCreate,
    SessionCreated,
    SessionPhase,
    SessionUpdate,
    SessionUpdated,
    advance,
    apply_patch,
)
from worker.core import drafting, intake, numbers, settling, writing
from worker.core.rows import Deferred, Evicted, Failed, Output, Row, Tokens, Vocabulary
from worker.core.segment import Segment, forget_cache
from worker.core.state import Segments, State, deadline_ms
from worker.core.writing import Word

NO_ROOM = frozenset({ErrorCode.BACKLOG_FULL.value, ErrorCode.WORKER_FULL.value})
"""Codes of errors that depend on the time: a replay does not reproduce them."""
Outcome: TypeAlias = tuple[State, tuple[ServerEvent, ...]]
"""A session's next state, and the events to publish."""


class Updated(NamedTuple):
    """The result of a pass for a session."""

    state: State
    events: tuple[ServerEvent, ...]
    segment: Segment | None  # the row's segment, even if finished and gone; None: the session failed


def step(
    state: State,
    event: ClientEvent,
    *,
    now_ms: int,
    vocabulary: Vocabulary,
    model: str,
    source_id: str | None = None,
    heard_ms: int | None = None,
    is_replay: bool = False,
) -> Outcome:
    """Return the session after one event of its source stream; a fault of the event becomes an `error` event.

    `now_ms` is when the event arrived; `heard_ms` when it was read, if later: idleness counts from it. `is_replay`: the
    backlog is not bounded, because a replay translates nothing between the events.
    """
    try:
        numbered = numbers.take(state, event)
        if numbered is None:
            return replace(state, duplicates=state.duplicates + 1), ()
        phase = advance(state.phase, event)
        before = replace(numbered, phase=phase, active_ms=now_ms if heard_ms is None else heard_ms)
        if isinstance(event, InputTextAppend) and not is_replay:
            intake.check_backlog(state, event.text)
        after, events = _apply(before, event, now_ms, vocabulary, model)
    except ProtocolError as error:
        return refuse(state, error, seq=event.seq, source_id=source_id)
    return _advance(after, events, now_ms)


def refuse(state: State, error: ProtocolError, *, seq: int | None = None, source_id: str | None = None) -> Outcome:
    """Return the session without the refused event, and the `error` event for its producer."""
    state = numbers.refuse(state, error, seq)
    if error.code in NO_ROOM:
        state = replace(state, refused=state.refused + 1)
    return _publish(state, [_error(error, source_id)])


def update(state: State, row: Row, output: Output, *, now_ms: int, vocabulary: Vocabulary) -> Updated:
    """Return the session after a pass over a row of its first segment; a failed row ends only this session."""
    segment = state.segments.first
    if segment is None:
        raise AssertionError(f"a row was planned for a session without segments: {row}")
    match output:
        case Tokens():
            return _write(state, segment, row, output, now_ms=now_ms, vocabulary=vocabulary)
        case Failed(error=error):
            message = f"the engine failed on this session: {error}; create a new session and send its words again"
            return Updated(*fail(state, message), None)
        case Evicted():
            again = forget_cache(segment)
            return Updated(replace(state, segments=state.segments.with_first(again)), (), again)
        case Deferred():
            return Updated(state, (), segment)
        case _:
            assert_never(output)


def _write(state: State, before: Segment, row: Row, output: Tokens, *, now_ms: int, vocabulary: Vocabulary) -> Updated:
    after, finished = settling.update(before, row, output, vocabulary)
    events: list[_Numbered] = [_delta(word, after, state, now_ms) for word in finished]
    state = replace(
        state,
        segments=state.segments.with_first(after),
        target_words=state.target_words + len(finished),
        active_ms=now_ms if finished else state.active_ms,
        served_ms=now_ms,
        drafting=drafting.learn(state.drafting, before, after, row, output),
    )
    return Updated(*_advance(state, events, now_ms), after)


def fail(state: State, message: str, *, code: str = "engine_error") -> Outcome:
    """Return the closed session after a failure, and the `error` event that says why."""
    closed = replace(state, phase=SessionPhase.CLOSED, segments=Segments())
    return _publish(closed, [lambda seq: Error(seq=seq, code=code, message=message), _closed(closed, "error")])


def expire(state: State, now_ms: int) -> Outcome:
    """Return the session, closing if its deadline has passed; words already sent are still translated."""
    deadline = deadline_ms(state)
    if deadline is None or now_ms < deadline:
        return state, ()
    return close_idle(state, now_ms)


def close_idle(state: State, now_ms: int) -> Outcome:
    """Return the session, closing because it is idle."""
    closing = replace(state, phase=SessionPhase.CLOSING, close_reason="idle")
    return _advance(intake.end_last(closing, now_ms), [], now_ms)


def finish(state: State, now_ms: int) -> Outcome:
    """Return the session with its finished segments published, and its end where that is due."""
    return _advance(state, [], now_ms)


_Numbered = Callable[[int], ServerEvent]  # an event that still lacks its number


def _publish(state: State, events: Sequence[_Numbered]) -> Outcome:
    numbered = tuple(event(state.seq + i) for i, event in enumerate(events, 1))
    return replace(state, seq=state.seq + len(numbered)), numbered


def _apply(
    state: State, event: ClientEvent, now_ms: int, vocabulary: Vocabulary, model: str
) -> tuple[State, list[_Numbered]]:
    match event:
        case SessionCreate(session=session):
            session = _filled(session, vocabulary)
            created = SessionCreated(seq=1, version=WIRE_VERSION, session=session, model=model)
            return replace(state, session=session, created_ms=now_ms), [lambda seq: replace(created, seq=seq)]
        case SessionUpdate(session=patch):
            session = _filled(apply_patch(state.session, patch), vocabulary)
            return replace(state, session=session), [lambda seq: SessionUpdated(seq=seq, session=session)]
        case InputTextAppend(text=text):
            return intake.append(state, text, now_ms, vocabulary), []
        case InputTextFinalize():
            return intake.finalize(state, now_ms, vocabulary), []
        case SessionClose():
            return intake.end_last(state, now_ms), []


def _filled(session: Session, vocabulary: Vocabulary) -> Session:
    # Raises Refused for what the model cannot do.
    vocabulary.prompt(session)
    return replace(session, policy=session.policy or vocabulary.default_policy)


def _advance(state: State, events: list[_Numbered], now_ms: int) -> Outcome:
    # Publish finished segments in order, and the session's end behind the last of them.
    while (first := state.segments.first) is not None:
        if first.source.is_copied and first.source.ended and not first.is_finished:
            first, copied = writing.copy(first)
            events += [_delta(word, first, state, now_ms) for word in copied]
            state = replace(state, target_words=state.target_words + len(copied))
        if not first.is_finished:
            break
        events.append(_done(first, state, now_ms))
        state = replace(
            state,
            segments=state.segments.without_first(),
            segment_seq=state.seq + len(events),
            done_words=state.done_words + first.source.num_words,
        )
    if state.phase is SessionPhase.CLOSING and not state.segments:
        state = replace(state, phase=SessionPhase.CLOSED)
        events.append(_closed(state, state.close_reason))
    return _publish(state, events)


def _delta(word: Word, segment: Segment, state: State, now_ms: int) -> _Numbered:
    return lambda seq: OutputTextDelta(
        seq=seq,
        segment=segment.index,
        index=word.index,
        word=word.written.text.strip(),
        text=word.written.text,
        tokens=word.written.tokens,
        source_words_read=word.written.source_words_read,
        elapsed_ms=max(0, now_ms - state.created_ms),
        delay_ms=max(0, now_ms - word.needed_ms),
    )


def _done(segment: Segment, state: State, now_ms: int) -> _Numbered:
    return lambda seq: SegmentDone(
        seq=seq,
        segment=segment.index,
        text="".join(word.text for word in segment.words),
        source_words=segment.source.num_words,
        target_words=len(segment.words),
        finish_reason=segment.finish_reason,  # type: ignore[arg-type]  # one of the three, or it were not finished
        average_lagging=average_lagging([word.source_words_read for word in segment.words], segment.source.num_words),
        elapsed_ms=max(0, now_ms - state.created_ms),
    )


def average_lagging(lags: Sequence[int], source_words: int) -> float | None:
    """Return the average lagging in words (Ma et al. 2019, eq. 8), by the hypothesis's length; None without words.

    >>> average_lagging((3, 4, 5, 5), source_words=5)
    2.75
    """
    if not lags or not source_words:
        return None
    rate = len(lags) / source_words
    # Words after the first that saw the whole source do not count: their delay is not due to the policy.
    cut = next((t + 1 for t, read in enumerate(lags) if read >= source_words), len(lags))
    return sum(read - t / rate for t, read in enumerate(islice(lags, cut))) / cut


def _closed(state: State, reason: str) -> _Numbered:
    return lambda seq: SessionClosed(
        seq=seq,
        reason=reason,  # type: ignore[arg-type]
        source_words=state.source_words,
        target_words=state.target_words,
    )


def _error(error: ProtocolError, source_id: str | None) -> _Numbered:
    return lambda seq: Error(
        seq=seq,
        code=error.code,
        message=str(error),
        param=error.param,
        source_id=source_id,
        expected_seq=getattr(error, "expected", None),
    )
