"""Turning confirmed tokens into finished target words."""

import msgspec
from msgspec.structs import replace

from worker.core import runaway, sentences, words
from worker.core.rows import Vocabulary
from worker.core.segment import Segment, WrittenWord, target_tokens


class Word(msgspec.Struct, frozen=True):
    """A newly finished target word."""

    index: int
    written: WrittenWord
    needed_ms: int  # arrival of the newest source word (or the end) that it waited for


def take(segment: Segment, token: int, vocabulary: Vocabulary) -> tuple[Segment, list[Word]]:
    """Return the segment with one more confirmed token, and the words that the token finishes.

    A word is finished by the token that begins the next one, by white space, by the end, or by its length. Where the
    model only goes on in a loop, or with nothing that becomes a word, its translation ends, or waits for more source.
    """
    read = segment.needed_words() or 0
    finished: list[Word] = []
    is_loop = _ends_in_loop(segment, token, read)
    has_ended = ends_word(segment, token, vocabulary) or (is_loop and bool(_text(segment, vocabulary).strip()))
    if has_ended:
        segment, finished = _finish_word(segment, vocabulary)
    if token in vocabulary.eos_tokens:
        return _end_of_sequence(segment, read, "stop"), finished
    if is_loop or (has_ended and not finished and _is_blank(segment)):
        return _end_of_sequence(segment, read, "length"), finished
    segment = confirm(segment, token)
    if not has_ended and _is_cut(segment, vocabulary):
        segment, finished = _finish_word(segment, vocabulary)
        if not finished and _is_blank(segment):
            return _end_of_sequence(segment, read, "length"), []
    return segment, finished


def copy(segment: Segment) -> tuple[Segment, list[Word]]:
    """Return the segment finished with a copy of its source words, and these; for source that cannot be translated."""
    source, arrived_ms = segment.source, segment.source.arrivals_ms[-1]
    copied = source.words[: segment.session.limits.max_new_words]
    before = ("", *copied)
    written = [
        WrittenWord(segment.decode.num_settled, (), (), (), source.num_words, words.separator(left, word) + word)
        for left, word in zip(before, copied, strict=False)
    ]
    reason = "stop" if len(copied) == source.num_words else "length"
    copied_words = [Word(i, word, arrived_ms) for i, word in enumerate(written)]
    return replace(segment, words=segment.words.extend(written), finish_reason=reason), copied_words


def confirm(segment: Segment, token: int) -> Segment:
    """Return the segment with one more confirmed token, without a check for finished words."""
    return replace(segment, decode=replace(segment.decode, tokens=(*segment.decode.tokens, token)))


def ends_word(segment: Segment, token: int, vocabulary: Vocabulary) -> bool:
    """Tell whether the token does not belong to the word being written: it begins the next one, or is the end."""
    before = _text(segment, vocabulary)
    is_eos = token in vocabulary.eos_tokens
    piece = "" if is_eos else _piece(segment.word_tokens, before, token, vocabulary)
    return bool(before.strip()) and (is_eos or words.starts_word(before, piece))


def ends_too_early(segment: Segment, token: int, vocabulary: Vocabulary) -> bool:
    """Tell whether the token finishes a word with which more sentences end than in the source read so far.

    A model takes a part of a sentence for a whole one, and says nothing of what comes behind it: the word waits until
    more source is read.
    """
    if not _can_end_early(segment):
        return False
    word = _text(segment, vocabulary)
    if not ends_word(segment, token, vocabulary):
        word += _piece(segment.word_tokens, word, token, vocabulary)
        if word == word.rstrip():
            return False
    return _has_too_many_ends(segment, word)


def closes_too_early(segment: Segment, token: int, vocabulary: Vocabulary) -> bool:
    """Tell whether the word would have too many sentence ends with the token, whether or not that finishes it.

    For tokens that a policy confirms before the word's end is known.
    """
    if not _can_end_early(segment) or token in vocabulary.eos_tokens:
        return False
    word = _text(segment, vocabulary)
    return _has_too_many_ends(segment, word + _piece(segment.word_tokens, word, token, vocabulary))


def _can_end_early(segment: Segment) -> bool:
    return segment.prompt.is_translation and not segment.is_read and segment.needed_words() is not None


def _has_too_many_ends(segment: Segment, word: str) -> bool:
    language, source_language = segment.session.target_language or "en", segment.session.source_language
    if not sentences.ends_sentence(word.strip(), language=language):
        return False
    num_ended = sum(sentences.ends_sentence(written.text.strip(), language=language) for written in segment.words)
    heard = segment.source.words[: segment.needed_words()]
    return num_ended >= sum(sentences.ends_sentence(word, language=source_language) for word in heard)


def _text(segment: Segment, vocabulary: Vocabulary) -> str:
    # The confirmed part of the word being written.
    return vocabulary.decode(segment.word_tokens) if segment.word_tokens else ""


