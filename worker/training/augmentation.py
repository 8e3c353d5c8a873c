"""More rows by rule: templates to copy from, values put in the place of others, joined sentences, recogniser's faults.

A pure function of the rows, the language and a random generator. All of it is written for English sources.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from random import Random
from typing import Final

import msgspec

from worker.core.words import split_words
from worker.training import values
from worker.training.noise import recognised

WordPair = tuple[tuple[str, ...], tuple[str, ...]]

LANGUAGES: Final = ("fr", "de")
"""Target languages that the templates are written in."""
_SLOT = re.compile(r"\{([a-z]+)\d?\}")
_MARKS = '.,;:!?"“”()[]…'
_NAME = re.compile(r"[A-Z][a-z]{2,}")
_NUMBER = re.compile(r"\d{1,6}")


class Augmentation(msgspec.Struct, frozen=True):
    """What becomes of a file's rows, as shares of them, and rows from templates for each language."""

    joined: float = 0.0  # the row behind the one or two before it, as one
    substituted: float = 0.0  # with another name or number on both sides
    recognised: float = 0.0  # with a recogniser's faults in the source
    templates: int = 0


def augmented(
    rows: Iterable[WordPair], augmentation: Augmentation, random: Random, max_words: int
) -> Iterator[WordPair]:
    """The rows, some of them changed, joined, or both; one that would be longer than `max_words` stays as it is."""
    recent: list[WordPair] = []
    for row in rows:
        recent = [*recent[-2:], row]
        made = row
        if random.random() < augmentation.substituted:
            made = substitute(row, random) or row
        if random.random() < augmentation.joined:
            made = join([*recent[-random.randint(2, 3) : -1], made])
        if random.random() < augmentation.recognised:
            made = recognised(made[0], random), made[1]
        yield made if max(map(len, made)) <= max_words else row


def join(rows: Iterable[WordPair]) -> WordPair:
    """One row of these ones, in order."""
    sides = zip(*rows, strict=True)
    source, target = (tuple(word for part in side for word in part) for side in sides)
    return source, target


def substitute(row: WordPair, random: Random) -> WordPair | None:
    """The row with each name and plain number that both sides have once replaced by another; None without any.

    The first word of a source is no name: any word has a capital there.
    """
    source, target = ([word.strip(_MARKS) for word in side] for side in row)
    shared = {word for word in source[1:] if source.count(word) == 1 == target.count(word)}
    new: dict[str, str] = {}
    for word in sorted(shared):
        if _NAME.fullmatch(word):
            new[word] = values.name(random).en.split()[0]
        elif _NUMBER.fullmatch(word):
            new[word] = str(random.randint(10 ** (len(word) - 1), 10 ** len(word) - 1))
    if not new:
        return None
    changed = (tuple(_replaced(word, new) for word in side) for side in row)
    return next(changed), next(changed)


def _replaced(word: str, new: dict[str, str]) -> str:
    bare = word.strip(_MARKS)
    return word.replace(bare, new[bare]) if bare in new else word


def template_rows(language: str, count: int, random: Random) -> Iterator[WordPair]:
    """`count` rows into a language of `LANGUAGES`, of values that must be carried over."""
    column = 1 + LANGUAGES.index(language)
    for _ in range(count):
        template = random.choice(_templates())
        drawn: dict[str, values.Value] = {}
        for slot in _SLOT.finditer(template[0]):
            kind = random.choice(tuple(values.KINDS)) if slot[1] == "value" else slot[1]
            drawn[slot[0]] = values.KINDS[kind](random)
        source, target = (_filled(template[side], {slot: drawn[slot][side] for slot in drawn}) for side in (0, column))
        # A value may end with the full stop that ends the sentence: "p.m.".
        yield tuple(split_words(source.replace("..", "."))), tuple(split_words(target))


def _filled(template: str, drawn: Mapping[str, str]) -> str:
    return _SLOT.sub(lambda slot: drawn[slot[0]], template)


@cache
def _templates() -> tuple[tuple[str, ...], ...]:
    text = files("worker.training").joinpath("templates.tsv").read_text(encoding="utf-8")
    return tuple(tuple(line.split("\t")) for line in text.splitlines())
