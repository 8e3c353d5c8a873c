"""The objective: what streamed decoding would have predicted, for a whole batch in one pass.

A row is all source tokens, then all target tokens but the last, with the positions and the mask of the engine's own
rule (`worker.engine.visibility`). A target query sees the source that had been read when its token was fed in serving:
the last token of a word is fed again once the next word's source has been read, so its query, which predicts the first
token of that next word, sees what that next word may see (`worker.core.segment`).
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import msgspec
import numpy as np
from numpy.typing import NDArray

from worker.core.policies.wait_k import wait_k_needed
from worker.engine.model import StreamingModel
from worker.engine.visibility import CacheState, GroupLayout, TokenMetadata
from worker.training.loss import cross_entropy_sum

Ints = NDArray[np.int32]


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


class Batch(msgspec.Struct, frozen=True):
    """Rows of source, target and padding on the right, and what is to be predicted where."""

    tokens: mx.array  # (B, T) int32
    positions: mx.array  # (B, T) int32
    mask: mx.array  # (B, 1, T, T) bool, true where a query sees a key
    queries: mx.array  # (Q,) int32, indices into B * T
    labels: mx.array  # (Q,) int32
    weights: mx.array  # (Q,) float32, 0 for padding
    num_labels: int  # Q without padding
    num_tokens: int  # source and target tokens without padding


class TrainingCache:
    """No past and a mask of one's own, behind the cache surface of mlx-lm's layers."""

    offset = 0

    def __init__(self, mask: mx.array) -> None:
        self._mask = mask

    def make_mask(self, *_: Any, **__: Any) -> mx.array:
        """Return the mask (B, 1, T, T) bool, true where a query sees a key."""
        return self._mask

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Return the pass's own keys and values (B, H, T, D): there are no others."""
        return keys, values


def visible_source(pair: Pair, wait_k: int | None) -> Ints:
    """Return how many source tokens each target query sees, (len(target) - 1,); `wait_k` None reads all first."""
    last = len(pair.bounds) - 1
    if wait_k is None:
        return np.full(len(pair.predicts), pair.bounds[last], np.int32)
    segments = np.minimum(wait_k_needed(wait_k, 0) + pair.predicts, last)
    visible: Ints = pair.bounds[segments]
    return visible


def make_batch(
    pairs: Sequence[Pair], wait_k: int | None, position_offset: int, multiple: int = 1, pad_token: int = 0
) -> Batch:
    """Return the pairs as one batch; T and Q are rounded up to a `multiple`. Raises ValueError for no pairs."""
    if not pairs:
        raise ValueError("a batch holds at least one pair, got none")
    length = _rounded(max(pair.num_tokens for pair in pairs), multiple)
    shape = (len(pairs), length)
    tokens, positions = np.full(shape, pad_token, np.int32), np.zeros(shape, np.int32)
    mask = np.zeros((*shape, length), np.bool_)
    mask[:] = np.eye(length, dtype=np.bool_)  # padding sees itself alone, so that no softmax is over nothing
    queries, labels = [], []
    for row, pair in enumerate(pairs):
        start, stop = len(pair.source), pair.num_tokens
        metadata = serving_metadata(pair, wait_k, position_offset)
        tokens[row, :start], tokens[row, start:stop] = pair.source, pair.target[:-1]
        positions[row, :stop] = metadata.positions
        mask[row, :stop, :stop] = metadata.mask()
        queries.append(row * length + np.arange(start + pair.num_given, stop))
        labels.append(pair.target[1 + pair.num_given :])
    flat_queries, flat_labels = np.concatenate(queries), np.concatenate(labels)
    spare = _rounded(len(flat_queries), multiple) - len(flat_queries)
    return Batch(
        tokens=mx.array(tokens),
        positions=mx.array(positions),
        mask=mx.array(mask[:, None]),
        queries=mx.array(np.pad(flat_queries, (0, spare)).astype(np.int32)),
        labels=mx.array(np.pad(flat_labels, (0, spare)).astype(np.int32)),
        weights=mx.array(np.pad(np.ones(len(flat_labels), np.float32), (0, spare))),
        num_labels=len(flat_labels),
        num_tokens=sum(pair.num_tokens for pair in pairs),
    )


def serving_metadata(pair: Pair, wait_k: int | None, position_offset: int) -> TokenMetadata:
    """Return positions and visibility of all tokens fed for the pair: what a cache gives that is fed them all anew."""
    recorded = visible_source(pair, wait_k).tolist()
    return CacheState().extend(GroupLayout(position_offset), len(pair.source), len(recorded), recorded)[1]


class Objective:
    """The objective of one model."""

    def __init__(self, model: StreamingModel) -> None:
        self.model = model

    def seed(self, number: int) -> None:
        """Seed what the next passes drop."""
        mx.random.seed(number)

    def logits(self, batch: Batch) -> mx.array:
        """Return the logits (Q, V) of the tokens to predict, by one pass that is all of serving's reads and writes."""
        caches = [TrainingCache(batch.mask) for _ in range(self.model.num_layers)]
        return self.model.batch(batch.tokens, caches, batch.positions, batch.queries)

    def loss_sum(self, batch: Batch, label_smoothing: float = 0.0) -> mx.array:
        """Return the cross entropy in nats, summed over the labels; smoothing spreads that mass over the vocabulary."""
        logits = self.logits(batch).astype(mx.float32)
        return cross_entropy_sum(logits, batch.labels, batch.weights, label_smoothing)

    def loss_and_gradients(self, batch: Batch, label_smoothing: float = 0.0) -> tuple[mx.array, Any]:
        """Return `loss_sum` and its gradients by the model's parameters, as a tree."""
        pair: tuple[mx.array, Any] = nn.value_and_grad(self.model.inner, self.loss_sum)(batch, label_smoothing)
        return pair


def _rounded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