def _piece(current: tuple[int, ...], before: str, token: int, vocabulary: Vocabulary) -> str:
    after = vocabulary.decode((*current, token))
    return after[len(before) :] if after.startswith(before) else ""


def ends_in_space(segment: Segment, vocabulary: Vocabulary) -> bool:
    """Tell whether white space stands behind the word that is being written: nothing more belongs to it."""
    text = _text(segment, vocabulary)
    return text != text.rstrip() != ""


def _is_cut(segment: Segment, vocabulary: Vocabulary) -> bool:
    # Tell whether the word must end: by its length, or by white space at the end of its last token.
    is_long = len(segment.word_tokens) >= segment.session.limits.max_tokens_per_word
    is_last = segment.num_target >= segment.max_target_tokens
    return is_long or is_last or ends_in_space(segment, vocabulary)


def _is_blank(segment: Segment) -> bool:
    return segment.prompt.is_translation and segment.decode.num_blank >= runaway.MAX_BLANK_TOKENS


def _ends_in_loop(segment: Segment, token: int, read: int) -> bool:
    # Most tokens are not among the last ones, so this cheap test comes first.
    if not segment.prompt.is_translation or token not in _written(segment, runaway.MAX_PERIOD_TOKENS):
        return False
    if not runaway.ends_in_loop((*_written(segment, runaway.MAX_LOOP_TOKENS), token), ()):
        return False
    source = segment.source
    stop = source.bounds[min(read, source.num_readable_words)]
    read_tokens = source.tokens[max(source.bounds[0], stop - runaway.MAX_LOOP_TOKENS) : stop]
    return runaway.ends_in_loop((*_written(segment, runaway.MAX_TAIL_TOKENS), token), read_tokens)


def _written(segment: Segment, num_tokens: int) -> tuple[int, ...]:
    # At most the last `num_tokens` of the translation.
    return target_tokens(segment, max(len(segment.prompt.target), segment.num_target - num_tokens))


def _end_of_sequence(segment: Segment, read: int, reason: str) -> Segment:
    # The model ended after `read` words: accept that only if those are all. The word that it finished may have
    # raised the need; the source still to be read may then bring more words.
    if segment.source.ended and read == segment.source.num_readable_words:
        return replace(segment, finish_reason=reason)
    if (segment.needed_words() or 0) > read:
        return segment
    return replace(segment, decode=replace(segment.decode, hold=read + 1))


def _finish_word(segment: Segment, vocabulary: Vocabulary) -> tuple[Segment, list[Word]]:
    decode, arrivals_ms, num_words = segment.decode, segment.source.arrivals_ms, len(segment.words)
    limit = segment.session.limits.max_new_words
    parts = words.target_words(_text(segment, vocabulary))[: None if limit is None else limit - num_words]
    if not parts:  # only white space or broken characters: no word to publish
        return replace(segment, decode=replace(decode, num_blank=len(decode.tokens))), []
    first = WrittenWord(
        begin=decode.num_settled,
        blank=decode.tokens[: decode.num_blank],
        tokens=segment.word_tokens,
        visible_source=decode.visible_source[: len(decode.tokens)],
        source_words_read=segment.words_read,
        text=_lead(segment, parts[0], vocabulary) + parts[0],
    )
    # Few tokenizers have tokens of several words: the first word has the token.
    others = [WrittenWord(first.end, (), (), (), first.source_words_read, f" {part}") for part in parts[1:]]
    need = segment.needed_words() or 1
    needed_ms = arrivals_ms[min(need, len(arrivals_ms)) - 1]
    behind = replace(
        decode,
        num_settled=first.end,
        tokens=(),
        num_blank=0,
        visible_source=decode.visible_source[len(decode.tokens) :],
    )
    after = replace(segment, words=segment.words.extend((first, *others)), decode=behind)
    return after, [Word(i, word, needed_ms) for i, word in enumerate((first, *others), num_words)]


def _lead(segment: Segment, bare: str, vocabulary: Vocabulary) -> str:
    # The text between the last word and this one; tokenizers show it only within one decode.
    if not segment.words:
        return ""
    before = target_tokens(segment, _last_begin(segment))[: -len(segment.word_tokens)]
    last, both = vocabulary.decode(before), vocabulary.decode(before + segment.word_tokens)
    if not both.startswith(last):
        return words.separator(segment.words[-1].text[-1:], bare)
    piece = both[len(last) :]
    return piece[: len(piece) - len(piece.lstrip())]


def _last_begin(segment: Segment) -> int:
    # Index into the target of the last word that has tokens.
    with_tokens = (segment.words[-i] for i in range(1, len(segment.words) + 1) if segment.words[-i].tokens)
    return next(word.end - len(word.tokens) for word in with_tokens)
