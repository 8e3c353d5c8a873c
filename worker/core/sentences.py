"""Sentence ends in a stream of words.

Most words decide it alone. After an abbreviation or an ordinal number the next word must be known: "He works at Apple
Inc. Thank you.", "the U.S. army", "am 3. Mai". The rules of a language are tables in `worker.core.abbreviations`.
"""

import re
import unicodedata
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Final

from worker.core import abbreviations
from worker.core.languages import language_code


class Ending(Enum):
    """Whether a sentence ends with a word: yes, no, or to be decided by the next word."""

    YES = "yes"
    NO = "no"
    WAIT = "wait"


# Unicode 15, property Sentence_Terminal, without the ASCII full stop; then the ellipsis, the Hebrew sof pasuq and the
# Tibetan shad marks, which end sentences too.
_TERMINATORS: Final = (
    "!?\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b\u1362\u1367\u1368"
    "\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b5a\u1b5b\u1b5e\u1b5f\u1b7d\u1b7e\u1c3b"
    "\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047-\u2049\u2e2e\u2e3c\u2e53\u2e54\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876"
    "\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61"
    "\U00010a56\U00010a57\U00011047\U00011048\U000110be-\U000110c1\U00011141-\U00011143\U000111c5\U000111c6\U000111cd"
    "\U00016a6e\U00016a6f\U00016af5\U00016b37\U00016b38\U00016b44\U0001bc9f\U0001da88"
    "\u2026\u05c3\u0f0d\u0f0e"
)
# Also marks that end a sentence in their own script only: the Greek question mark, the Armenian full stop as it is
# typed, two Ethiopic word spaces.
_END: Final = re.compile(
    f"[{_TERMINATORS}]$|[\u0370-\u03ff\u1f00-\u1fff];$|[\u0530-\u058f]:$|\u1361\u1361$|\\.\\.$|^\\.$"
)
_CLOSERS: Final = ("Pe", "Pf", "Pi")  # Unicode categories of closing marks; “ and « close a quotation in some languages
_OPENERS: Final = ("Ps", "Pi", "Pf")
_QUOTES: Final = "\"'*_"
_CALENDAR: Final = frozenset(abbreviations.CALENDAR.split())
_ORDINALS: Final = frozenset(abbreviations.ORDINALS.split())
_DOTTED: Final = re.compile(r"[^\W\d_]{1,3}(?:\.-?[^\W\d_]{1,3})+")
_ORDINAL: Final = re.compile(r"\d{1,2}|[IVX]+")
_NUMBER: Final = re.compile(r"[#№]?\d|[IVXLC]+\b")


def ends(word: str, following: str | None, language: str = "en") -> Ending:
    """Tell whether a sentence in `language` ends with `word`; `following` is the next word, None while it is not known.

    WAIT only for None, and only for abbreviations, initials and ordinal numbers.

    >>> ends("lives.", None), ends("Dr.", None), ends("Inc.", None)
    (<Ending.YES: 'yes'>, <Ending.NO: 'no'>, <Ending.WAIT: 'wait'>)
    >>> ends("Inc.", "Thank"), ends("No.", "5"), ends("3.", "Mai", "de")
    (<Ending.YES: 'yes'>, <Ending.NO: 'no'>, <Ending.NO: 'no'>)
    """
    bare = _without_closers(word)
    if _END.search(bare):
        return Ending.YES
    if not bare.endswith("."):
        return Ending.NO
    return _after_full_stop(_without_openers(bare[:-1]), following, language_code(language))


def ends_sentence(word: str, following: str = "", language: str = "en") -> bool:
    """Tell whether a sentence ends with `word` in a complete text; `following` is "" at its end.

    >>> ends_sentence('late."'), ends_sentence("p.m."), ends_sentence("p.m.", "on"), ends_sentence("か？")
    (True, True, False, True)
    """
    ending = ends(word, following or None, language)
    return ending is Ending.YES or (ending is Ending.WAIT and not following)


def _after_full_stop(stem: str, following: str | None, language: str) -> Ending:
    rule = _rule(stem, language)
    if rule is None:
        return Ending.YES
    if rule == "never":
        return Ending.NO
    if following is None:
        return Ending.WAIT
    return Ending.YES if _ends_before(rule, stem, following, language) else Ending.NO


def _rule(stem: str, language: str) -> str | None:
    # The rule for the word after the abbreviation; None: `stem` is no abbreviation.
    entry = stem.lower() if len(stem) > 1 else stem
    for rule in _RULES:
        if entry in _entries(rule, language):
            return rule
    if len(stem) == 1 and stem.isupper():
        return "never" if language == "de" else None if stem == "I" else "starter"
    if _DOTTED.fullmatch(stem):
        return "starter"
    if language in _ORDINALS and _ORDINAL.fullmatch(stem):
        return "starter" if language == "de" else "capital"
    return None


_RULES: Final[Mapping[str, Mapping[str, str]]] = {
    "number": abbreviations.BEFORE_NUMBER,
    "never": abbreviations.NEVER,
    "capital": abbreviations.BEFORE_CAPITAL,
    "starter": abbreviations.BEFORE_STARTER,
}


@cache
def _entries(rule: str, language: str) -> frozenset[str]:
    table = _RULES[rule]
    return frozenset(f"{table.get('', '')} {table.get(language, '')}".split())


def _ends_before(rule: str, stem: str, following: str, language: str) -> bool:
    word = _without_openers(following)
    if rule == "number" and stem.lower() == "no" and language == "en":
        return not word[:1].isdigit()  # far more often an answer than a number
    if rule == "number":
        return not (_NUMBER.match(word) or word[:1].islower())
    if rule == "capital" and language != "de":  # German nouns have capitals too
        is_calendar = _letters(word) in _CALENDAR
        return word[:1].isupper() and not (is_calendar and stem.lower() in ("a.m", "p.m"))
    return word[:1].isupper() and _letters(word) in _starters(language)


def _letters(word: str) -> str:
    # `It's` -> `it`, `However,` -> `however`; an initial, `A.`, keeps its full stop and is no word.
    return re.split("['’]", word.rstrip(",;:!?"), maxsplit=1)[0].lower()


@cache
def _starters(language: str) -> frozenset[str]:
    return frozenset(abbreviations.STARTERS.get(language, "").split())


def _without_closers(word: str) -> str:
    stop = len(word)
    while stop and (word[stop - 1] in _QUOTES or unicodedata.category(word[stop - 1]) in _CLOSERS):
        stop -= 1
    return word[:stop]


def _without_openers(word: str) -> str:
    start = 0
    while start < len(word) and (word[start] in _QUOTES + "¿¡-–—" or unicodedata.category(word[start]) in _OPENERS):
        start += 1
    return word[start:]
