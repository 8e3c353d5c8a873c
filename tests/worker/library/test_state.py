"""StreamingState: wait-k step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import StreamingState, calculate_wait_words, generate_wait_words_list

LENGTHS = st.lists(st.integers(0, 9), min_size=2, max_size=12)


def test_the_documents_smoke_test() -> None:
    """What the documents check of the wait-k rule and of a fresh state."""
    source_seg_len = [5, 3, 4, 2, 6]
    wait_k = 2
    wait_words = calculate_wait_words(source_seg_len, 0, wait_k)
    assert wait_words == 2, f"Expected 2, got {wait_words}"
    state = StreamingState(source_seg_len, wait_k, max_target_words=5)
    assert state.source_words_read == 0
    assert state.target_words_generated == 0
    assert state.is_reading is True
    assert state.wait_lagging == []


@given(lengths=LENGTHS, wait_k=st.integers(1, 15))
def test_reading_consumes_every_token_once(lengths: list[int], wait_k: int) -> None:
    """Prompt and word 1 come first, then one segment each; all steps together are the source."""
    state = StreamingState(lengths, wait_k)
    steps = []
    for _ in lengths[1:]:
        steps.append(state.get_source_tokens_to_read())
        state.mark_source_read()
    assert steps == [lengths[0] + lengths[1], *lengths[2:]]
    assert state.get_source_tokens_to_read() == 0
    assert state.source_words_read == len(lengths) - 2
    with pytest.raises(RuntimeError, match="have been read"):
        state.mark_source_read()


@given(lengths=LENGTHS, wait_k=st.integers(1, 15), num_words=st.integers(1, 15))
def test_the_documents_loop_keeps_wait_k(lengths: list[int], wait_k: int, num_words: int) -> None:
    """A loop that asks before every step reads exactly what the rule wants before each word, and ends at the limit."""
    state = StreamingState(lengths, wait_k, max_target_words=num_words)
    reads = 0
    needed = []
    while state.should_read_next_source() or state.should_write_next_target():
        if state.is_reading:
            if state.should_read_next_source():
                state.mark_source_read()
                reads += 1
            if state.check_wait_k_policy():
                state.switch_to_writing()
        else:
            needed.append(reads)
            state.mark_target_written()
            if state.should_read_next_source():
                state.switch_to_reading()
    assert needed == generate_wait_words_list(lengths, [1] * num_words, wait_k)
    assert state.wait_lagging == [min(n, len(lengths) - 2) for n in needed]
    assert state.target_words_generated == num_words


def test_the_modes_are_the_callers() -> None:
    """The two switches set `is_reading`."""
    state = StreamingState([1, 1, 1], wait_k=1)
    state.switch_to_writing()
    assert state.is_reading is False
    state.switch_to_reading()
    assert state.is_reading is True


def test_writing_too_early_or_too_much_is_refused() -> None:
    """A word before its source, and a word beyond the limit, name what was wrong."""
    state = StreamingState([4, 1, 1, 1, 1], wait_k=2, max_target_words=1)
    state.mark_source_read()
    assert not state.should_write_next_target()
    with pytest.raises(RuntimeError, match="wait-2 needs 2 source segments before target word 1, 1 have been read"):
        state.mark_target_written()
    state.mark_source_read()
    state.mark_target_written()
    assert not state.should_read_next_source()
    with pytest.raises(RuntimeError, match="max_target_words=1"):
        state.mark_target_written()
    assert "source_words_read=2 of 3, target_words_generated=1" in repr(state)


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([], {"wait_k": 1}, "at least two numbers"),
        ([5], {"wait_k": 1}, "at least two numbers"),
        ([5, -1, 2], {"wait_k": 1}, "0 or more"),
        ([5, 1, 2], {"wait_k": 0}, "wait_k must be at least 1, got 0"),
        ([5, 1, 2], {"wait_k": 1, "max_target_words": 0}, "max_target_words must be at least 1"),
    ],
)
def test_impossible_arguments_are_refused(lengths: list[int], options: dict[str, int], message: str) -> None:
    """Lengths that are no source, and numbers out of range, are told by name."""
    with pytest.raises(ValueError, match=message):
        StreamingState(lengths, **options)
