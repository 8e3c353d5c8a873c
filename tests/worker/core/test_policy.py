"""Wait-k by one rule, for the library and the service."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import Adaptive, AlignAtt, Session, WaitK
from worker.core.policy import calculate_wait_words, is_settled, is_sure, needed

LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=20)


@given(lengths=LENGTHS, k=st.integers(1, 30))
def test_wait_words_grow_by_one_up_to_all(lengths: list[int], k: int) -> None:
    """min(k + t, len - 1): never more than all segments, one more for every target word until then."""
    waits = [calculate_wait_words(lengths, t, k) for t in range(30)]
    assert waits == [min(k + t, len(lengths) - 1) for t in range(30)]


@pytest.mark.parametrize(("lengths", "word", "k"), [([1], 0, 0), ([1], -1, 3), ([], 0, 3)])
def test_nonsense_is_refused(lengths: list[int], word: int, k: int) -> None:
    """k below 1, a target word before the first, no segments."""
    with pytest.raises(ValueError, match=r"wait_k|target_word_idx|source_seg_len"):
        calculate_wait_words(lengths, word, k)


def test_completion_needs_the_end() -> None:
    """What a plain completion needs is not known before its segment has ended."""
    assert needed(Session(mode="completion", policy=WaitK(k=1)), 0) is None
    assert needed(Session(policy=WaitK(k=4)), 2) == 6


def test_who_is_in_doubt_gets_surer_by_reading() -> None:
    """The threshold holds at min_k and falls to nothing at max_k; within a word it is that of one lag less."""
    session = Session(policy=Adaptive(min_k=1, max_k=5, threshold=0.8))
    wanted = {1: 0.8, 2: 0.6, 3: 0.4, 4: 0.2}
    for lag, threshold in wanted.items():
        assert is_sure(session, threshold + 1e-9, lag, begins_word=True)
        assert not is_sure(session, threshold - 1e-9, lag, begins_word=True)
        assert is_sure(session, threshold + 1e-9, lag + 1, begins_word=False)
        assert lag == 4 or not is_sure(session, threshold - 1e-9, lag + 1, begins_word=False)
    assert all(is_sure(session, 0.0, 5, begins_word=begins) for begins in (True, False))
    assert is_sure(Session(policy=WaitK(k=1)), 0.0, 1, begins_word=True)


def test_the_newest_words_are_not_settled() -> None:
    """Of five words read, a frame of two leaves three, and the prompt; a frame of all that was read leaves nothing."""
    session = Session(policy=AlignAtt(frame_words=2))
    assert [is_settled(session, word, 5) for word in range(6)] == [True, True, True, True, False, False]
    assert not any(is_settled(session, word, 1) for word in range(2))
    assert is_settled(Session(), 5, 5)
