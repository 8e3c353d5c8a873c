"""The demo's talk, and how any text becomes sentences."""

from hypothesis import given
from hypothesis import strategies as st

from worker.commands.talk import TALK, split_sentences
from worker.core.words import source_words

TEXTS = st.text(st.sampled_from("ab .!?\n\r\t'\"。日")) | st.text()


@given(TEXTS)
def test_no_word_is_lost(text: str) -> None:
    """The sentences' words, one after another, are the words of the text as the model reads them, in order."""
    words = [word for sentence in split_sentences(text) for word in sentence]
    assert words == source_words(text)


@given(TEXTS)
def test_no_sentence_is_empty(text: str) -> None:
    """A session's segment has at least one word."""
    assert all(split_sentences(text))


def test_sentences_go_over_line_breaks_and_end_at_empty_lines() -> None:
    """A wrapped line is no end, a heading without a full stop is a sentence of its own."""
    assert split_sentences("My day\n\nI get\nup. I ask Dr. Hall why.\n") == (
        ("My", "day"),
        ("I", "get", "up."),
        ("I", "ask", "Dr.", "Hall", "why."),
    )


def test_the_talk_suits_the_shipped_model() -> None:
    """Our talk takes a minute or less, in short sentences."""
    sentences = split_sentences(TALK)
    assert 10 <= len(sentences) <= 16
    assert all(3 <= len(words) <= 12 for words in sentences)
    assert sum(map(len, sentences)) <= 120
