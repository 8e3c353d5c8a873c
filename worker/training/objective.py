"""The objective in mlx: what streamed decoding would have predicted, for a whole batch in one pass."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from worker.engine.model import StreamingModel
from worker.training.loss import cross_entropy_sum
from worker.training.pairs import Batch


class TrainingCache:
    """No past and a mask of one's own, behind the cache surface of mlx-lm's layers."""

    offset = 0

    def __init__(self, mask: mx.array) -> None:
        self._mask = mask

    def make_mask(self, *_: Any, **__: Any) -> mx.array:
        """The mask (B, 1, T, T) bool, true where a query sees a key."""
        return self._mask

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """The pass's own keys and values (B, H, T, D): there are no others."""
        return keys, values


def attention_mask(num_source: mx.array, seen: mx.array) -> mx.array:
    """Who sees whom, (B, 1, T, T) bool, from the source tokens of each row (B,) and what each query sees (B, T).

    Everybody is causal; a target query sees `seen` source tokens. Padding stands behind all tokens, so none sees it.
    """
    order = mx.arange(seen.shape[1])
    is_source = order[None, :] < num_source[:, None]  # (B, T)
    causal = order[None, :] <= order[:, None]  # (T, T)
    limit = mx.where(is_source, seen.shape[1], seen)
    open_ = (order[None, None, :] < limit[:, :, None]) | ~is_source[:, None, :]
    return (causal[None] & open_)[:, None]


class Objective:
    """The objective of one model."""

    def __init__(self, model: StreamingModel) -> None:
        self.model = model

    def seed(self, number: int) -> None:
        """What the next passes drop depends on this number."""
        mx.random.seed(number)

    def logits(self, batch: Batch) -> mx.array:
        """Logits (Q, V) of the tokens to predict, by the one pass that serving's reads and writes amount to."""
        mask = attention_mask(mx.array(batch.num_source), mx.array(batch.seen))
        caches = [TrainingCache(mask) for _ in range(self.model.num_layers)]
        tokens, positions, queries = map(mx.array, (batch.tokens, batch.positions, batch.queries))
        return self.model.batch(tokens, caches, positions, queries)

    def loss_sum(self, batch: Batch, label_smoothing: float = 0.0) -> mx.array:
        """The cross entropy in nats, summed over the labels; smoothing shares that mass over the whole vocabulary."""
        logits = self.logits(batch).astype(mx.float32)
        return cross_entropy_sum(logits, mx.array(batch.labels), mx.array(batch.weights), label_smoothing)

    def loss_and_gradients(self, batch: Batch, label_smoothing: float = 0.0) -> tuple[mx.array, Any]:
        """`loss_sum` and its gradients by the model's parameters, as a tree."""
        pair: tuple[mx.array, Any] = nn.value_and_grad(self.model.inner, self.loss_sum)(batch, label_smoothing)
        return pair
