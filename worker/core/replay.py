"""A session rebuilt from its log: the dual cache is a pure function of the log, the options and the model."""

from msgspec.structs import replace

from worker.core.state import State


def resume(state: State, *, seq: int, segment: int, words: int, created_ms: int, now_ms: int) -> State:
    """The session that has stepped through its log again, ready to go on behind what is published.

    Segments before `segment` are done and need no work; the `words` published of that segment will be written again,
    and get the numbers they had, which end with `seq`.
    """
    unfinished = tuple(s for s in state.segments if s.index >= segment)
    return replace(state, segments=unfinished, seq=seq - words, created_ms=created_ms, active_ms=now_ms)


def is_behind(state: State, *, segment: int, words: int) -> bool:
    """Tell whether published words are still to be written again; until then, nothing new may be numbered."""
    return bool(state.segments) and state.segments[0].index == segment and len(state.segments[0].lags) < words
