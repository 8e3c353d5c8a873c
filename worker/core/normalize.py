"""Source text as the model reads it: without invisible characters, and each character in one form.

Records keep the original text. Canonical equivalence is resolved (NFC), but not all of
NFKC: `m²`, `½`, `①` and `™` are not `m2`, `1⁄2`, `1` and `TM`. Only differences of shape are removed: ligatures,
full-width letters, presentation forms, typographic letters, units in one square.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

# Unicode 15, property Default_Ignorable_Code_Point; then the marks of interlinear annotation, the signs for an object
# and for a character that was lost, and the Braille blank.
_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ufff9-\ufffd\u2800"
)
_CONTROLS: Final = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
_FLAG: Final = "(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f)"  # of England and the like: its tags carry meaning
_HIDDEN: Final = re.compile(f"{_FLAG}|[{_INVISIBLE}{_CONTROLS}]")
# The joiners, and the variation selectors of Mongolian, tell words and emoji apart where they stand within a word of
# Arabic, Syriac, Mongolian or an Indic script, behind a virama, or between emoji.
_JOINERS: Final = re.compile("[\u200c\u200d\u180b-\u180f]+")
_JOINED: Final = re.compile("[\u0600-\u0eff\u1000-\u109f\u1780-\u18aa\ua840-\uaaff\ufb50-\ufdff\ufe70-\ufefc]")
_MONGOLIAN: Final = re.compile("[\u1820-\u18aa][\u180b-\u180f]")
_VIRAMA: Final = 9  # canonical combining class
_EMOJI: Final = ("So", "Sk")  # Unicode categories of emoji and of their skin tones
_TAGS: Final = "font noBreak initial medial final isolated vertical narrow small square wide compat"
_SHAPES: Final = frozenset(_TAGS.split())  # decompositions of these kinds change no meaning
# More than a matter of shape: `…` is one mark, `№` not "No", a lone Korean letter not half a syllable, µ what keyboards
# have; and full-width punctuation is that of Chinese and Japanese.
_KEPT: Final = re.compile("[\u00b5\u2026\u2116\u3131-\u318e\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff5e]")
_FULL_WIDTH_MARKS: Final = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if not chr(code).isalnum()}
# Emoji, dingbats and the signs like them, with the joiner before one; the keycap, and the tags behind a flag.
_PICTOGRAPHS: Final = re.compile(
    "\u200d?[\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]|[\u20e3\U000e0020-\U000e007f]"
)
_HYPHENS: Final = {"\u2010": "-", "\u2011": "-"}


def normalize(text: str) -> str:
    """Remove invisible characters and unify forms; leave white space as it is.

    Idempotent. ASCII text loses only control characters. The result for a word does not depend on its neighbours.

    >>> normalize("\\ufeffkn\\u00adow"), normalize("oﬃce"), normalize("Ｈｉ！"), normalize("2½ m² ™")
    ('know', 'office', 'Hi！', '2½ m² ™')
    """
    if text.isascii() and text.isprintable():
        return text
    seen = _HIDDEN.sub(lambda match: match[1] or "", unicodedata.normalize("NFC", text))
    seen = _JOINERS.sub(_joiner, seen)
    return unicodedata.normalize("NFC", "".join(map(_shape, seen)))


def narrow(word: str) -> str:
    """Replace full-width punctuation by ASCII in a word that is otherwise ASCII and has a letter or digit.

    >>> narrow("know！"), narrow("（Hello），"), narrow("！"), narrow("日！")
    ('know!', '(Hello),', '！', '日！')
    """
    if word.isascii():
        return word
    ascii_word = word.translate(_FULL_WIDTH_MARKS)
    return ascii_word if ascii_word.isascii() and any(char.isalnum() for char in ascii_word) else word


def without_pictographs(word: str) -> str:
    """Return a normalised word without emoji and other pictographs; "" where it has nothing else.

    >>> without_pictographs("friends🎉."), without_pictographs("👩\u200d👧"), without_pictographs("5°")
    ('friends.', '', '5°')
    """
    return word if word.isascii() else _PICTOGRAPHS.sub("", word)


def _joiner(match: re.Match[str]) -> str:
    # Keep one joiner of a run where it carries meaning.
    text, before = match.string, match.string[: match.start()][-1:]
    after = text[match.end() : match.end() + 1]
    if _JOINED.match(before) and (_JOINED.match(after) or unicodedata.combining(before) == _VIRAMA):
        return match[0][0]
    if _MONGOLIAN.match(before + match[0]):
        return match[0][0]
    is_emoji = before and after and unicodedata.category(before) in _EMOJI and unicodedata.category(after) == "So"
    return "\u200d" if is_emoji and "\u200d" in match[0] else ""


@lru_cache(maxsize=4096)
def _shape(char: str) -> str:
    # The character without differences of shape.
    if char in _HYPHENS:
        return _HYPHENS[char]
    tag, _, codes = unicodedata.decomposition(char).partition("> ")
    if tag[1:] not in _SHAPES or _KEPT.match(char):
        return char
    parts = [chr(int(code, 16)) for code in codes.split()]
    return char if " " in parts else "".join(map(_shape, parts))
