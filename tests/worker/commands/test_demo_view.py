"""From words spoken and events heard to what the audience knows, without a terminal, a clock or a worker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.commands.talks import SENTENCES, delta, done, first_sentence, play, whole_talk
from worker.commands import demo_view
from worker.commands.demo_view import Summary, join_words, lag_words, summarize


@given(st.lists(st.lists(st.text("ab", min_size=1), min_size=1, max_size=5).map(tuple), min_size=1, max_size=5))
def test_speaking_every_word_makes_every_sentence_whole(sentences: list[tuple[str, ...]]) -> None:
    """What has been spoken is always a beginning of the sentence, and in the end all of it."""
    view = demo_view.begin(sentences)
    for index, words in enumerate(sentences):
        for count in range(1, len(words) + 1):
            view = demo_view.speak(view, index, 0)
            assert view.current == 0  # nothing has been translated
            assert view.sentences[index].spoken == words[:count]
    assert all(sentence.is_whole for sentence in view.sentences)
    assert view.num_source_words == sum(map(len, sentences))


def test_words_count_as_read_when_a_target_word_says_so() -> None:
    """Spoken words stay unread until a delta has seen them; the end of a segment has read them all."""
    view = play(demo_view.begin(SENTENCES), 0, 0, 0)
    assert (view.sentences[0].num_spoken_words, view.sentences[0].num_read_words) == (3, 0)
    view = play(view, delta(0, 0, "Je", 2))
    assert view.sentences[0].num_read_words == 2
    assert play(view, done(0, "Je", 1.0)).sentences[0].num_read_words == 3


def test_a_finished_sentence_stays_until_the_next_is_spoken() -> None:
    """The pair under the eye changes with the first word of the next sentence, not before."""
    view = first_sentence()
    assert (view.current, view.finished) == (0, ())
    view = demo_view.speak(view, 1, 0)
    assert view.current == 1
    assert [sentence.translation for sentence in view.finished] == ["Je suis là."]


def test_the_sentence_being_translated_stays_when_the_speaker_is_ahead() -> None:
    """With a slow worker the view follows the worker, not the speaker."""
    assert play(demo_view.begin(SENTENCES), 0, 0, 0, 1, 1).current == 0


def test_lag_is_words_read_beyond_the_word_written() -> None:
    """The first word of wait-2 has a lag of 2; at the end of the source the lag shrinks, below 0 even."""
    assert [lag_words(delta(0, *each)) for each in ((0, "a", 2), (1, "b", 3), (2, "c", 3), (4, "d", 3))] == [
        2,
        2,
        1,
        -1,
    ]


def test_the_translation_grows_and_ends_as_the_segment_says() -> None:
    """Deltas concatenate; the segment's end repeats the text."""
    view = play(demo_view.begin(SENTENCES), 0, 0, delta(0, 0, "Je", 2), delta(0, 1, "suis", 3))
    assert view.sentences[0].translation == "Je suis"
    assert whole_talk().sentences[0].translation == "Je suis là."


def test_summary_of_a_talk() -> None:
    """Counts are sums, lag is the mean of the segments that have one, delays are medians."""
    assert summarize(whole_talk(), num_forwards=6) == Summary(
        segments=2,
        source_words=5,
        target_words=4,
        duration_s=1.2,  # from the first word at 1,100 ms to the last segment's end at 2,300 ms
        words_per_second=3.33,
        average_lagging_words=1.5,
        first_word_delay_ms=200,
        word_delay_ms=10,
        tokens_per_word=2.0,
        forwards_per_word=1.5,
    )


def test_summary_of_nothing() -> None:
    """Where there is nothing to count, figures are absent, not zero."""
    summary = summarize(demo_view.begin(SENTENCES))
    assert (summary.target_words, summary.duration_s) == (0, 0)
    assert summary.words_per_second is summary.average_lagging_words is summary.first_word_delay_ms is None


@pytest.mark.parametrize(("words", "text"), [(("a", "b."), "a b."), (("今", "日。"), "今日。"), ((), "")])
def test_words_join_as_their_script_does(words: tuple[str, ...], text: str) -> None:
    """Spaces between words, none in scripts that have none."""
    assert join_words(words) == text
