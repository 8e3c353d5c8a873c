"""Text as the model reads it: what is gone, what keeps its meaning, and that nothing else changes."""

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.normalize import normalize, without_pictographs
from worker.core.words import source_words, split_words

INVISIBLE = st.sampled_from(
    "\u00ad\u034f\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2063\u2066\u2069\ufe0e\ufe0f\ufeff\ufff9\ufffb"
    "\ufffc\ufffd\u3164\u115f\u2800\x00\x07\x7f\x9f\U000e0001\U000e0041\U000e007f\U000e0100\ufffe"
)
TEXT = st.one_of(
    st.text(max_size=30),
    st.text(
        "ae\u0301ſﬁ½²ℕ①Ａ！，。 \u00a0क\u094dष\u200d\u200cمی👩\ufe0f\U0001f3f4\U000e0067\U000e007fㄱ㎡ẛΩ", max_size=20
    ),
    st.lists(st.one_of(st.text("aé .", min_size=1, max_size=3), INVISIBLE), max_size=12).map("".join),
)


@given(TEXT)
def test_idempotent(text: str) -> None:
    """Normalised text is normal, and its words are."""
    assert normalize(normalize(text)) == normalize(text)
    assert source_words(" ".join(source_words(text))) == source_words(text)


@given(st.text(string.printable, max_size=40))
def test_ascii_is_unchanged(text: str) -> None:
    """What one can type in ASCII stays as it is."""
    assert normalize(text) == text
    assert source_words(text) == split_words(text)


@given(st.lists(TEXT, max_size=5))
def test_chunks_do_not_matter(texts: list[str]) -> None:
    """The words of a text are those of its parts, wherever it is cut between words."""
    assert source_words(" ".join(texts)) == [word for text in texts for word in source_words(text)]
    words = [word for text in texts for word in split_words(text)]
    assert [word for text in words for word in source_words(text)] == source_words(" ".join(words))


@given(st.text("abc é.,'", min_size=1, max_size=20), st.data())
def test_invisible_characters_change_nothing(text: str, data: st.DataObject) -> None:
    """Wherever they stand in Latin text, and however many there are."""
    at = data.draw(st.lists(st.tuples(st.integers(0, len(text)), INVISIBLE), max_size=5))
    spoilt = text
    for position, char in sorted(at, reverse=True):
        spoilt = spoilt[:position] + char + spoilt[position:]
    assert source_words(spoilt) == source_words(text)


@given(TEXT)
def test_nothing_hidden_is_left(text: str) -> None:
    """A word has no control character, lost character, lone surrogate or half a flag; and is in NFC."""
    for word in source_words(text):
        assert word
        assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in word)
        assert not set(word) & set("\ufffd\ufeff\u200b\u00ad\u200e\u202e\u2060")
        assert unicodedata.is_normalized("NFC", word)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("where\u200b he", "where he"),
        ("kn\u00adow", "know"),
        ("cafe\u0301", "café"),
        ("e\u200b\u0301", "é"),
        ("sister\u2011in\u2010law", "sister-in-law"),
        ("oﬃce ﬁne ﬂy", "office fine fly"),
        ("Ｒｅｄｉｓ７", "Redis7"),
        ("𝐁𝐨𝐥𝐝 𝒮𝒸𝓇𝒾𝓅𝓉 𝟛", "Bold Script 3"),
        ("Å K", "Å K"),
        ("ﺏﻣﺎ ｶﾅ ⼀", "بما カナ 一"),
        ("21 ℃ 5 ㎏ 3 ㎡ Ⅳ", "21 °C 5 kg 3 m² IV"),
        ("\ufff9base\ufffa", "base"),
        ("a\U000e0041\U000e0042b", "ab"),
    ],
)
def test_changed(text: str, expected: str) -> None:
    """Invisible characters go; compatibility forms become what they look like."""
    assert normalize(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("2½ m² x³ H₂O 1º ① ™ ® № 5 µm 5‰ −3 € ’ — … “a”", "ㅋㅋㅋ 한국", "今日！（はい）", "naïve Ω", "\t a\nb"),
        *("می\u200cخواهم", "क्\u200dष", "ശ്രീ ന്\u200d", "\u182e\u1823\u180b", "👩\u200d👩\u200d👧 🏳\u200d🌈"),
        *("🏴\U000e0067\U000e0062\U000e007f", "´ ¨ ¯", "الله ﷺ", "❤ ☺ ♪ - =="),
    ],
)
def test_kept(text: str) -> None:
    """Numbers, names and marks keep their meaning; joiners stay where a script or an emoji needs them."""
    assert normalize(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ｉ ｋｎｏｗ．", ["I", "know."]),
        ("（Hello），world！", ["(Hello),", "world!"]),
        ("\u200b a \ufeff", ["a"]),
        ("今日，Redis", ["今", "日，", "Redis"]),
        ("！", ["！"]),
        ("ส\u200bวั\u200bส", ["ส", "วั", "ส"]),
        ("10\u202f000\u00a0km", ["10", "000", "km"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    """Words are split after what is invisible has gone; full-width marks are ASCII in a word that is."""
    assert source_words(text) == expected


@given(TEXT, st.lists(st.sampled_from(["🎉", "👩\u200d👧", "👍🏽", "🇫🇷", "☀\ufe0f", "⏰", "✔"]), max_size=3))
def test_pictographs_are_left_out(text: str, pictographs: list[str]) -> None:
    """All of each one, in normalised text; of the rest nothing, and once is enough."""
    plain = without_pictographs(normalize(text))
    assert without_pictographs(plain) == plain
    decorated = normalize(" ".join([text, *pictographs]))
    assert without_pictographs(decorated).split() == plain.split()


@pytest.mark.parametrize("text", ["5° ½ m² № € — … “a” 日本語、 ™ → क्\u200dष می\u200cخواهم ℃", "~|^`$+<>=#*"])
def test_signs_are_no_pictographs(text: str) -> None:
    """What text is written with stays, and the joiners within words."""
    assert without_pictographs(text) == text
