"""Batches of one shape: rows of a fixed length with several pairs each, made from a pack by array operations alone.

A compiled pass wants the same shape every time, and a GPU is done with a batch before a loop over its pairs would be.
"""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from worker.training.batches import drawn
from worker.training.errors import DataError
from worker.training.pack import FIRST, PackedCorpus
from worker.training.pairs import Batch, Ints, coin, rounded

ROW_TOKENS: Final = 512
"""Attention takes time by its square. Of ordinary text, one pair in thousands is longer and left out."""
_LABEL_STEPS: Final = 16
"""The number of labels is padded to a multiple of this part of a batch, so that nearly all batches have the same."""
_UNSEEN: Final = 2**31 - 1


class RowPacker:
    """Arranges the pairs of a corpus in rows, at most `tokens_per_batch` tokens in a batch but for a single row.

    Raises DataError where no pair fits into a row.
    """

    def __init__(self, corpus: PackedCorpus, tokens_per_batch: int, position_offset: int) -> None:
        self._corpus, self._position_offset = corpus, position_offset
        self.num_rows = max(1, tokens_per_batch // ROW_TOKENS)
        self._weights = np.where(corpus.lengths() <= ROW_TOKENS, np.asarray(corpus.weights, np.float64), 0.0)
        self.num_left_out = int((corpus.lengths() > ROW_TOKENS).sum())
        if len(corpus) and self.num_left_out == len(corpus):
            raise DataError(
                f"all {len(corpus)} pairs are longer than a row of {ROW_TOKENS} tokens, source and target together; "
                "give shorter ones, or train with --device cpu, which has no such limit"
            )

    def epoch(self, seed: int, epoch: int) -> list[Ints]:
        """Return the pairs of each batch of an epoch, in the order in which they fill its rows."""
        chosen = drawn(self._weights, np.random.default_rng((seed, epoch)))
        starts = self._row_starts(self._corpus.lengths()[chosen])[:: self.num_rows]
        return np.split(chosen, starts[1:])

    def batch(self, indices: Ints, wait_k: int | None, seed: int | None = None) -> Batch:
        """Return the batch of these pairs, as `epoch` gave them; `wait_k` None reads all source first.

        `seed` draws which queries look early; None: none does.
        """
        size = self.num_rows * ROW_TOKENS
        tokens = self._tokens(indices)
        is_target = tokens.target >= 0
        is_label = tokens.target >= self._corpus.num_given
        words = _predicted_words(tokens)
        begins_word = (np.diff(words, prepend=0) > 0) & (tokens.target > 0)
        if seed is not None:
            words = words - (begins_word & coin(indices[tokens.pairs], tokens.target, seed))
        seen = _visible_source(tokens, words, wait_k)
        weights = (1 + (seed is not None and wait_k is not None) * begins_word)[is_label]

        def rows(values: Any, empty: int = 0) -> Ints:
            flat = np.full(size, empty, np.int32)
            flat[tokens.places] = values
            return flat.reshape(self.num_rows, ROW_TOKENS)

        spare = rounded(len(weights), max(1, size // _LABEL_STEPS)) - len(weights)
        return Batch(
            tokens=rows(tokens.ids),
            positions=rows(np.where(is_target, self._position_offset + tokens.target, tokens.source)),
            ranks=rows(np.where(is_target, -1 - tokens.target, tokens.source), _UNSEEN),
            visible_source=rows(np.where(is_target, seen, tokens.source + 1)),
            visible_target=rows(np.maximum(tokens.target + 1, 0)),
            pairs=rows(tokens.pairs, -1),
            queries=np.pad(tokens.places[is_label], (0, spare)).astype(np.int32),
            labels=np.pad(tokens.following[is_label], (0, spare)).astype(np.int32),
            weights=np.pad(weights, (0, spare)).astype(np.float32),
            num_labels=int(weights.sum()),
            num_tokens=len(tokens.ids),
        )

    def _row_starts(self, lengths: Ints) -> list[int]:
        # Each row takes the pairs that come next, as many as fit.
        ends = np.cumsum(lengths, dtype=np.int64)
        starts, used = [0], 0
        while (stop := int(np.searchsorted(ends, used + ROW_TOKENS, side="right"))) < len(lengths):
            starts.append(stop)
            used = int(ends[stop - 1])
        return starts

    def _tokens(self, indices: Ints) -> "_Tokens":
        corpus, lengths = self._corpus, self._corpus.lengths()[indices]
        begins = np.cumsum(lengths, dtype=np.int64) - lengths
        starts = np.array(self._row_starts(lengths))
        row_of = np.searchsorted(starts, np.arange(len(indices)), side="right") - 1
        shifts = row_of * ROW_TOKENS - begins[starts[row_of]]
        pairs = np.repeat(np.arange(len(indices), dtype=np.int32), lengths)
        order = np.arange(len(pairs))
        source = order - begins[pairs]
        read_at = corpus.starts[indices][pairs] + source
        raw, following = corpus.tokens[read_at], corpus.tokens[read_at + 1]
        num_source = corpus.num_source[indices]
        return _Tokens(
            ids=raw & (FIRST - 1),
            following=following & (FIRST - 1),
            begins_unit=raw >= FIRST,
            precedes_unit=following >= FIRST,
            pairs=pairs,
            source=source,
            target=source - num_source[pairs],
            num_source=num_source,
            places=order + shifts[pairs],
        )


class _Tokens(msgspec.Struct, frozen=True):
    """All tokens that a batch feeds, pair by pair: (N,) each, but for the source tokens of the P pairs."""

    ids: NDArray[Any]
    following: NDArray[Any]  # the id behind it
    begins_unit: NDArray[Any]  # a source segment or a target word
    precedes_unit: NDArray[Any]
    pairs: NDArray[Any]
    source: NDArray[Any]  # its place in the pair
    target: NDArray[Any]  # its place in the target, below 0 in the source
    num_source: NDArray[Any]  # (P,)
    places: NDArray[Any]  # in the flat batch


def _predicted_words(tokens: _Tokens) -> NDArray[Any]:
    # (N,): as `Pair.predicts`; 0 in the source.
    is_target = tokens.target >= 0
    begun = np.cumsum(tokens.precedes_unit & is_target)
    first = np.flatnonzero(tokens.target == 0)
    before: NDArray[Any] = begun[first] - (tokens.precedes_unit & is_target)[first]
    words: NDArray[Any] = np.where(is_target, np.maximum(begun - before[tokens.pairs] - 1, 0), 0)
    return words


def _visible_source(tokens: _Tokens, words: NDArray[Any], wait_k: int | None) -> NDArray[Any]:
    # (N,): as `pairs.visible_source`, for all pairs at once; of no meaning in the source.
    all_source: NDArray[Any] = tokens.num_source[tokens.pairs]
    if wait_k is None:
        return all_source
    begins_segment = tokens.begins_unit & (tokens.target < 0)
    stops = tokens.source[begins_segment]  # source tokens before each segment of each pair
    num_segments = np.bincount(tokens.pairs[begins_segment], minlength=len(tokens.num_source))
    first_segment = np.cumsum(num_segments) - num_segments
    segments = np.minimum(wait_k + words, num_segments[tokens.pairs] - 1)
    behind = np.minimum(first_segment[tokens.pairs] + segments + 1, len(stops) - 1)
    visible: NDArray[Any] = np.where(segments == num_segments[tokens.pairs] - 1, all_source, stops[behind])
    return visible
