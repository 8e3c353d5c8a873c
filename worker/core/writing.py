"""From confirmed tokens to finished target words."""

import msgspec
from msgspec.structs import replace

from worker.core import words
from worker.core.rows import Vocabulary
from worker.core.segment import Segment


class Word(msgspec.Struct, frozen=True):
    """A finished target word: bare, and as `text` that concatenates to the translation."""

    index: int
    word: str
    text: str
    tokens: tuple[int, ...]
    source_words_read: int
    needed_ms: int  # when the newest source segment that it waited for arrived


def take(segment: Segment, token: int, vocabulary: Vocabulary) -> tuple[Segment, Word | None]:
    """The segment with one more confirmed token, and the word that it finished.

    A word is finished by the token that begins the next one, by the end, or by its length.
    """
    read = segment.needed_segments() or 0
    word = None
    if ends_word(segment, token, vocabulary):
        segment, word = _finish_word(segment, vocabulary.decode(segment.target[segment.word_begin :]), vocabulary)
    if token in vocabulary.eos_tokens:
        return _end_of_sequence(segment, read), word
    segment = replace(segment, target=(*segment.target, token))
    is_long = len(segment.target) - segment.word_begin >= segment.session.limits.max_tokens_per_word
    if word is None and (is_long or len(segment.target) >= segment.prompt.max_target_tokens):
        segment, word = _finish_word(segment, vocabulary.decode(segment.target[segment.word_begin :]), vocabulary)
    return segment, word


def ends_word(segment: Segment, token: int, vocabulary: Vocabulary) -> bool:
    """Tell whether the token is none of the word that is being written, but the next one's first, or the end."""
    current = segment.target[segment.word_begin :]
    before = vocabulary.decode(current) if current else ""
    is_eos = token in vocabulary.eos_tokens
    return bool(before.strip()) and (is_eos or words.starts_word(before, _piece(current, before, token, vocabulary)))


def _piece(current: tuple[int, ...], before: str, token: int, vocabulary: Vocabulary) -> str:
    after = vocabulary.decode((*current, token))
    return after[len(before) :] if after.startswith(before) else ""


def _end_of_sequence(segment: Segment, read: int) -> Segment:
    # The model ended after `read` segments: believed only when those are all. The word that it finished may have raised
    # the need; what is still to be read may then bring more words.
    if segment.ended and read == len(segment.bounds) - 1:
        return replace(segment, finish_reason="stop")
    if (segment.needed_segments() or 0) > read:
        return segment
    return replace(segment, hold=read + 1)


def _finish_word(segment: Segment, decoded: str, vocabulary: Vocabulary) -> tuple[Segment, Word | None]:
    tokens = segment.target[segment.word_begin :]
    written = replace(segment, word_begin=len(segment.target))
    bare = decoded.strip()
    if not bare:  # nothing but white space, up to the limit: no word to publish
        return written, None
    need = segment.needed_segments() or 1
    word = Word(
        index=len(segment.lags),
        word=bare,
        text=_lead(segment, bare, vocabulary) + bare,
        tokens=tokens,
        source_words_read=segment.words_read,
        needed_ms=segment.arrivals_ms[min(need, len(segment.arrivals_ms)) - 1],
    )
    lags = (*segment.lags, word.source_words_read)
    return replace(written, lags=lags, text=segment.text + word.text, previous_begin=segment.word_begin), word


def _lead(segment: Segment, bare: str, vocabulary: Vocabulary) -> str:
    # What the tokenizer puts between the last word and this one; tokenizers show it only within one decode.
    if not segment.text:
        return ""
    last = vocabulary.decode(segment.target[segment.previous_begin : segment.word_begin])
    both = vocabulary.decode(segment.target[segment.previous_begin :])
    if not both.startswith(last):
        return words.separator(segment.text[-1:], bare)
    piece = both[len(last) :]
    return piece[: len(piece) - len(piece.lstrip())]
