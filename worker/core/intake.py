"""Source words taken into a session: into its open segment, with the end of a segment and the start of the next."""

from typing import Final

from msgspec.structs import replace

from protocol import ProtocolError
from worker.core import segment as segments
from worker.core import sentences, words
from worker.core import source as sources
from worker.core.rows import Vocabulary
from worker.core.segment import Segment
from worker.core.sentences import Ending
from worker.core.state import State, backlog_words

MAX_SEGMENT_WORDS: Final = 60
"""Longest segment that ends by itself, for a model whose card names no limit: with segmentation "sentence", and in a
contiguous layout, where each read feeds the whole target again.
"""


class BacklogFull(ProtocolError):
    """More words would wait for translation than the session allows; the same event may be sent again later."""

    code = "backlog_full"


class SegmentTooLong(ProtocolError):
    """The segment would have more source tokens than the model has positions for."""

    code = "segment_too_long"


def check_backlog(state: State, text: str) -> None:
    """Check that the session's backlog has room for the words of `text`. Raises BacklogFull."""
    waiting, coming, limit = backlog_words(state), len(words.source_words(text)), state.session.limits.max_backlog_words
    if waiting + coming > limit:
        raise BacklogFull(
            f"the session holds {waiting} untranslated words, {coming} more pass its limit of {limit}; "
            "wait for its output and send this event again"
        )


def append(state: State, text: str, now_ms: int, vocabulary: Vocabulary) -> State:
    """Return the session with the words of `text` added. Raises SegmentTooLong."""
    for word in words.source_words(text):
        state = _append_word(_end_before(state, word, now_ms), word, now_ms, vocabulary)
    return state


def _end_before(state: State, word: str, now_ms: int) -> State:
    # The next word decides whether an abbreviation ends its sentence.
    last = state.segments.last
    if last is None or last.source.ended or not last.source.words:
        return state
    if last.session.segmentation != "sentence":
        # Not before the next word: the producer may end the segment itself behind this one.
        return end_last(state, now_ms) if _is_full(last) and _is_bounded(last) else state
    ending = sentences.ends(last.source.last_read, word, last.session.source_language)
    return end_last(state, now_ms) if ending is Ending.YES else state


def _append_word(state: State, word: str, now_ms: int, vocabulary: Vocabulary) -> State:
    state, last = _open_segment(state, vocabulary)
    is_sentence = last.session.segmentation == "sentence"
    tokens = sources.encode(last.source, word, vocabulary)
    num_tokens = len(last.source.tokens) + len(tokens) + len(last.prompt.end)
    is_too_long = num_tokens > last.prompt.max_source_tokens
    if is_too_long and (is_sentence or _is_bounded(last)) and last.source.words:
        return _append_word(end_last(state, now_ms), word, now_ms, vocabulary)
    if is_too_long and is_sentence and last.source.is_copied:
        tokens = ()  # no segment can hold the word: copy it, as a segment of its own
    elif is_too_long:
        raise SegmentTooLong(
            f"segment {last.index} would hold {num_tokens} source tokens with the word {last.source.num_words + 1}, "
            f"the model takes {last.prompt.max_source_tokens}; send input_text.finalize at the end of each sentence, "
            'or create the session with segmentation "sentence"'
        )
    before, last = last, segments.append(last, word, tokens, now_ms)
    source_words = state.source_words + last.source.num_words - before.source.num_words
    if is_sentence and (is_too_long or _is_full(last) or _ends_sentence(last)):
        last = segments.end(last, now_ms)
    return replace(state, segments=state.segments.with_last(last), source_words=source_words)


def _is_full(segment: Segment) -> bool:
    return segment.source.num_words >= (segment.prompt.max_segment_words or MAX_SEGMENT_WORDS)


def _is_bounded(segment: Segment) -> bool:
    return segment.prompt.is_contiguous and segment.session.mode == "streaming"


def _ends_sentence(segment: Segment) -> bool:
    return sentences.ends(segment.source.last_read, None, segment.session.source_language) is Ending.YES


def _open_segment(state: State, vocabulary: Vocabulary) -> tuple[State, Segment]:
    # The segment for the next word: the last one, or a new one with the present options.
    last = state.segments.last
    if last is not None and not last.source.ended:
        return state, last
    index = state.num_segments
    fresh = segments.begin(index, (state.number, index), state.session, vocabulary)
    return replace(state, segments=state.segments.add(fresh), num_segments=index + 1), fresh


def finalize(state: State, now_ms: int, vocabulary: Vocabulary) -> State:
    """Return the session with its open segment ended. Without an open one, add an empty segment, except with
    segmentation "sentence".
    """
    newest = state.segments.last
    is_open = newest is not None and not newest.source.ended
    if not is_open and state.session.segmentation == "sentence":
        return state  # the sentence's full stop has ended the segment already
    state, last = _open_segment(state, vocabulary)
    return replace(state, segments=state.segments.with_last(segments.end(last, now_ms)))


def end_last(state: State, now_ms: int) -> State:
    """Return the session with its open segment, if there is one, ended."""
    last = state.segments.last
    if last is None or last.source.ended:
        return state
    return replace(state, segments=state.segments.with_last(segments.end(last, now_ms)))
