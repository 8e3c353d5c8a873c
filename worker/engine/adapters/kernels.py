"""Fast CPU kernels for SwiGLU and attention: exponentials as sums and products, fused by `mx.compile`.

These take 2 ns an element. MLX's take 12: with them, SwiGLU costs as much as the matrix products around it, and the
softmax of attention costs more. NaN stays NaN.
"""

import math
import shutil
from functools import cache
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import activations

from worker.engine.adapters.rebinding import rebind

_LOWEST = -80.0  # its exponential is about the smallest number that fp32 holds
_DOUBLINGS = 6
_SQUARINGS = 2
_UNSEEN = -1e9
_MANY = 2**14  # scores: for fewer, the calls cost more than the exponentials


@cache
def can_fuse() -> bool:
    """Tell whether the kernels are useful here: on a CPU, with the compiler that mlx needs for fusion."""
    return mx.default_device() == mx.cpu and shutil.which("g++") is not None


def apply_to(model: nn.Module) -> int:
    """Make the model's layers compute SwiGLU by `swiglu` where that is faster; return how many do."""
    return rebind(model, activations.swiglu, swiglu) if can_fuse() else 0


def exp(x: mx.array) -> mx.array:
    """Return e to the `x`, elementwise, for |x| <= 80; fp32, to be called within `mx.compile`.

    Off by at most 1e-6 · max(1, x) · max(1, e^x): little more than by rounding `x`.
    """
    # The series of exp(y) - 1 near 0, then only products and sums, which vectorise and fuse. Squaring exp(y) all the
    # way would double its rounding each time, up to 3e-5, of which every layer of a sharp model makes more. It does
    # not grow where exp(y) - 1 becomes exp(2y) - 1. The last steps are squares: what is nearly 0 keeps its digits.
    y = mx.maximum(x, _LOWEST) * (1 / 2 ** (_DOUBLINGS + _SQUARINGS))
    less_one = y * (1 + y * (1 / 2 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120 + y * (1 / 720))))))
    for _ in range(_DOUBLINGS):
        less_one = less_one * (2 + less_one)
    power: mx.array = 1 + less_one
    for _ in range(_SQUARINGS):
        power = power * power
    return power


def _sigmoid(x: mx.array) -> mx.array:
    return 1 / (1 + exp(mx.minimum(-x, -_LOWEST)))


@mx.compile
def _swiglu(gate: mx.array, x: mx.array) -> mx.array:
    return gate * _sigmoid(gate) * x


@mx.compile
def _swiglu_gradient(gate: mx.array, x: mx.array, by: mx.array) -> tuple[mx.array, mx.array]:
    sigmoid = _sigmoid(gate)
    by_sigmoid = by * sigmoid
    return by_sigmoid * x * (1 + gate * (1 - sigmoid)), by_sigmoid * gate


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """Return silu(`gate`) · `x`, elementwise, for arrays of one shape and any float dtype."""
    # In half precision the series would be too coarse.
    product: Any = _fused(gate, x) if gate.dtype == mx.float32 else activations.swiglu(gate, x)
    return cast(mx.array, product)


@mx.custom_function
def _fused(gate: mx.array, x: mx.array) -> mx.array:
    product: mx.array = _swiglu(gate, x)
    return product


@_fused.vjp
def _fused_vjp(primals: tuple[mx.array, mx.array], by: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
    pair: tuple[mx.array, mx.array] = _swiglu_gradient(*primals, by)
    return pair


@mx.compile
def _exponentials(scores: mx.array, highest: mx.array) -> mx.array:
    return exp(scores - highest)


def weights(queries: mx.array, keys: mx.array, *, mask: mx.array, scale: float) -> mx.array:
    """Return the weights that `queries` (R, H, T, D) give to `keys` (R, G, L, D), by head: (R, H, T, L) fp32. `mask`
    (R, 1, T, L) as in `attention`.
    """
    rows, heads, tokens, size = queries.shape
    groups = keys.shape[1]
    # Products of half precision might overflow where mx.fast's do not.
    lines = (queries.astype(mx.float32) * scale).reshape(rows, groups, -1, size)
    scores = lines @ keys.astype(mx.float32).swapaxes(-1, -2)
    visible = mx.tile(mask, (1, 1, heads // groups, 1))
    by_head: mx.array = mx.softmax(mx.where(visible, scores, _UNSEEN), axis=-1)
    return by_head.reshape(rows, heads, tokens, -1)


def attention(queries: mx.array, keys: mx.array, values: mx.array, *, mask: mx.array, **options: Any) -> mx.array:
    """Return what `queries` (R, H, T, D) read of `values` (R, G, L, D), H a multiple of G: (R, H, T, D).

    `mask` (R, 1, T, L) or (T, L) bool, true where a query sees a key: at least one for each. `options` are those of
    mx.fast's function.
    """
    num_scores = math.prod(queries.shape[:-1]) * keys.shape[2]
    if not can_fuse() or num_scores < _MANY or queries.dtype != mx.float32 or set(options) != {"scale"}:
        fast: mx.array = mx.fast.scaled_dot_product_attention(queries, keys, values, mask=mask, **options)
        return fast
    rows, heads, tokens, size = queries.shape
    groups = keys.shape[1]
    # Heads that share keys are more queries to them.
    lines = (queries * options["scale"]).reshape(rows, groups, -1, size)
    visible = mx.tile(mask, (heads // groups, 1))
    scores = mx.where(visible, lines @ keys.swapaxes(-1, -2), _UNSEEN)
    powers = _exponentials(scores, scores.max(axis=-1, keepdims=True))
    output = (powers @ values) / powers.sum(axis=-1, keepdims=True)
    return output.reshape(rows, heads, tokens, -1)
