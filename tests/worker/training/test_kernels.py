"""The fast kernels compute what mlx and mlx-lm compute, gradients included."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.models import activations, qwen2

from tests.worker.training.pairs import tiny
from worker.training import kernels
from worker.training.loop import number

GATES = mx.concatenate([mx.linspace(-200, 200, 4001), mx.linspace(-1e-3, 1e-3, 101), mx.array([0.0])])
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
    return kernels.cross_entropy_sum(logits, LABELS, WEIGHTS, smoothing)


def is_finite(array: Any, place: int) -> bool:
    """Tell whether there is a number at this place."""
    return bool(mx.isfinite(array[place]))


@pytest.mark.parametrize("factor", [1.0, -3.0, 1e-3, 1e3])
def test_swiglu_and_its_gradients_are_those_of_mlx_lm(factor: float) -> None:
    """Within 1e-4 for gates up to ±200, by both arguments and with any gradient behind it."""
    x, by = mx.full(GATES.shape, factor), mx.cos(GATES)
    mine, other = kernels.swiglu(GATES, x), activations.swiglu(GATES, x)
    assert_close(mine, other, abs(factor))
    gradients = [
        mx.grad(lambda gate, x, kernel=kernel: (kernel(gate, x) * by).sum(), argnums=(0, 1))(GATES, x)
        for kernel in (kernels.swiglu, activations.swiglu)
    ]
    assert_close(gradients[0][0], gradients[1][0], abs(factor))
    assert_close(gradients[0][1], gradients[1][1])


def test_the_exponential_is_near_and_exact_at_zero() -> None:
    """Within 5e-5 of the value wherever fp32 has room for it; below that it is next to nothing."""
    x = np.linspace(-80, 80, 20_001).astype(np.float32)
    np.testing.assert_allclose(np.array(kernels._exp(mx.array(x))), np.exp(x.astype(np.float64)), rtol=5e-5)
    assert number(kernels._exp(mx.array(0.0))) == 1.0
    assert 0 <= number(kernels._exp(mx.array(-1e30))) < 1e-34


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
    """A logit that is NaN or infinite gives a loss and gradients of NaN, SwiGLU too: the trainer stops at it."""
    row = mx.where(mx.arange(SIZE) == place, value, mx.linspace(-3, 3, SIZE))
    logits = mx.broadcast_to(row, (NUM_ROWS, SIZE))
    assert bool(mx.isnan(ours(logits, 0.1)))
    assert bool(mx.isnan(mx.grad(ours)(logits, 0.1)[0]).any())
    assert not is_finite(kernels.swiglu(row, mx.ones(SIZE)), place)
    broken = mx.where(mx.arange(SIZE) == place, float("nan"), mx.ones(SIZE))
    for arguments in ((broken, row), (row, broken)):
        assert not is_finite(kernels.swiglu(*arguments), place)


def test_a_model_uses_it_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The architecture's module has the kernel, and the model's logits stay what they were."""
    model, tokens = tiny(), mx.array([[3, 5, 7]])
    monkeypatch.setattr(qwen2, "swiglu", activations.swiglu)
    before = model(tokens)
    mx.eval(before)
    kernels.use_in(model.inner)
    assert (qwen2.swiglu is kernels.swiglu) is (mx.default_device() == mx.cpu)
    assert_close(model(tokens), before)


def test_keeping_memory_can_be_asked_for_anywhere() -> None:
    """It says nothing, on whatever platform and however often."""
    kernels.keep_memory()
    kernels.keep_memory()
