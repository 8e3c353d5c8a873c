"""Wait-k by one rule, for the library and the service."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.policies.wait_k import calculate_wait_words

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
