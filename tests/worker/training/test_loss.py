"""The fast cross entropy is mlx's own, gradients included."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.training.loss import cross_entropy_sum
from worker.training.memory import keep_memory
from worker.training.mlx_backend import number

NUM_ROWS, SIZE = 5, 40
LABELS = mx.array([0, 7, 39, 7, 20])
WEIGHTS = mx.array([1.0, 0.0, 1.0, 0.5, 0.0])
Rows = list[list[float]]


def assert_close(ours: Any, theirs: Any, scale: float = 1.0) -> None:
    """Within 1e-4 of the value, and 1e-5 of `scale` where the value is near 0; finite all over."""
    assert bool(mx.isfinite(ours).all())
    np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-4, atol=1e-5 * scale)


def theirs(logits: mx.array, smoothing: float) -> mx.array:
    """mlx's own cross entropy, weighted and summed."""
    each = nn.losses.cross_entropy(logits, LABELS, label_smoothing=smoothing, reduction="none")
    total: mx.array = (each * WEIGHTS).sum()
    return total


def ours(logits: mx.array, smoothing: float) -> mx.array:
    """The kernel's."""
    return cross_entropy_sum(logits, LABELS, WEIGHTS, smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(
        st.lists(st.floats(-30, 30, width=32), min_size=SIZE, max_size=SIZE), min_size=NUM_ROWS, max_size=NUM_ROWS
    )
)
def test_cross_entropy_and_its_gradients_are_those_of_mlx(smoothing: float, rows: Rows) -> None:
    """With and without smoothing; a row of weight 0 counts for nothing."""
    logits = mx.array(rows)
    assert_close(ours(logits, smoothing), theirs(logits, smoothing), 10.0)
    gradient = mx.grad(ours)(logits, smoothing)
    assert_close(gradient, mx.grad(theirs)(logits, smoothing))
    assert not gradient[1].any()


def test_the_gradient_is_scaled_by_what_follows() -> None:
    """The mean over labels has gradients of the mean."""
    logits = mx.random.normal((NUM_ROWS, SIZE), key=mx.random.key(0))
    assert_close(
        mx.grad(lambda logits: ours(logits, 0.1) / 8)(logits), mx.grad(lambda logits: theirs(logits, 0.1) / 8)(logits)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("high", [0, 7, 11])
def test_extreme_logits_have_finite_gradients(smoothing: float, high: int) -> None:
    """One logit of 1e4 among those of -1e4, be it the label's or not: as mlx has it, and no gradient beyond 1."""
    logits = mx.broadcast_to(mx.where(mx.arange(SIZE) == high, 1e4, -1e4), (NUM_ROWS, SIZE))
    assert_close(ours(logits, smoothing), theirs(logits, smoothing))
    gradient = mx.grad(ours)(logits, smoothing)
    assert_close(gradient, mx.grad(theirs)(logits, smoothing))
    assert number(mx.abs(gradient).max()) <= 1


@pytest.mark.parametrize("place", [0, 17, SIZE - 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(value: float, place: int) -> None:
    """A logit that is NaN or infinite gives a loss and gradients of NaN: the trainer stops at it."""
    row = mx.where(mx.arange(SIZE) == place, value, mx.linspace(-3, 3, SIZE))
    logits = mx.broadcast_to(row, (NUM_ROWS, SIZE))
    assert bool(mx.isnan(ours(logits, 0.1)))
    assert bool(mx.isnan(mx.grad(ours)(logits, 0.1)[0]).any())


def test_keeping_memory_can_be_asked_for_anywhere() -> None:
    """It says nothing, on whatever platform and however often."""
    keep_memory()
    keep_memory()
