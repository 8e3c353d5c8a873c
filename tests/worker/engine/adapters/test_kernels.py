"""The fast kernels compute what mlx and mlx-lm compute, gradients included."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import activations

from tests.worker.engine.tiny import build
from worker.engine.adapters import kernels
from worker.training.loop import number

GATES = mx.concatenate([mx.linspace(-200, 200, 4001), mx.linspace(-1e-3, 1e-3, 101), mx.array([0.0])])
SIZE = 40


def assert_close(ours: Any, theirs: Any, scale: float = 1.0) -> None:
    """Within 1e-5 of the value, and 2e-6 of `scale` where the value is near 0; finite all over."""
    assert bool(mx.isfinite(ours).all())
    np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-5, atol=2e-6 * scale)


def is_finite(array: Any, place: int) -> bool:
    """Tell whether there is a number at this place."""
    return bool(mx.isfinite(array[place]))


@pytest.mark.parametrize("factor", [1.0, -3.0, 1e-3, 1e3])
def test_swiglu_and_its_gradients_are_those_of_mlx_lm(factor: float) -> None:
    """Within rounding for gates up to ±200, by both arguments and with any gradient behind it."""
    x, by = mx.full(GATES.shape, factor), mx.cos(GATES)
    mine, other = kernels.swiglu(GATES, x), activations.swiglu(GATES, x)
    assert_close(mine, other, abs(factor))
    gradients = [
        mx.grad(lambda gate, x, kernel=kernel: (kernel(gate, x) * by).sum(), argnums=(0, 1))(GATES, x)
        for kernel in (kernels.swiglu, activations.swiglu)
    ]
    assert_close(gradients[0][0], gradients[1][0], abs(factor))
    assert_close(gradients[0][1], gradients[1][1])


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("scale", [0.1, 5.0])
def test_attention_is_that_of_mlx(monkeypatch: pytest.MonkeyPatch, heads: tuple[int, int], scale: float) -> None:
    """Rows of many heads that share keys or do not, soft and hard, with a mask for each row or for all."""
    monkeypatch.setattr(kernels, "_MANY", 0)
    shape = {"q": (3, heads[0], 4, 8), "k": (3, heads[1], 9, 8), "v": (3, heads[1], 9, 8)}
    q, k, v = (mx.random.normal(size, key=mx.random.key(i)) for i, size in enumerate(shape.values()))
    for mask in (mx.random.uniform(shape=(3, 1, 4, 9)) > 0.5, mx.tri(4, 9, 5, dtype=mx.bool_)):
        mask[..., 0] = True
        theirs = mx.fast.scaled_dot_product_attention(q, k, v, mask=mask, scale=scale)
        assert_close(kernels.attention(q, k, v, mask=mask, scale=scale), theirs)


def test_the_exponential_is_as_exact_as_its_argument() -> None:
    """It is off by little more than rounding makes of the argument, and never below 0; what is far below is nothing."""
    x = np.linspace(-80, 80, 200_001).astype(np.float32)
    found, expected = np.array(kernels.exp(mx.array(x))), np.exp(x.astype(np.float64))
    assert (np.abs(found - expected) <= 1e-6 * np.maximum(1, x) * np.maximum(1, expected)).all()
    assert (found >= 0).all()
    assert number(kernels.exp(mx.array(0.0))) == 1.0
    assert 0 <= number(kernels.exp(mx.array(-1e30))) < 1e-34


@pytest.mark.parametrize("place", [0, 17, SIZE - 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(value: float, place: int) -> None:
    """Where gate or factor is NaN or infinite, the product is no number either."""
    row = mx.where(mx.arange(SIZE) == place, value, mx.linspace(-3, 3, SIZE))
    assert not is_finite(kernels.swiglu(row, mx.ones(SIZE)), place)
    broken = mx.where(mx.arange(SIZE) == place, float("nan"), mx.ones(SIZE))
    for arguments in ((broken, row), (row, broken)):
        assert not is_finite(kernels.swiglu(*arguments), place)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_half_precision_is_left_to_mlx(dtype: mx.Dtype) -> None:
    """The series needs fp32; other types give what they always gave."""
    gate = mx.linspace(-9, 9, SIZE).astype(dtype)
    assert mx.array_equal(kernels.swiglu(gate, gate), activations.swiglu(gate, gate))


def test_a_model_uses_it_on_a_cpu() -> None:
    """The model's layers have the kernel where it is of use, and the model's logits stay what they were."""
    inner, tokens = build("qwen2"), mx.array([[3, 5, 7]])
    before = inner(tokens)
    mx.eval(before)
    assert kernels.apply_to(inner) == (len(inner.layers) if kernels.can_fuse() else 0)
    assert_close(inner(tokens), before)
