"""Checks that keep a translation near its source: a bound on its words, loops, and words to copy untranslated.

Measured on 14,028 pairs (news, captions, everyday sentences, English to French and German): no reference has more than
2n + 12 words for n source words, and none repeats a cycle three times over 8 tokens or more.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Final

from worker.core.languages import NAMES, language_code

_WORDS_PER_WORD: Final = 3
_FREE_WORDS: Final = 10
_CHARACTERS_PER_WORD: Final = 3  # in scripts without spaces, where each character is a word
MAX_PERIOD_TOKENS: Final = 32
_MIN_REPEATS: Final = 4
MAX_LOOP_TOKENS: Final = MAX_PERIOD_TOKENS * _MIN_REPEATS
"""Tokens at the end that are enough to show any loop, where the source has none."""
MAX_TAIL_TOKENS: Final = 4 * MAX_LOOP_TOKENS
MAX_BLANK_TOKENS: Final = 32
"""White space and broken characters on end that become no word; a model that goes on with more has nothing to say."""
_FREE_LOOP_TOKENS: Final = 16
_MAX_WORD_CHARS: Final = 100  # longer than natural words

_SCRIPTS: Final = {
    "ar": "ARABIC", "bg": "CYRILLIC", "el": "GREEK", "he": "HEBREW", "hi": "DEVANAGARI", "ja": "HIRAGANA KATAKANA CJK",
    "ko": "HANGUL CJK", "ru": "CYRILLIC", "th": "THAI", "uk": "CYRILLIC", "zh": "CJK",
}  # fmt: skip
"""First words of the Unicode names of a language's letters; LATIN for the others that have an English name here."""


def max_target_words(source_words: int, *, is_spaceless: bool = False) -> int:
    """Return the most target words for `source_words`; `is_spaceless`: each character of the target is a word.

    >>> max_target_words(1), max_target_words(20), max_target_words(20, is_spaceless=True)
    (13, 70, 210)
    """
    return (_WORDS_PER_WORD * source_words + _FREE_WORDS) * (_CHARACTERS_PER_WORD if is_spaceless else 1)


def min_source_words(target_words: int, *, is_spaceless: bool = False) -> int:
    """Return the fewest source words that allow one target word more than `target_words`.

    >>> min_source_words(12), min_source_words(13), min_source_words(16)
    (1, 2, 3)
    """
    words = target_words // _CHARACTERS_PER_WORD if is_spaceless else target_words
    return max(1, (words - _FREE_WORDS) // _WORDS_PER_WORD + 1)


def ends_in_loop(target: Sequence[int], source: Sequence[int]) -> bool:
    """Tell whether the last target tokens only repeat a cycle that the source does not repeat.

    A cycle of at most 32 tokens, four times and over 16 tokens at least; twice the longest loop in the last 128 source
    tokens is free. Only the last MAX_TAIL_TOKENS of the target matter.

    >>> ends_in_loop([7, 8] * 9, source=[1, 2, 3]), ends_in_loop([7, 8] * 9, source=[1] * 9)
    (True, False)
    """
    if not _tail_loop(target, _FREE_LOOP_TOKENS + 1):
        return False
    free_tokens = 2 * longest_loop(source[-MAX_LOOP_TOKENS:])
    return not free_tokens or _tail_loop(target, _FREE_LOOP_TOKENS + 1 + free_tokens)


def _tail_loop(tokens: Sequence[int], num_tokens: int) -> bool:
    # Tell whether at least the last `num_tokens` repeat a cycle.
    tail = tuple(tokens[-max(num_tokens, MAX_LOOP_TOKENS) :])
    for period in range(1, MAX_PERIOD_TOKENS + 1):
        span = max(num_tokens, _MIN_REPEATS * period)
        if span <= len(tail) and tail[-1] == tail[-1 - period] and tail[-span:-period] == tail[period - span :]:
            return True
    return False


def longest_loop(tokens: Sequence[int]) -> int:
    """Return the length of the longest run that repeats a cycle of at most 32 tokens at least twice.

    >>> longest_loop([5, 1, 2, 1, 2, 1, 9]), longest_loop([1, 2, 3])
    (5, 0)
    """
    longest = 0
    for period in range(1, min(MAX_PERIOD_TOKENS, len(tokens) // 2) + 1):
        run = 0
        for token, earlier in zip(islice(tokens, period, None), tokens, strict=False):
            run = run + 1 if token == earlier else 0
            if run >= period:
                longest = max(longest, run + period)
    return longest


def is_language(word: str, source_language: str | None = None) -> bool:
    """Tell whether a bare word can be translated: it has letters, of the script of `source_language` where the model
    reads only that; it is no address, and not longer than natural words.

    >>> [is_language(word, "en") for word in ("café", "2nd", "♪", "--", "1,000", "где", "https://a.org", "x" * 200)]
    [True, True, False, False, False, False, False, False]
    """
    if len(word) > _MAX_WORD_CHARS or "://" in word or word.startswith("www."):
        return False
    scripts = _scripts(source_language)
    return any(char.isalpha() and (not scripts or _script(char) in scripts) for char in word)


@lru_cache(maxsize=64)
def _scripts(language: str | None) -> frozenset[str]:
    # Empty where any script is allowed.
    code = language_code(language or "")
    return frozenset((_SCRIPTS.get(code, "LATIN") if code in NAMES else "").split())


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    return unicodedata.name(char, "").partition(" ")[0]
