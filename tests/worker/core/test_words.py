"""Words of running text: the same rules cut the source and recognise the target's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import words

LATIN = st.text("abcé.,'-0", min_size=1, max_size=6)
CHINESE = st.text("世界你好，。！？「」《》（）、…", min_size=1, max_size=12)
JAPANESE = st.text("日本語はをカタカナー々。、「」", min_size=1, max_size=12)
THAI = st.text("กขคะาิีู่้", min_size=1, max_size=12)
SPACELESS = st.one_of(CHINESE, JAPANESE, THAI)
MIXED = st.lists(st.one_of(LATIN, SPACELESS, st.sampled_from([" ", "\n", "\u3000"])), max_size=8).map("".join)


def joined(source_words: list[str]) -> str:
    text = ""
    for i, word in enumerate(source_words):
        text += words.separator(source_words[i - 1], word) + word if i else word
    return text


@given(st.lists(LATIN, max_size=8))
def test_words_with_spaces(source_words: list[str]) -> None:
    """In scripts with spaces, words are what stands between them; joined again they are the text."""
    assert words.split_words("  ".join(source_words)) == source_words
    assert joined(source_words) == " ".join(source_words)


@given(SPACELESS)
def test_words_without_spaces(text: str) -> None:
    """In scripts without spaces, words joined again are the text, and no punctuation stands at the wrong end."""
    found = words.split_words(text)
    assert "".join(found) == text
    if any(char.isalpha() for char in text):
        assert all(sum(char.isalpha() for char in word) <= 1 for word in found)


@given(st.text("世界你好，。！？「」《》（）、", min_size=1, max_size=12))
def test_no_space_is_invented(text: str) -> None:
    """Between the words of a Chinese text the separator is empty, at its punctuation too."""
    assert joined(words.split_words(text)) == text


@given(st.one_of(MIXED, st.text(max_size=20)))
def test_split_loses_nothing(text: str) -> None:
    """All characters but white space are there, in order; no word is empty; a word is its own only word."""
    found = words.split_words(text)
    assert "".join(found) == "".join(text.split())
    assert all(word and word == "".join(word.split()) for word in found)
    assert all(words.split_words(word) == [word] for word in found)


@given(st.one_of(MIXED, st.text(max_size=20)))
def test_starts_word_agrees_with_split(text: str) -> None:
    """Fed character by character, a word ends exactly where `split_words` ends it."""
    found: list[str] = []
    current = ""
    for char in text:
        if words.starts_word(current, char):
            found.append(current.strip())
            current = ""
        current += char
    found += [current.strip()] if current.strip() else []
    assert found == words.split_words(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今日は、Redisを使う。", ["今", "日", "は、", "Redis", "を", "使", "う。"]),
        ("彼は「はい」と言う", ["彼", "は", "「は", "い」", "と", "言", "う"]),
        ("他说：“你好。”", ["他", "说：", "“你", "好。”"]),
        ("２０２４年", ["２０２４", "年"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("안녕 세계", ["안녕", "세계"]),
        ("C'est l’été -- non?", ["C'est", "l’été", "--", "non?"]),
    ],
)
def test_examples(text: str, expected: list[str]) -> None:
    """Opening punctuation belongs to what follows, marks and all other punctuation to what stands before."""
    assert words.split_words(text) == expected


@pytest.mark.parametrize(
    ("left", "right", "expected"), [("は、", "今", ""), ("a.", "B", " "), ("を", "Redis", " "), ("", "a", "")]
)
def test_separator_examples(left: str, right: str, expected: str) -> None:
    """A space stands between words unless both are of scripts that have none."""
    assert words.separator(left, right) == expected


@given(st.one_of(MIXED, st.text(max_size=20), st.text("a \ufffd\n世", max_size=9)))
def test_target_words(text: str) -> None:
    """A word to publish has no white space and no broken character; nothing else is lost."""
    found = words.target_words(text)
    assert "".join(found) == "".join(char for char in text if not char.isspace() and char != words.UNFINISHED)
    assert all(word and len(word.split()) == 1 for word in found)
