"""Parallel text as tokens: pairs, a corpus of them, and batches of pairs as arrays. It needs neither mlx nor PyTorch.

A row of a batch is all source tokens, then all target tokens but the last. Source positions count from 0, target
positions from φ, and every target query sees the source that had been read when its token was fed in serving. The last
token of a word is fed twice there (`worker.core.segment`): with the source that its own word saw, when it has to tell
that the word is over, and again once the next word's source has been read. Its query, which predicts the first token of
that next word, sees one or the other in training, by chance, and counts twice. With the second alone, a model would
learn that a source which has not grown means that the word goes on.
"""

from array import array
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from worker.core.policies.wait_k import wait_k_needed

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]


class Pair(msgspec.Struct, frozen=True):
    """One source and its translation as tokens.

    `bounds[n]` source tokens are the prompt and the first n segments (words, then the end). `predicts[i]` is the index
    of the target word that `target[i + 1]` belongs to, the end of the sequence being one word more; prompt tokens
    predict word 0. The first `num_given` of those predictions are the prompt's own and are not learned.
    """

    source: Ints  # prompt, words, end
    bounds: Ints
    target: Ints  # prompt, words, end of sequence
    predicts: Ints  # (len(target) - 1,)
    num_given: int

    @property
    def num_tokens(self) -> int:
        """Tokens fed for it: all but the end of the sequence, which is only predicted."""
        return len(self.source) + len(self.target) - 1


def visible_source(pair: Pair, wait_k: int | None, early: Bools | None = None) -> Ints:
    """Return how many source tokens each target query sees, (len(target) - 1,); `wait_k` None reads all first.

    A query that is `early` sees what the word before the one that it predicts may see.
    """
    last = len(pair.bounds) - 1
    if wait_k is None:
        return np.full(len(pair.predicts), pair.bounds[last], np.int32)
    words = pair.predicts if early is None else pair.predicts - early
    visible: Ints = pair.bounds[np.minimum(wait_k_needed(wait_k, 0) + words, last)]
    return visible


def begins_word(predicts: Ints) -> Bools:
    """Return which queries predict the first token of a word, the first word left out: (len(target) - 1,)."""
    return np.diff(predicts, prepend=0) > 0


def coin(pairs: NDArray[Any], queries: NDArray[Any], seed: int) -> Bools:
    """Return true or false by chance for each query of each pair of a corpus: a pure function of these numbers."""
    with np.errstate(over="ignore"):
        mixed = pairs.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = mixed + queries.astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(seed % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xD6E8FEB86659FD93)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    return (mixed >> np.uint64(63)).astype(np.bool_)


