"""A session rebuilt from its log: the dual cache is a pure function of the log, the options and the model."""

import msgspec
from msgspec.structs import replace

from worker.core.state import State


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a session's output has come."""

    seq: int = 0  # target events published
    segment: int = 0  # first segment that is not done
    words: int = 0  # words of it that are published
    target_words: int = 0  # words of all segments that are published
    created_ms: int = 0


def progress(state: State) -> Progress:
    """How far the session has come, once all it has numbered is published."""
    first = state.segments[0] if state.segments else None
    return Progress(
        seq=state.seq,
        segment=first.index if first else state.num_segments,
        words=len(first.lags) if first else 0,
        target_words=state.target_words,
        created_ms=state.created_ms,
    )


def resume(state: State, published: Progress, now_ms: int) -> State:
    """The session that has stepped through its log again, ready to go on behind what is published.

    Segments that are done need no work; the words published of the first unfinished one will be written again, and get
    the numbers they had.
    """
    return replace(
        state,
        segments=tuple(segment for segment in state.segments if segment.index >= published.segment),
        seq=published.seq - published.words,
        target_words=published.target_words - published.words,
        created_ms=published.created_ms,
        active_ms=now_ms,
    )


def is_behind(state: State, published: Progress) -> bool:
    """Tell whether published words are still to be written again; until then, nothing new may be numbered."""
    if not state.segments or state.segments[0].index != published.segment:
        return False
    return len(state.segments[0].lags) < published.words
