"""Rebuilding a session after a takeover: read its source again, but do not write its output again.

The source stream holds the words and the options. The target stream holds the written words of the first unfinished
segment, each with the source that its tokens saw. The checkpoint (`Progress`, with the segment's `Decode`) holds the
rest. The lane is then fed in one pass, like that of any segment whose lane was evicted.
"""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from protocol import Numbering, OutputTextDelta, ServerEvent, Session, SessionPhase
from worker.core.append_log import Log
from worker.core.segment import Decode, WrittenWord
from worker.core.state import Segments, State


class Visible(msgspec.Struct, frozen=True, array_like=True):
    """What is stored beside a published word so that a takeover can rebuild it: the rest of its `WrittenWord`."""

    visible_source: tuple[int, ...]
    blank: tuple[int, ...] = ()


Published: TypeAlias = Sequence[tuple[OutputTextDelta, Visible]]
"""The words of a segment, as read from its target stream."""


class Base(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot taken when no segment is open; a replay starts here instead of at the start of the log."""

    cursor: str  # last source entry before it
    session: Session
    source_seq: int | None
    num_segments: int
    source_words: int
    producer: str = ""
    replaced: tuple[str, ...] = ()


class Progress(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The progress of a session's output."""

    seq: int = 0  # target events published
    segment_seq: int = 0  # of these, up to the end of the last finished segment
    segment: int = 0  # first unfinished segment
    decode: Decode | None = None  # its state beside its words; None: nothing has been read yet
    source_words: int = 0  # words of all segments that were accepted
    target_words: int = 0  # words of all segments that are published
    refused: int = 0  # source entries refused for lack of room, which a replay cannot tell
    created_ms: int = 0


def progress(state: State) -> Progress:
    """Return the session's progress once all events that it has numbered are published."""
    first = state.segments.first
    return Progress(
        seq=state.seq,
        segment_seq=state.segment_seq,
        segment=first.index if first else state.num_segments,
        decode=first.decode if first and first.decode.num_computed_source else None,
        source_words=state.source_words,
        target_words=state.target_words,
        refused=state.refused,
        created_ms=state.created_ms,
    )


def visible(state: State, events: Sequence[ServerEvent]) -> list[Visible | None]:
    """Return the `Visible` to store beside each of these just published events; None: nothing.

    Only words of the first segment have one: a takeover reads no words of finished segments.
    """
    first = state.segments.first
    if first is None:
        return [None] * len(events)
    return [
        Visible(first.words[event.index].visible_source, first.words[event.index].blank)
        if isinstance(event, OutputTextDelta) and event.segment == first.index
        else None
        for event in events
    ]


def restore(decode: Decode, num_prompt_tokens: int, published: Published) -> Log[WrittenWord]:
    """Rebuild the words of a checkpoint's segment from the published ones, after a prompt of `num_prompt_tokens`.

    Raises ValueError if a word is missing.
    """
    words, begin = list[WrittenWord](), num_prompt_tokens
    for delta, stored in published:
        if delta.index != len(words):
            raise ValueError(f"expected word {len(words)} of segment {delta.segment}, got word {delta.index}")
        word = WrittenWord(
            begin, stored.blank, delta.tokens, stored.visible_source, delta.source_words_read, delta.text
        )
        words.append(word)
        begin = word.end
    if begin != decode.num_settled:
        raise ValueError(f"expected words up to target token {decode.num_settled}, got those up to {begin}")
    return Log(words)


def base(state: State, cursor: str) -> Base | None:
    """Return the base of a replay that begins after `cursor`; None if a segment is open or the session is not."""
    if state.phase is not SessionPhase.OPEN or state.segments:
        return None
    numbers = state.numbering
    return Base(
        *(cursor, state.session, numbers.last, state.num_segments, state.source_words),
        producer=numbers.producer,
        replaced=numbers.replaced,
    )


def begin(state: State, base: Base | None) -> State:
    """Return the fresh session as it was at its base, ready to step through the log after it."""
    if base is None:
        return state
    return replace(
        state,
        phase=SessionPhase.OPEN,
        session=base.session,
        numbering=Numbering(base.source_seq, base.producer, base.replaced),
        num_segments=base.num_segments,
        source_words=base.source_words,
        done_words=base.source_words,
    )


def is_whole(state: State, published: Progress) -> bool:
    """Tell whether the replayed log is the one that the session's output was made from."""
    open_ = state.phase in (SessionPhase.OPEN, SessionPhase.CLOSING)
    if not open_ or state.source_words != published.source_words or state.num_segments < published.segment:
        return False
    if published.decode is None:
        return True
    first = next((segment for segment in state.segments if segment.index == published.segment), None)
    return first is not None and published.decode.num_computed_source <= len(first.source.tokens)


def resume(state: State, progress: Progress, published: Published, now_ms: int) -> State:
    """Return the replayed session, ready to continue after its published output.

    Finished segments need no work; `published` are the words of the first unfinished one. Raises ValueError if one is
    missing.
    """
    segments = Segments.of(segment for segment in state.segments if segment.index >= progress.segment)
    if progress.decode is not None and segments.first is not None:
        words = restore(progress.decode, len(segments.first.prompt.target), published)
        segments = segments.with_first(replace(segments.first, decode=progress.decode, words=words))
    return replace(
        state,
        segments=segments,
        seq=progress.seq,
        segment_seq=progress.segment_seq,
        done_words=state.source_words - sum(segment.source.num_words for segment in segments),
        target_words=progress.target_words,
        refused=progress.refused,
        created_ms=progress.created_ms,
        active_ms=now_ms,
    )
