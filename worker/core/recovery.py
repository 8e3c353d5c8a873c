"""Going on with a session whose state Redis has lost: its target stream tells what has been published.

The log is read again, as after a takeover. Finished segments need no work. The words of the first unfinished one are
made again, compared with those published, and not published twice.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from protocol import (
    Error,
    OutputTextDelta,
    SegmentDone,
    ServerEvent,
    SessionClosed,
    SessionCreated,
    SessionPhase,
    wire_type,
)
from worker.core import session
from worker.core.session import NO_ROOM, Outcome
from worker.core.state import Segments, State

Words: TypeAlias = tuple[OutputTextDelta, ...]


class Outline(msgspec.Struct, frozen=True):
    """What a target stream tells of its session."""

    phase: SessionPhase = SessionPhase.ABSENT
    seq: int = 0  # of the last event
    segment_seq: int = 0  # of the end of the last finished segment
    segment: int = 0  # first unfinished segment
    answers: tuple[str, ...] = ()  # kinds of the events that answer a producer's
    source_words: int = 0  # of finished segments
    target_words: int = 0
    refused: frozenset[str] = frozenset()  # source entries refused for lack of room
    words: Words = ()  # of the first unfinished segment


def outline(events: Iterable[ServerEvent]) -> Outline:
    """Return the outline of a target stream, given all its events."""
    found, words = Outline(), list[OutputTextDelta]()
    answers, refused = list[str](), set[str]()
    for event in events:
        found = replace(found, seq=event.seq)
        match event:
            case OutputTextDelta():
                words.append(event)
                found = replace(found, target_words=found.target_words + 1)
            case SegmentDone(seq=seq, segment=segment, source_words=num_words):
                words.clear()
                total = found.source_words + num_words
                found = replace(found, segment_seq=seq, segment=segment + 1, source_words=total)
            case SessionClosed():
                found = replace(found, phase=SessionPhase.CLOSED)
            case _:
                answers.append(_kind(event))
                refused |= {event.source_id or ""} if isinstance(event, Error) and event.code in NO_ROOM else set()
                found = replace(found, phase=SessionPhase.OPEN) if isinstance(event, SessionCreated) else found
    return replace(found, words=tuple(words), answers=tuple(answers), refused=frozenset(refused))


def resume(state: State, found: Outline, made: Sequence[ServerEvent], now_ms: int) -> Outcome:
    """Return the session behind its published output, and the events that are still to be published.

    `state` has read the whole log, which has `made` these events. Raises ValueError where the log is not the one that
    the output was made from.
    """
    answers = [event for event in made if not isinstance(event, OutputTextDelta | SegmentDone | SessionClosed)]
    num_answered = len(found.answers)
    is_same = tuple(map(_kind, answers[:num_answered])) == found.answers
    if found.phase is SessionPhase.CLOSED:
        return _closed(state, found, answers[num_answered:] if is_same else [])
    outputs = [e for e in made if isinstance(e, OutputTextDelta | SegmentDone) and e.segment >= found.segment]
    segments = Segments.of(segment for segment in state.segments if segment.index >= found.segment)
    done_words = state.source_words - sum(segment.source.num_words for segment in segments)
    num_ahead = sum(event.source_words for event in outputs if isinstance(event, SegmentDone))
    if not is_same or done_words - num_ahead != found.source_words:
        raise ValueError("expected the source that the output was made from, got another")
    fresh = renumbered([*answers[num_answered:], *outputs], found.seq + 1)
    num_deltas = sum(isinstance(event, OutputTextDelta) for event in outputs)
    before = replace(
        state,
        phase=SessionPhase.CLOSING if state.phase is SessionPhase.CLOSED else state.phase,
        segments=segments,
        seq=found.seq + len(fresh),
        segment_seq=found.segment_seq,
        done_words=done_words,
        target_words=found.target_words - len(found.words) + num_deltas,
        refused=len(found.refused),
        active_ms=now_ms,
    )
    after, events = session.finish(before, now_ms)
    return after, (*fresh, *events)


def _closed(state: State, found: Outline, fresh: Sequence[ServerEvent]) -> Outcome:
    events = renumbered(fresh, found.seq + 1)
    closed = replace(state, phase=SessionPhase.CLOSED, segments=Segments(), seq=found.seq + len(events))
    return closed, tuple(events)


def compare(made: Sequence[ServerEvent], published: Words) -> tuple[list[ServerEvent], Words]:
    """Return the events that are still to be published, and the published words that have not been made again yet.

    Raises ValueError where a word is made that differs from the published one.
    """
    kept: list[ServerEvent] = []
    for event in made:
        if not published or not isinstance(event, OutputTextDelta | SegmentDone | SessionClosed):
            kept.append(event)
        elif isinstance(event, OutputTextDelta) and _is_same(event, published[0]):
            published = published[1:]
        else:
            raise ValueError(f"expected the published word {published[0].index} of its open segment, made another")
    return kept, published


def renumbered(events: Iterable[ServerEvent], first: int) -> list[ServerEvent]:
    """Return the events with the numbers from `first` on."""
    return [replace(event, seq=seq) for seq, event in enumerate(events, first)]


def _kind(event: ServerEvent) -> str:
    return f"{wire_type(type(event))} {event.code if isinstance(event, Error) else ''}"


def _is_same(made: OutputTextDelta, published: OutputTextDelta) -> bool:
    return (made.segment, made.index, made.text) == (published.segment, published.index, published.text)
