"""Cross entropy, on a CPU several times as fast as MLX's own: by fused exponentials, each taken once."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from worker.engine.adapters.kernels import can_fuse, exp


@mx.compile
def _powers(logits: mx.array, highest: mx.array) -> mx.array:
    return exp(logits - highest)


@mx.compile
def _shares(powers: mx.array, scale: mx.array, shift: mx.array) -> mx.array:
    return powers * scale - shift


def cross_entropy_sum(logits: mx.array, labels: mx.array, weights: mx.array, smoothing: float) -> mx.array:
    """The weighted sum of the cross entropies in nats: `logits` (Q, V) fp32, `labels` and `weights` (Q,).

    Smoothing shares that part of each label's mass over the whole vocabulary. On a CPU the exponentials of the loss
    are kept for the gradients.
    """
    if not can_fuse():
        each = nn.losses.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        plain: mx.array = (each * weights).sum()
        return plain

    @mx.custom_function
    def total(logits: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        highest = logits.max(-1, keepdims=True)
        powers = _powers(logits, highest)
        sums = powers.sum(-1, keepdims=True)
        label = mx.take_along_axis(logits, labels[:, None], -1)
        each = highest + mx.log(sums) - (1 - smoothing) * label
        if smoothing:
            each = each - smoothing * logits.mean(-1, keepdims=True)
        return (each[:, 0] * weights).sum(), powers, sums

    @total.vjp
    def _(_: Any, by: tuple[mx.array, ...], outputs: tuple[mx.array, ...]) -> mx.array:
        _, powers, sums = outputs
        scale = (by[0] * weights)[:, None]
        # By each logit: what softmax gives it, less what the smoothed label has there.
        gradient = _shares(powers, scale / sums, scale * (smoothing / logits.shape[-1]))
        rows = mx.arange(labels.shape[0])
        return gradient.at[rows, labels].add(-(1 - smoothing) * scale[:, 0])

    outputs: Any = total(logits)
    loss: mx.array = outputs[0]
    return loss
