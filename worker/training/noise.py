"""Sources as a speech recogniser gives them: lower case, no punctuation, hesitations, repeated words.

Rules on words; the target stays clean, so a model learns to translate through the noise.
"""

import re
from collections.abc import Sequence
from random import Random

HESITATIONS = ("uh", "um", "er", "hmm", "uh,", "um,", "well,", "you know,")
_EDGE_MARKS = '.,;:!?"“”()[]…'
_LETTERS_ONLY = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def recognised(words: Sequence[str], random: Random) -> tuple[str, ...]:
    """Return `words` as a recogniser might have heard them, at least one word; `random` chooses the faults.

    Words that hold digits or signs inside, such as URLs and codes, keep their inner form.
    """
    if random.random() < 0.75:
        words = _without_punctuation(words) or words
    if random.random() < 0.75:
        words = [word.lower() if _LETTERS_ONLY.fullmatch(word.strip(_EDGE_MARKS)) else word for word in words]
    if random.random() < 0.4:
        words = _with_hesitations(words, random)
    if random.random() < 0.3:
        words = _with_repetitions(words, random)
    return tuple(words)


def _without_punctuation(words: Sequence[str]) -> list[str]:
    stripped = (word.strip(_EDGE_MARKS) for word in words)
    return [word for word in stripped if word and word not in ("-", "–", "—")]


def _with_hesitations(words: Sequence[str], random: Random) -> list[str]:
    out: list[str] = []
    for word in words:
        if random.random() < 0.08:
            out.append(random.choice(HESITATIONS))
        out.append(word)
    return out


def _with_repetitions(words: Sequence[str], random: Random) -> list[str]:
    out: list[str] = []
    for i, word in enumerate(words):
        if random.random() < 0.05:
            out += words[max(0, i - random.randint(0, 2)) : i + 1]
        out.append(word)
    return out
