"""Words that a chat model says about its translation: "Sure! Here is the translation:", "La traduction est :".

Whoever listens would hear them as the speaker's. They are never drawn, so that the model says the translation itself.
"""

import re
from collections.abc import Iterable
from typing import Final

from worker.core.languages import language_code

_OPENERS: Final = frozenset({"Here", "Sure", "Certainly", "Absolutely"})
_ABOUT: Final = re.compile("translat|traduc|traduç|tradui|traduz|tradott|übersetz|vertaling")


def introduces(piece: str) -> bool:
    """Tell whether a token's text begins an English introduction, or names a translation in any language.

    >>> [introduces(piece) for piece in (" traduction", "Sure", "sure", " Translation", "Hereford", " trad")]
    [True, True, False, True, False, False]
    """
    bare = piece.strip()
    return bare in _OPENERS or _ABOUT.match(bare.casefold()) is not None


def may_introduce(target_language: str | None, source_words: Iterable[str]) -> bool:
    """Tell whether such words may be the translation of the source: into English, or of a source about translation.

    >>> may_introduce("fr", ["Here", "it", "is."]), may_introduce("fr", ["The", "translator", "left."])
    (False, True)
    >>> may_introduce("English", ["Le", "voici."])
    True
    """
    is_english = language_code(target_language or "en") == "en"
    return is_english or any(_ABOUT.search(word.casefold()) for word in source_words)