class Corpus(Protocol):
    """Pairs by index, wherever they are kept."""

    @property
    def weights(self) -> Sequence[float] | NDArray[np.float32]:
        """How often an epoch has each pair."""
        ...

    @property
    def max_segments(self) -> int:
        """Source segments of the longest pair, without prompt and end: its words."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...

    def lengths(self) -> Ints:
        """Tokens to feed for each pair, (len,)."""
        ...


class MemoryCorpus:
    """Pairs in memory, four bytes a token."""

    def __init__(self) -> None:
        self.weights = array("f")
        self._numbers = array("i")  # bounds, predicts, source and target of all pairs
        self._starts = array("q", [0])
        self._shapes = array("i")  # lengths of bounds, predicts and source, and num_given

    def __len__(self) -> int:
        return len(self.weights)

    def add(self, pair: Pair, weight: float = 1.0) -> None:
        """Append a pair."""
        for part in (pair.bounds, pair.predicts, pair.source, pair.target):
            self._numbers.frombytes(np.ascontiguousarray(part, np.int32).tobytes())
        self._starts.append(len(self._numbers))
        self._shapes.extend((len(pair.bounds), len(pair.predicts), len(pair.source), pair.num_given))
        self.weights.append(weight)

    def __getitem__(self, index: int) -> Pair:
        start, stop = self._starts[index], self._starts[index + 1]
        bounds, predicts, source, num_given = self._shapes[4 * index : 4 * index + 4]
        numbers: Ints = np.array(self._numbers[start:stop], np.int32)
        parts = np.split(numbers, np.cumsum([bounds, predicts, source]))
        return Pair(source=parts[2], bounds=parts[0], target=parts[3], predicts=parts[1], num_given=num_given)

    @property
    def max_segments(self) -> int:
        """Source segments of the longest pair, without prompt and end: its words."""
        return max(self._shapes[::4], default=2) - 2

    def lengths(self) -> Ints:
        """Tokens to feed for each pair, (len,)."""
        shapes = np.array(self._shapes, np.int32).reshape(-1, 4)
        lengths: Ints = shapes[:, 2] + shapes[:, 1]
        return lengths


class Batch(msgspec.Struct, frozen=True):
    """Rows of one or several pairs with padding on the right, and what is to be predicted where."""

    tokens: Ints  # (B, T)
    positions: Ints  # (B, T)
    ranks: Ints  # (B, T), as those below by `engine.visibility`
    visible_source: Ints  # (B, T)
    visible_target: Ints  # (B, T)
    pairs: Ints | None  # (B, T), which pair of its row a token belongs to; None: a row is one pair
    queries: Ints  # (Q,), indices into B * T
    labels: Ints  # (Q,)
    weights: NDArray[np.float32]  # (Q,), 0 for padding
    num_labels: int  # the sum of the weights
    num_tokens: int  # source and target tokens without padding


def make_batch(
    pairs: Sequence[Pair], wait_k: int | None, position_offset: int, multiple: int = 1, *,
    early: Sequence[Bools] | None = None,
) -> Batch:  # fmt: skip
    """Arrange pairs in one batch, each a row; T and Q are rounded up to a `multiple`. Raises ValueError for no pairs.

    With `early`, which queries of each pair are, those that begin a word count twice. Padding counts as target behind
    the last one, so no other token sees it.
    """
    if not pairs:
        raise ValueError("a batch holds at least one pair, got none")
    length = rounded(max(pair.num_tokens for pair in pairs), multiple)
    tokens, positions, seen = (np.zeros((len(pairs), length), np.int32) for _ in range(3))
    queries, labels, weights = [], [], []
    for row, pair in enumerate(pairs):
        start, stop = len(pair.source), pair.num_tokens
        tokens[row, :start], tokens[row, start:stop] = pair.source, pair.target[:-1]
        positions[row, :start] = np.arange(start)
        positions[row, start:stop] = position_offset + np.arange(stop - start)
        seen[row, start:stop] = visible_source(pair, wait_k, None if early is None else early[row])
        counts_twice = early is not None and wait_k is not None
        weights.append(1 + counts_twice * begins_word(pair.predicts)[pair.num_given :])
        queries.append(row * length + np.arange(start + pair.num_given, stop))
        labels.append(pair.target[1 + pair.num_given :])
    ranks, source, target = _visibility(seen, [len(pair.source) for pair in pairs])
    return Batch(
        tokens=tokens,
        positions=positions,
        ranks=ranks,
        visible_source=source,
        visible_target=target,
        pairs=None,
        queries=_joined(queries, multiple).astype(np.int32),
        labels=_joined(labels, multiple).astype(np.int32),
        weights=_joined(weights, multiple).astype(np.float32),
        num_labels=int(sum(map(np.sum, weights))),
        num_tokens=sum(pair.num_tokens for pair in pairs),
    )


def _visibility(seen: Ints, num_source: Sequence[int]) -> tuple[Ints, Ints, Ints]:
    # Ranks, and how many source and target tokens each token sees, (B, T) each.
    order = np.arange(seen.shape[1], dtype=np.int32)[None]
    target = order - np.array(num_source, np.int32)[:, None]
    is_source = target < 0
    return np.where(is_source, order, -1 - target), np.where(is_source, order + 1, seen), np.maximum(target + 1, 0)


def _joined(parts: Sequence[NDArray[Any]], multiple: int) -> NDArray[Any]:
    joined = np.concatenate(parts)
    return np.pad(joined, (0, rounded(len(joined), multiple) - len(joined)))


def rounded(number: int, multiple: int) -> int:
    """Return the next multiple that is not below the number."""
    return -(-number // multiple) * multiple
