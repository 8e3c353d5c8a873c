"""Values that a translation must carry over: numbers, dates, times, addresses, names and codes.

A value is kept where the translation has it as a whole, in the source's writing or in one that is usual in the target
language: "1,234.5" may become "1 234,5", "March" "mars", "9:30" "9 h 30". Nothing else is forgiven.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from worker.evaluation.run import Run

SEPARATOR: Final = "|"
_NUMBER: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+")
_TIME: Final = re.compile(r"(\d{1,2}):(\d{2})")
_POINTS: Final = {"fr": (" ", ","), "de": (".", ",")}
"""What parts thousands and what begins the decimals."""
_MONTHS: Final = {
    "en": "January,February,March,April,May,June,July,August,September,October,November,December",
    "fr": "janvier,février,mars,avril,mai,juin,juillet,août,septembre,octobre,novembre,décembre",
    "de": "Januar,Februar,März,April,Mai,Juni,Juli,August,September,Oktober,November,Dezember",
}


class Loss(msgspec.Struct, frozen=True):
    """A sentence whose translation lacks values."""

    source: str
    prediction: str
    lost: tuple[str, ...]


class Kept(msgspec.Struct, frozen=True):
    """How many of all values a policy has kept, and where it has not."""

    policy: str
    num_kept: int
    num_values: int
    losses: tuple[Loss, ...]

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.num_kept / self.num_values


class ValuesReport(msgspec.Struct, frozen=True, kw_only=True):
    """A model on lines with values, under several policies."""

    model: str
    values: str  # the file's name
    target_language: str
    num_sentences: int
    policies: tuple[Kept, ...]


def kept_values(run: Run, language: str) -> Kept:
    """What a run has kept; the references of its sentences are their values, parted by `|`."""
    losses, num_values, num_lost = [], 0, 0
    for sentence in run.sentences:
        values = sentence.reference.split(SEPARATOR)
        lost = tuple(value for value in values if not is_kept(value, sentence.prediction, language))
        num_values += len(values)
        num_lost += len(lost)
        if lost:
            losses.append(Loss(sentence.source, sentence.prediction, lost))
    return Kept(run.policy, num_values - num_lost, num_values, tuple(losses))


def is_kept(value: str, text: str, language: str) -> bool:
    """Tell whether `text` has the value as a whole, in one of its writings.

    >>> is_kept("7.5", "plus 7,5 %", "fr"), is_kept("7.5", "plus 17,5 %", "fr"), is_kept("7.5", "7,55", "fr")
    (True, False, False)
    """
    text = re.sub(r"\s", " ", text)
    return any(
        re.search(rf"(?<![\w])(?<!\d[.,]){re.escape(writing)}(?!\w)(?![.,]\d)", text)
        for writing in writings(value, language)
    )


def writings(value: str, language: str) -> Sequence[str]:
    """The value as it stands, and as the target language writes it.

    >>> writings("1,234.5", "fr"), writings("May", "de"), writings("9:30", "fr")
    (['1,234.5', '1 234,5', '1234,5'], ['May', 'Mai'], ['9:30', '9 h 30', '9h30'])
    """
    found = [value]
    if _NUMBER.fullmatch(value) and language in _POINTS:
        group, point = _POINTS[language]
        whole, dot, part = value.partition(".")
        tail = point + part if dot else ""
        found += [whole.replace(",", group) + tail, whole.replace(",", "") + tail]
    if (time := _TIME.fullmatch(value)) is not None:
        found += [f"{time[1]} h {time[2]}", f"{time[1]}h{time[2]}"] if language == "fr" else []
        found += [f"{time[1]}.{time[2]}"] if language == "de" else []
    months = dict(zip(_MONTHS["en"].split(","), _MONTHS.get(language, "").split(","), strict=False))
    found += [months[value]] if months.get(value) else []
    if value == "1" and language == "fr":
        found.append("1er")
    return list(dict.fromkeys(found))
