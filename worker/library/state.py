"""The state of a wait-k translation: the words read, the words written, and the next step that the policy allows."""

from collections.abc import Sequence

from worker.core.policies.wait_k import calculate_wait_words
from worker.library.arguments import check_segments


def generate_wait_words_list(source_seg_len: Sequence[int], target_seg_len: Sequence[int], wait_k: int) -> list[int]:
    """Return the source segments to read before each target word: `calculate_wait_words` for all of `target_seg_len`.

    >>> generate_wait_words_list([9, 1, 2, 1], [1, 1, 3, 1], wait_k=2)
    [2, 3, 3, 3]
    """
    return [calculate_wait_words(source_seg_len, index, wait_k) for index in range(len(target_seg_len))]


class StreamingState:
    """A wait-k translation of `source_seg_len` = [prompt, word 1 … word N, end] tokens, step by step.

    The source is read in N + 1 steps: prompt and word 1, word 2, … word N, end. `is_reading` is a mode for the caller's
    loop; the state itself refuses only what the policy forbids. Raises ValueError for lengths of another form, for
    wait_k < 1 and for max_target_words < 1.
    """

    def __init__(self, source_seg_len: Sequence[int], wait_k: int, max_target_words: int | None = None) -> None:
        check_segments(source_seg_len)
        if wait_k < 1:
            raise ValueError(f"wait_k must be at least 1, got {wait_k}")
        if max_target_words is not None and max_target_words < 1:
            raise ValueError(f"max_target_words must be at least 1, or None for no limit, got {max_target_words}")
        self.source_seg_len = [int(length) for length in source_seg_len]
        self.wait_k = wait_k
        self.max_target_words = max_target_words
        self.target_words_generated = 0
        self.is_reading = True
        self.wait_lagging: list[int] = []
        self._segments_read = 0

    def __repr__(self) -> str:
        mode = "reading" if self.is_reading else "writing"
        return (
            f"StreamingState({mode}, wait_k={self.wait_k}, source_words_read={self.source_words_read} of "
            f"{len(self.source_seg_len) - 2}, target_words_generated={self.target_words_generated})"
        )

    @property
    def source_words_read(self) -> int:
        """The number of source words read so far, without the end marker."""
        return min(self._segments_read, len(self.source_seg_len) - 2)

    def check_wait_k_policy(self) -> bool:
        """Return whether enough source has been read for the next target word."""
        return self._segments_read >= self._needed()

    def should_read_next_source(self) -> bool:
        """Return whether the next target word needs more source than has been read."""
        return self._has_room() and not self.check_wait_k_policy()

    def should_write_next_target(self) -> bool:
        """Return whether the policy and max_target_words allow the next target word."""
        return self._has_room() and self.check_wait_k_policy()

    def get_source_tokens_to_read(self) -> int:
        """Return the tokens of the next step: prompt and word 1 first, then one segment each; 0 after the last one."""
        start = self._segments_read + 1 if self._segments_read else 0
        return sum(self.source_seg_len[start : self._segments_read + 2])

    def mark_source_read(self) -> None:
        """Count one more step of the source as read. Raises RuntimeError if none is left."""
        if self._segments_read == len(self.source_seg_len) - 1:
            raise RuntimeError(
                f"all {len(self.source_seg_len)} source segments have been read; get_source_tokens_to_read() is 0 then"
            )
        self._segments_read += 1

    def mark_target_written(self) -> None:
        """Count one more target word as written, and record its lag.

        Raises RuntimeError if the policy needs more source first, or max_target_words is reached.
        """
        if not self._has_room():
            raise RuntimeError(f"max_target_words={self.max_target_words} target words have been written already")
        if not self.check_wait_k_policy():
            raise RuntimeError(
                f"wait-{self.wait_k} needs {self._needed()} source segments before target word "
                f"{self.target_words_generated + 1}, {self._segments_read} have been read; ask check_wait_k_policy()"
            )
        self.wait_lagging.append(self.source_words_read)
        self.target_words_generated += 1

    def switch_to_writing(self) -> None:
        """Set the mode of the caller's loop to writing."""
        self.is_reading = False

    def switch_to_reading(self) -> None:
        """Set the mode of the caller's loop to reading."""
        self.is_reading = True

    def _needed(self) -> int:
        return calculate_wait_words(self.source_seg_len, self.target_words_generated, self.wait_k)

    def _has_room(self) -> bool:
        return self.max_target_words is None or self.target_words_generated < self.max_target_words
