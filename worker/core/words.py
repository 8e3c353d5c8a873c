"""Words in running text, with and without spaces between them: one set of rules for source and target.

A word is a run between white space. Scripts written without spaces (Chinese, Japanese, Thai, Lao, Khmer,
Burmese) have one word per character, with the opening punctuation before it, and the marks and closing punctuation
behind it.
"""

import re
import unicodedata

from worker.core.normalize import narrow, normalize
from worker.core.sentences import ends_sentence as ends_sentence  # words end sentences: found here too

_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # CJK radicals
    (0x3001, 0x303F),  # CJK punctuation and marks
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF01, 0xFF0F),  # full-width punctuation; full-width letters and digits stay together
    (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF40),
    (0xFF5B, 0xFF9F),  # and half-width Katakana
    (0x20000, 0x3FFFF),  # Han, further extensions
)
# Most text has none of them: one search is many times faster than a look at every character.
_ANY_SPACELESS = re.compile(f"[{''.join(f'{chr(start)}-{chr(stop)}' for start, stop in _SPACELESS)}]")
_OPENING = ("Ps", "Pi")  # Unicode categories of brackets and quotes that belong to what follows
UNFINISHED = "\ufffd"  # a decoder's output for the first bytes of a character whose last bytes are missing


def is_spaceless(char: str) -> bool:
    """Tell whether `char` belongs to a script that puts no spaces between words.

    >>> is_spaceless("語"), is_spaceless("é")
    (True, False)
    """
    return _ANY_SPACELESS.match(char) is not None


def _breaks(left: str, right: str) -> bool:
    # Tell whether a word ends between two neighbouring characters, neither of them white space.
    if not (is_spaceless(left) or is_spaceless(right)):
        return False
    if unicodedata.category(left) in _OPENING:
        return False
    kind = unicodedata.category(right)
    return kind in _OPENING or kind[0] not in "MP"  # marks and other punctuation stay with what they follow


def split_words(text: str) -> list[str]:
    """Split `text` into bare words.

    >>> split_words("The café  is open.")
    ['The', 'café', 'is', 'open.']
    >>> split_words("今日は、Redis を使う。")
    ['今', '日', 'は、', 'Redis', 'を', '使', 'う。']
    """
    if not _ANY_SPACELESS.search(text):
        return text.split()
    words: list[str] = []
    for run in text.split():
        start = 0
        for i in range(1, len(run)):
            if _breaks(run[i - 1], run[i]):
                words.append(run[start:i])
                start = i
        words.append(run[start:])
    return words


def source_words(text: str) -> list[str]:
    """Split `text` into words as the model reads them; invisible characters are no words.

    >>> source_words("Ｉ kn\u00adow！ \u200b 今日！")
    ['I', 'know!', '今', '日！']
    """
    return [narrow(word) for word in split_words(normalize(text))]


def separator(left: str, right: str) -> str:
    """Return the text between two neighbouring words: a space, or nothing in scripts without spaces.

    >>> separator("Hello", "world"), separator("世", "界"), separator("", "Hello")
    (' ', '', '')
    """
    # Search the whole words: quotes and dashes, with which a word may begin or end, belong to all scripts.
    if not left or not right or (_ANY_SPACELESS.search(left) and _ANY_SPACELESS.search(right)):
        return ""
    return " "


def starts_word(before: str, piece: str) -> bool:
    """Tell whether `piece`, decoded right after the word `before`, begins another word.

    `before` may end in UNFINISHED: text that follows it shows that it stays broken.

    >>> starts_word("parc", " et"), starts_word("par", "c"), starts_word("世", "界"), starts_word("世", "。")
    (True, False, True, False)
    """
    if not piece or not before.strip():
        return False
    return before[-1].isspace() or piece[0].isspace() or _breaks(before[-1], piece[0])


def target_words(text: str) -> list[str]:
    """Return the words to publish of decoded target text: usually one, none where it has only white space and broken
    characters, several where one token holds several.

    >>> target_words(" caf\ufffd"), target_words(" of the"), target_words("\ufffd ")
    (['caf'], ['of', 'the'], [])
    """
    return text.replace(UNFINISHED, "").split()
