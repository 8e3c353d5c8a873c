"""Who says what when."""

from itertools import groupby, islice

import pytest

from worker.commands.bench.speech import SkippingClock, speech

TALK = (("a", "b", "c"), ("d", "e"))


def test_speakers_keep_their_pace() -> None:
    """So many words a second of each, in order of time; the same ones for the same seed."""
    heard = list(islice(speech(4, TALK, 2.0, seed=1), 40))
    assert [each.at_s for each in heard] == sorted(each.at_s for each in heard)
    assert heard[-1].at_s == pytest.approx(5.0, abs=0.5)
    assert heard == list(islice(speech(4, TALK, 2.0, seed=1), 40))
    assert heard != list(islice(speech(4, TALK, 2.0, seed=2), 40))


def test_a_talk_that_ends_is_followed_by_another() -> None:
    """From its first word to its last, by the next speaker; the first one is met somewhere in it."""
    heard = list(islice(speech(1, TALK, 2.0, seed=3), 12))
    talks = ["".join(each.word for each in talk) for _, talk in groupby(heard, key=lambda each: each.talk)]
    assert "abcde".endswith(talks[0])
    assert talks[1] == "abcde"
    assert {each.word for each in heard if each.ends_sentence} == {"c", "e"}
    assert {each.word for each in heard if each.ends_talk} == {"e"}


def test_the_clock_skips() -> None:
    """Forwards only; it goes on from there."""
    times = iter([100.0, 101.0, 101.0, 102.0, 102.5, 102.5])
    clock = SkippingClock(lambda: next(times))
    assert clock.now_s() == 1.0
    clock.skip_to(5.0)
    assert clock.now_ms() == 6000
    clock.skip_to(2.0)
    assert (clock.now_s(), clock.skipped_s) == (6.5, 4.0)
