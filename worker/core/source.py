"""The source of a segment: the log of its words and their tokens.

A segment's tokens are `[prompt, word 1 … word N, end]`. They are read in units called source segments: the prompt with
word 1, then a word each, and the end marker as number N + 1.
"""

import msgspec
from msgspec.structs import replace

from worker.core.append_log import Log
from worker.core.rows import Prompt
from worker.core.runaway import is_language


class Source(msgspec.Struct, frozen=True):
    """The log of one segment: n source segments are the tokens before `bounds[n]`."""

    prompt: Prompt
    words: Log[str]
    tokens: Log[int]
    bounds: Log[int]
    arrivals_ms: Log[int]  # of each source segment
    ended: bool = False
    is_copied: bool = False  # no word so far can be translated

    @property
    def num_words(self) -> int:
        """Words that have arrived."""
        return len(self.words)

    @property
    def num_segments(self) -> int:
        """Source segments that have arrived: the words, and the end."""
        return len(self.bounds) - 1

    @property
    def last_word(self) -> str:
        """The newest word; "" before the first one."""
        return self.words[-1] if self.words else ""

    def segments_in(self, num_tokens: int) -> int:
        """Return how many source segments lie wholly within the first `num_tokens` tokens."""
        return max(0, self.bounds.bisect_right(num_tokens) - 1)

    def waiting_ms(self, num_tokens: int) -> int:
        """Return the arrival time of the first source segment beyond `num_tokens`; if there is none, of the newest."""
        return self.arrivals_ms[min(self.segments_in(num_tokens), self.num_segments - 1)]


def begin(prompt: Prompt, *, is_copied: bool = False) -> Source:
    """Return the source of a segment without words; `is_copied`: until a word can be translated."""
    return Source(prompt, Log(), Log(prompt.source), Log((len(prompt.source),)), Log(), is_copied=is_copied)


def append(source: Source, word: str, tokens: tuple[int, ...], now_ms: int) -> Source:
    """Return the source with one more word; the model does not read a word without tokens."""
    is_copied = source.is_copied and not (tokens and is_language(word, source.prompt.source_language))
    return replace(_extended(source, tokens, now_ms), words=source.words.append(word), is_copied=is_copied)


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
