"""A session rebuilt from its log and checkpoint: what was said is read again, what was written is not written again.

The log gives the source and the options; the checkpoint gives what a pass has made of the first unfinished segment.
Its lane is then fed in one pass, as that of any segment whose lane is gone.
"""

import msgspec
from msgspec.structs import replace

from protocol import Session, SessionPhase
from worker.core.segment import Segment
from worker.core.state import State


class Written(msgspec.Struct, frozen=True, array_like=True):
    """What passes have made of a segment: the fields of `Segment` that do not follow from its log."""

    target: tuple[int, ...]
    visible_source: tuple[int, ...]
    num_computed_source: int
    draft: tuple[int, ...]
    tentative: tuple[int, ...]
    word_begin: int
    previous_begin: int
    hold: int
    lags: tuple[int, ...]
    text: str


class Base(msgspec.Struct, frozen=True, array_like=True):
    """A session between two segments: where its log need not be read again from the beginning."""

    cursor: str  # last source entry before it
    session: Session
    source_seq: int | None
    num_segments: int
    source_words: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a session's output has come."""

    seq: int = 0  # target events published
    segment: int = 0  # first segment that is not done
    written: Written | None = None  # what there is of it; None: nothing has been read yet
    source_words: int = 0  # words of all segments that were accepted
    target_words: int = 0  # words of all segments that are published
    refused: int = 0  # source entries turned away for lack of room, which a log read again does not tell
    created_ms: int = 0


def progress(state: State) -> Progress:
    """How far the session has come, once all it has numbered is published."""
    first = state.segments[0] if state.segments else None
    return Progress(
        seq=state.seq,
        segment=first.index if first else state.num_segments,
        written=_written(first) if first and first.num_computed_source else None,
        source_words=state.source_words,
        target_words=state.target_words,
        refused=state.refused,
        created_ms=state.created_ms,
    )


def base(state: State, cursor: str) -> Base | None:
    """Where a replay may begin that comes after `cursor`; None: not there."""
    if state.phase is not SessionPhase.OPEN or state.segments:
        return None
    return Base(cursor, state.session, state.source_seq, state.num_segments, state.source_words)


def begin(state: State, base: Base | None) -> State:
    """The fresh session as it was at its base, ready to step through the log behind that."""
    if base is None:
        return state
    return replace(
        state,
        phase=SessionPhase.OPEN,
        session=base.session,
        source_seq=base.source_seq,
        num_segments=base.num_segments,
        source_words=base.source_words,
    )


def is_whole(state: State, published: Progress) -> bool:
    """Tell whether the log that the session has stepped through again is the one that its output was made from."""
    open_ = state.phase in (SessionPhase.OPEN, SessionPhase.CLOSING)
    if not open_ or state.source_words != published.source_words or state.num_segments < published.segment:
        return False
    if published.written is None:
        return True
    first = next((segment for segment in state.segments if segment.index == published.segment), None)
    return first is not None and published.written.num_computed_source <= len(first.source)


def resume(state: State, published: Progress, now_ms: int) -> State:
    """The session that has stepped through its log again, ready to go on behind what is published.

    Segments that are done need no work.
    """
    segments = tuple(segment for segment in state.segments if segment.index >= published.segment)
    if published.written is not None:
        segments = (replace(segments[0], **msgspec.structs.asdict(published.written)), *segments[1:])
    return replace(
        state,
        segments=segments,
        seq=published.seq,
        target_words=published.target_words,
        refused=published.refused,
        created_ms=published.created_ms,
        active_ms=now_ms,
    )


def _written(segment: Segment) -> Written:
    return Written(**{name: getattr(segment, name) for name in Written.__struct_fields__})
