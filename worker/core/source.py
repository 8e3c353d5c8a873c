"""The source of a segment: the log of its words and their tokens.

A segment's tokens are `[prompt, word 1 … word N, end]`. They are read word by word: the prompt together with word 1,
and the end marker as if it were word N + 1.
"""

import msgspec
from msgspec.structs import replace

from worker.core.append_log import Log
from worker.core.normalize import without_pictographs
from worker.core.rows import Prompt, Vocabulary
from worker.core.runaway import is_language


class Source(msgspec.Struct, frozen=True):
    """The source words of one segment: the first n, the end counted as the last, are the tokens before `bounds[n]`."""

    prompt: Prompt
    words: Log[str]
    tokens: Log[int]
    bounds: Log[int]
    arrivals_ms: Log[int]  # of each word and of the end
    ended: bool = False
    is_copied: bool = False  # no word so far can be translated
    last_read: str = ""  # the newest word as the model reads it; "" before the first

    @property
    def num_words(self) -> int:
        """Number of words that have arrived."""
        return len(self.words)

    @property
    def num_readable_words(self) -> int:
        """Number of words that can be read: those that have arrived, and one more for the end."""
        return len(self.bounds) - 1

    def num_words_in(self, num_tokens: int) -> int:
        """Return how many words lie wholly within the first `num_tokens` tokens; the end counts as a word."""
        return max(0, self.bounds.bisect_right(num_tokens) - 1)

    def waiting_ms(self, num_tokens: int) -> int:
        """Return when the first word (or the end) beyond `num_tokens` arrived; if there is none, the newest."""
        return self.arrivals_ms[min(self.num_words_in(num_tokens), self.num_readable_words - 1)]


def begin(prompt: Prompt, *, is_copied: bool = False) -> Source:
    """Return the source of a segment without words; `is_copied`: until a word can be translated."""
    return Source(prompt, Log(), Log(prompt.source), Log((len(prompt.source),)), Log(), is_copied=is_copied)


def readable(prompt: Prompt, word: str) -> str:
    """Return what the model reads of a word, "" for nothing: models with group positions, trained for Decalage on
    text, have not learned pictographs, and write nonsense behind one.
    """
    return word if prompt.is_contiguous or not prompt.is_translation else without_pictographs(word)


def encode(source: Source, word: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the tokens of the readable part of the word that comes next."""
    return vocabulary.encode_word(readable(source.prompt, word), source.last_read)


def append(source: Source, word: str, tokens: tuple[int, ...], now_ms: int) -> Source:
    """Return the source with one more word; `tokens` are those of its readable part, as from `encode`.

    Words that are copied are kept whole. With a word that can be translated, all are kept as the model reads them, and
    those of which it reads nothing are left out: they do not count.
    """
    read = readable(source.prompt, word)
    is_copied = source.is_copied and not (tokens and is_language(read, source.prompt.source_language))
    if source.is_copied and not is_copied:
        source = _as_read(source)
    if word and not (is_copied or read):
        return source
    words = source.words.append(word if is_copied else read)
    last_read = read or source.last_read
    return replace(_extended(source, tokens, now_ms), words=words, is_copied=is_copied, last_read=last_read)


def _as_read(copied: Source) -> Source:
    source = begin(copied.prompt)
    for i, word in enumerate(copied.words):
        source = append(source, word, copied.tokens[copied.bounds[i] : copied.bounds[i + 1]], copied.arrivals_ms[i])
    return source


def end(source: Source, now_ms: int) -> Source:
    """Return the source with its end marker."""
    return replace(_extended(source, source.prompt.end, now_ms), ended=True)


def _extended(source: Source, tokens: tuple[int, ...], now_ms: int) -> Source:
    return replace(
        source,
        tokens=source.tokens.extend(tokens),
        bounds=source.bounds.append(len(source.tokens) + len(tokens)),
        arrivals_ms=source.arrivals_ms.append(now_ms),
    )
