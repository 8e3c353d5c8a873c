"""What the words of a producer do to a session: they go into its open segment, end it, begin another."""

from msgspec.structs import replace

from protocol import ProtocolError
from worker.core import segment as segments
from worker.core import words
from worker.core.rows import Vocabulary
from worker.core.segment import Segment
from worker.core.state import State, backlog_words


class BacklogFull(ProtocolError):
    """More words wait for translation than the session allows; the same event may be sent again later."""

    code = "backlog_full"


class SegmentTooLong(ProtocolError):
    """A segment would have more source tokens than the model has positions for."""

    code = "segment_too_long"


def check_backlog(state: State, text: str) -> None:
    """Raises BacklogFull where the words of `text` would be too many."""
    waiting, coming, limit = backlog_words(state), len(words.split_words(text)), state.session.limits.max_backlog_words
    if waiting + coming > limit:
        raise BacklogFull(
            f"the session holds {waiting} untranslated words, {coming} more pass its limit of {limit}; "
            "wait for its output and send this event again"
        )


def append(state: State, text: str, now_ms: int, vocabulary: Vocabulary) -> State:
    """The session with the words of `text`. Raises SegmentTooLong."""
    new_words = words.split_words(text)
    for word in new_words:
        state = _append_word(state, word, now_ms, vocabulary)
    return replace(state, source_words=state.source_words + len(new_words))


def _append_word(state: State, word: str, now_ms: int, vocabulary: Vocabulary) -> State:
    state, last = _open_segment(state, vocabulary)
    tokens = vocabulary.encode_word(word, last.source.last_word)
    num_tokens = len(last.source.tokens) + len(tokens) + len(last.prompt.end)
    if num_tokens > last.prompt.max_source_tokens:
        raise SegmentTooLong(
            f"segment {last.index} would hold {num_tokens} source tokens with the word {last.source.num_words + 1}, "
            f"the model takes {last.prompt.max_source_tokens}; send input_text.finalize at the end of each sentence, "
            'or create the session with segmentation "sentence"'
        )
    last = segments.append(last, word, tokens, now_ms)
    if last.session.segmentation == "sentence":
        longest = last.prompt.max_segment_words
        if words.ends_sentence(word) or (longest is not None and last.source.num_words >= longest):
            last = segments.end(last, now_ms)
    return replace(state, segments=state.segments.with_last(last))


def _open_segment(state: State, vocabulary: Vocabulary) -> tuple[State, Segment]:
    # The segment that takes the next word: the last one, or a new one with the options of now.
    last = state.segments.last
    if last is not None and not last.source.ended:
        return state, last
    index = state.num_segments
    fresh = segments.begin(index, (state.number, index), state.session, vocabulary)
    return replace(state, segments=state.segments.add(fresh), num_segments=index + 1), fresh


def finalize(state: State, now_ms: int, vocabulary: Vocabulary) -> State:
    """The session whose open segment has ended; without words it is an empty one, unless sentences end by
    themselves.
    """
    newest = state.segments.last
    is_open = newest is not None and not newest.source.ended
    if not is_open and state.session.segmentation == "sentence":
        return state  # the sentence's own full stop has ended the segment already
    state, last = _open_segment(state, vocabulary)
    return replace(state, segments=state.segments.with_last(segments.end(last, now_ms)))


def end_last(state: State, now_ms: int) -> State:
    """The session whose open segment, if there is one, has ended."""
    last = state.segments.last
    if last is None or last.source.ended:
        return state
    return replace(state, segments=state.segments.with_last(segments.end(last, now_ms)))
