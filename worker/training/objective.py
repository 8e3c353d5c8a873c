"""The objective in mlx: what streamed decoding would have predicted, for a whole batch in one pass."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from worker.engine.model import StreamingModel
from worker.engine.visibility import attention_mask
from worker.training.loss import cross_entropy_sum
from worker.training.pairs import Batch


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


def batch_mask(batch: Batch) -> mx.array:
    """Return who sees whom, (B, 1, T, T) bool, by the engine's own rule; padding is seen by padding alone."""
    mask = attention_mask(batch.ranks, batch.visible_source, batch.visible_target)
    if batch.pairs is not None:
        mask &= batch.pairs[:, :, None] == batch.pairs[:, None, :]
    return mx.array(mask[:, None])


class Objective:
    """The objective of one model."""

    def __init__(self, model: StreamingModel) -> None:
        self.model = model

    def seed(self, number: int) -> None:
        """Seed what the next passes drop."""
        mx.random.seed(number)

    def logits(self, batch: Batch) -> mx.array:
        """Return the logits (Q, V) of the tokens to predict, by one pass that is all of serving's reads and writes."""
        mask = batch_mask(batch)
        caches = [TrainingCache(mask) for _ in range(self.model.num_layers)]
        tokens, positions, queries = map(mx.array, (batch.tokens, batch.positions, batch.queries))
        return self.model.batch(tokens, caches, positions, queries)

    def loss_sum(self, batch: Batch, label_smoothing: float = 0.0) -> mx.array:
        """Return the cross entropy in nats, summed over the labels; smoothing spreads that mass over the vocabulary."""
        logits = self.logits(batch).astype(mx.float32)
        return cross_entropy_sum(logits, mx.array(batch.labels), mx.array(batch.weights), label_smoothing)

    def loss_and_gradients(self, batch: Batch, label_smoothing: float = 0.0) -> tuple[mx.array, Any]:
        """Return `loss_sum` and its gradients by the model's parameters, as a tree."""
        pair: tuple[mx.array, Any] = nn.value_and_grad(self.model.inner, self.loss_sum)(batch, label_smoothing)
        return pair
