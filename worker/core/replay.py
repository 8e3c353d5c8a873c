"""A session rebuilt after a takeover: its source is read again, and its output is not written again.

The source stream gives the words and the options; the target stream gives the written words of the first unfinished
segment, each with what its tokens saw; the checkpoint (`Progress`, with the segment's `Decode`) gives the rest. The
lane is then fed in one pass, as that of any segment whose lane was evicted.
"""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from protocol import OutputTextDelta, ServerEvent, Session, SessionPhase
from worker.core.log import Log
from worker.core.segment import Decode, WrittenWord
from worker.core.state import Segments, State


class Visible(msgspec.Struct, frozen=True, array_like=True):
    """What goes with a published word for whoever takes its session over: the fields of `WrittenWord` that it lacks."""

    visible_source: tuple[int, ...]
    blank: tuple[int, ...] = ()


Published: TypeAlias = Sequence[tuple[OutputTextDelta, Visible]]
"""The words of a segment, as its target stream tells them."""


class Base(msgspec.Struct, frozen=True, array_like=True):
    """A session between two segments: where its log need not be read again from the beginning."""

    cursor: str  # last source entry before it
    session: Session
    source_seq: int | None
    num_segments: int
    source_words: int


class Progress(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How far a session's output has come."""

    seq: int = 0  # target events published
    segment_seq: int = 0  # of these, the ones up to the end of the last segment that is done
    segment: int = 0  # first segment that is not done
    decode: Decode | None = None  # what there is of it beside its words; None: nothing has been read yet
    source_words: int = 0  # words of all segments that were accepted
    target_words: int = 0  # words of all segments that are published
    refused: int = 0  # source entries turned away for lack of room, which a log read again does not tell
    created_ms: int = 0


def progress(state: State) -> Progress:
    """Return how far the session has come, once all it has numbered is published."""
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
    """Return what goes with each of these events, which the session has just published; None: nothing.

    Only words of the segment that is being translated matter: those of others are not taken over.
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
    """Return the words of a checkpoint's segment as the published ones tell them, behind a target prompt of so many
    tokens.

    Raises ValueError where a word is missing.
    """
    words, begin = list[WrittenWord](), num_prompt_tokens
    for delta, behind in published:
        if delta.index != len(words):
            raise ValueError(f"expected word {len(words)} of segment {delta.segment}, got word {delta.index}")
        word = WrittenWord(
            begin, behind.blank, delta.tokens, behind.visible_source, delta.source_words_read, delta.text
        )
        words.append(word)
        begin = word.end
    if begin != decode.num_settled:
        raise ValueError(f"expected words up to target token {decode.num_settled}, got those up to {begin}")
    return Log(words)


def base(state: State, cursor: str) -> Base | None:
    """Return where a replay may begin that comes after `cursor`; None: not there."""
    if state.phase is not SessionPhase.OPEN or state.segments:
        return None
    return Base(cursor, state.session, state.source_seq, state.num_segments, state.source_words)


def begin(state: State, base: Base | None) -> State:
    """Return the fresh session as it was at its base, ready to step through the log behind that."""
    if base is None:
        return state
    return replace(
        state,
        phase=SessionPhase.OPEN,
        session=base.session,
        source_seq=base.source_seq,
        num_segments=base.num_segments,
        source_words=base.source_words,
        done_words=base.source_words,
    )


def is_whole(state: State, published: Progress) -> bool:
    """Tell whether the log that the session has stepped through again is the one that its output was made from."""
    open_ = state.phase in (SessionPhase.OPEN, SessionPhase.CLOSING)
    if not open_ or state.source_words != published.source_words or state.num_segments < published.segment:
        return False
    if published.decode is None:
        return True
    first = next((segment for segment in state.segments if segment.index == published.segment), None)
    return first is not None and published.decode.num_computed_source <= len(first.source.tokens)


def resume(state: State, progress: Progress, published: Published, now_ms: int) -> State:
    """Return the session that has stepped through its log again, ready to go on behind what is published.

    Segments that are done need no work; `published` are the words of the first that is not. Raises ValueError where one
    is missing.
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
