"""Rows that are made by rule carry over what they must, and stay within their bounds."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.evaluation.values import is_kept
from worker.training import values
from worker.training.augmentation import (
    LANGUAGES,
    Augmentation,
    WordPair,
    augmented,
    join,
    substitute,
    template_rows,
)
from worker.training.noise import HESITATIONS, recognised

ROW: WordPair = (("I", "gave", "Tom", "250", "apples."), ("Ich", "gab", "Tom", "250", "Äpfel."))
WORDS = st.lists(st.text("abcXYZ.,!'3", min_size=1, max_size=6), min_size=1, max_size=12)


@given(WORDS, st.integers(0, 2**32))
def test_a_recogniser_hears_the_same_words(words: list[str], seed: int) -> None:
    """Without case, marks, hesitations and repetitions, nothing is added, and nothing is lost but bare marks."""
    heard = recognised(words, Random(seed))
    spoken = {word.strip(".,!").lower() for word in words}
    assert {word.strip(".,!").lower() for word in heard} - spoken <= {word.strip(",") for word in HESITATIONS}
    assert spoken - {word.strip(".,!").lower() for word in heard} <= {""}


def test_nothing_is_heard_of_nothing() -> None:
    """Bare marks stay, for a source is never empty."""
    assert all(recognised(["..."], Random(seed)) for seed in range(50))


@pytest.mark.parametrize("language", LANGUAGES)
def test_templates_carry_their_values_over(language: str) -> None:
    """The rows are whole: no slot is left open on either side, and the same seed makes the same rows."""
    rows = list(template_rows(language, 500, Random(3)))
    assert rows == list(template_rows(language, 500, Random(3)))
    assert not any(mark in word for row in rows for side in row for word in side for mark in "{}")
    assert all(source and target for source, target in rows)


@pytest.mark.parametrize(
    "kind", ["whole", "decimal", "year", "code", "email", "url", "phone", "address", "name", "company"]
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_values_are_kept_by_the_evaluations_measure(kind: str, language: str) -> None:
    """What training calls a translation of a value, `decalage evaluate --values` calls kept."""
    random = Random(kind)
    for _ in range(200):
        value = values.KINDS[kind](random)
        assert is_kept(value.en, f"x {getattr(value, language)} y", language), value


def test_names_and_numbers_change_on_both_sides() -> None:
    """The new ones stand where the old ones stood; what surrounds them stays."""
    changed = substitute(ROW, Random(1))
    assert changed is not None
    source, target = changed
    assert (source[:2], target[:2]) == (("I", "gave"), ("Ich", "gab"))
    assert source[2:4] == target[2:4]
    assert source[2] != "Tom"
    assert source[3] != "250"
    assert len(source[3]) == 3
    assert substitute((("Hello", "there."), ("Guten", "Tag.")), Random(1)) is None


def test_joined_rows_follow_each_other() -> None:
    """Both sides are the rows' own, in order."""
    other: WordPair = (("It", "rained."), ("Es", "regnete."))
    assert join([ROW, other]) == (ROW[0] + other[0], ROW[1] + other[1])


@given(st.integers(0, 1000), st.integers(5, 12))
def test_each_row_gives_one_within_the_bound(seed: int, max_words: int) -> None:
    """There are as many rows, none longer than the bound; without shares they are the rows themselves."""
    rows = [ROW, (("Go.",), ("Geh.",)), ROW]
    augmentation = Augmentation(joined=0.8, substituted=0.8, recognised=0.8)
    out = list(augmented(rows, augmentation, Random(seed), max_words))
    assert len(out) == len(rows)
    assert all(max(map(len, row)) <= max_words for row in out)
    assert list(augmented(rows, Augmentation(), Random(seed), max_words)) == rows
