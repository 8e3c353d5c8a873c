"""Bounds, loops, and what is no language: real translations are untouched, what runs away is seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.runaway import ends_in_loop, is_language, longest_loop, max_target_words, min_source_words

TOKENS = st.lists(st.integers(0, 3), max_size=40)


@given(st.integers(0, 10_000), st.booleans())
def test_bounds_are_inverse(target_words: int, is_spaceless: bool) -> None:
    """A target word is allowed from so many source words on, and no earlier."""
    fewest = min_source_words(target_words, is_spaceless=is_spaceless)
    assert max_target_words(fewest, is_spaceless=is_spaceless) > target_words
    assert fewest == 1 or max_target_words(fewest - 1, is_spaceless=is_spaceless) <= target_words


@given(TOKENS, st.lists(st.integers(0, 9), min_size=1, max_size=32), TOKENS, TOKENS)
def test_a_loop_ends(before: list[int], cycle: list[int], part: list[int], source: list[int]) -> None:
    """Whatever was written before and whatever the source, a cycle that goes on and on is seen in the end."""
    repeated = cycle * (4 + (17 + 2 * len(source)) // len(cycle))
    assert ends_in_loop([*before, *repeated], source)


@given(TOKENS, TOKENS)
def test_a_loop_is_one(target: list[int], source: list[int]) -> None:
    """What is seen as a loop is a cycle, repeated four times."""
    if ends_in_loop(target, source):
        assert any(target[-4 * p :] == target[-p:] * 4 and target[-17 + p :] == target[-17:-p] for p in range(1, 33))
        assert len(target) > 16 + 2 * longest_loop(source)


@given(st.lists(st.integers(), unique=True, max_size=300), TOKENS)
def test_no_loop_without_repetition(target: list[int], source: list[int]) -> None:
    """Tokens that are all different are never a loop."""
    assert not ends_in_loop(target, source)
    assert longest_loop(target) == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=10), st.integers(2, 12), TOKENS)
def test_a_repeated_source_may_be_repeated(cycle: list[int], repeats: int, before: list[int]) -> None:
    """A speaker who repeats himself is translated, in up to twice the tokens."""
    source = cycle * repeats
    assert longest_loop(source) >= len(source) or len(cycle) == 0
    assert not ends_in_loop([*(10 + i for i in range(9)), *cycle * (2 * repeats)], [*before, *source])


@pytest.mark.parametrize(
    ("word", "language", "expected"),
    [
        *((word, None, True) for word in ("a", "где", "知", "कि", "l'a", "COVID-19", "ß.", "B2B", "#tag")),
        *((word, None, False) for word in ("", "♪", "♪♪", "-", "—", "•", "...", "😂" * 9, "=" * 500, "9:30", "$5")),
        *((word, None, False) for word in ("http://a.b/c", "www.a.org", "x" * 101, "٣", "½", "★", "[__]")),
        *((word, "en", False) for word in ("где", "知", "कि", "λόγος", "여기", "שם")),
        *((word, "ru", True) for word in ("где", "«Да»")),
        ("Hello", "ru", False),
        *((word, "ja-JP", True) for word in ("か", "カ", "知")),
        *((word, "tlh", True) for word in ("nuqneH", "где")),
        ("Straße", "de", True),
    ],
)
def test_language(word: str, language: str | None, expected: bool) -> None:
    """Letters are language, of the model's own script where it reads no other."""
    assert is_language(word, language) is expected


@given(st.text(), st.sampled_from([None, "en", "hi", "zh", "xx"]))
def test_language_of_anything(word: str, language: str | None) -> None:
    """Any text has an answer; what is no language in any script is none in one."""
    assert is_language(word, None) or not is_language(word, language)
