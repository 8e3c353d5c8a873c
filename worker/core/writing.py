"""From confirmed tokens to finished target words."""

import msgspec
from msgspec.structs import replace

from worker.core import words
from worker.core.rows import Vocabulary
from worker.core.segment import Segment, WrittenWord


class Word(msgspec.Struct, frozen=True):
    """A target word that has just been finished."""

    index: int
    written: WrittenWord
    needed_ms: int  # when the newest source segment arrived that it waited for


def take(segment: Segment, token: int, vocabulary: Vocabulary) -> tuple[Segment, Word | None]:
    """Return the segment with one more confirmed token, and the word that it finished.

    A word is finished by the token that begins the next one, by the end, or by its length.
    """
    read = segment.needed_segments() or 0
    word = None
    if ends_word(segment, token, vocabulary):
        segment, word = _finish_word(segment, vocabulary)
    if token in vocabulary.eos_tokens:
        return _end_of_sequence(segment, read), word
    segment = confirm(segment, token)
    is_long = len(segment.word_tokens) >= segment.session.limits.max_tokens_per_word
    if word is None and (is_long or segment.num_target >= segment.prompt.max_target_tokens):
        segment, word = _finish_word(segment, vocabulary)
    return segment, word


def confirm(segment: Segment, token: int) -> Segment:
    """Return the segment with one more confirmed token, be its word finished or not."""
    return replace(segment, decode=replace(segment.decode, tokens=(*segment.decode.tokens, token)))


def ends_word(segment: Segment, token: int, vocabulary: Vocabulary) -> bool:
    """Tell whether the token is none of the word that is being written, but the next one's first, or the end."""
    current = segment.word_tokens
    before = vocabulary.decode(current) if current else ""
    is_eos = token in vocabulary.eos_tokens
    return bool(before.strip()) and (is_eos or words.starts_word(before, _piece(current, before, token, vocabulary)))


def _piece(current: tuple[int, ...], before: str, token: int, vocabulary: Vocabulary) -> str:
    after = vocabulary.decode((*current, token))
    return after[len(before) :] if after.startswith(before) else ""


def _end_of_sequence(segment: Segment, read: int) -> Segment:
    # The model ended after `read` segments: believed only when those are all. The word that it finished may have raised
    # the need; what is still to be read may then bring more words.
    if segment.source.ended and read == segment.source.num_segments:
        return replace(segment, finish_reason="stop")
    if (segment.needed_segments() or 0) > read:
        return segment
    return replace(segment, decode=replace(segment.decode, hold=read + 1))


def _finish_word(segment: Segment, vocabulary: Vocabulary) -> tuple[Segment, Word | None]:
    decode, arrivals_ms = segment.decode, segment.source.arrivals_ms
    bare = vocabulary.decode(segment.word_tokens).strip()
    if not bare:  # nothing but white space, up to the limit: no word to publish
        return replace(segment, decode=replace(decode, num_blank=len(decode.tokens))), None
    written = WrittenWord(
        begin=segment.num_settled,
        blank=decode.tokens[: decode.num_blank],
        tokens=segment.word_tokens,
        visible_source=decode.visible_source[: len(decode.tokens)],
        source_words_read=segment.words_read,
        text=_lead(segment, bare, vocabulary) + bare,
    )
    need = segment.needed_segments() or 1
    word = Word(len(segment.words), written, needed_ms=arrivals_ms[min(need, len(arrivals_ms)) - 1])
    behind = replace(decode, tokens=(), num_blank=0, visible_source=decode.visible_source[len(decode.tokens) :])
    return replace(segment, words=segment.words.append(written), decode=behind), word


def _lead(segment: Segment, bare: str, vocabulary: Vocabulary) -> str:
    # What the tokenizer puts between the last word and this one; tokenizers show it only within one decode.
    if not segment.words:
        return ""
    before = segment.words[-1].tokens + segment.decode.tokens[: segment.decode.num_blank]
    last, both = vocabulary.decode(before), vocabulary.decode(before + segment.word_tokens)
    if not both.startswith(last):
        return words.separator(segment.words[-1].text[-1:], bare)
    piece = both[len(last) :]
    return piece[: len(piece) - len(piece.lstrip())]
