"""Functions are replaced in the layers of one model; everybody else's stay."""

import sys
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from tests.worker.engine.test_batching import Anything
from tests.worker.engine.tiny import ROTARY, build
from worker.core.rows import Row, SampleSpec
from worker.engine.adapters import attention
from worker.engine.adapters.rebinding import rebind
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner

TOKENS = mx.array([[3, 5, 7, 11]])


def double(x: int) -> int:
    return 2 * x


def triple(x: int) -> int:
    return 3 * x


class Base(nn.Module):  # type: ignore[misc]  # untyped in mlx
    def __init__(self) -> None:
        super().__init__()
        self.weight = mx.zeros(1)

    def __call__(self, x: int, *, more: int = 1) -> int:
        return double(x) + more

    def overridden(self, x: int) -> int:
        return double(x)


class Layer(Base):
    """Calls the function by its parent, in a function within a method, and where it is overridden not at all."""

    def __call__(self, x: int, *, more: int = 2) -> int:
        return super().__call__(x, more=more) + self.within(x)

    def within(self, x: int) -> int:
        def inner() -> int:
            return double(x)

        return 2 * inner()

    def overridden(self, x: int) -> int:
        return x


class Parent(Base):
    """Calls it by what it inherits alone."""


class Tree(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layers = [Layer(), Layer(), Parent()]
        self.other = nn.Linear(2, 2)


def test_methods_keep_all_but_the_one_name() -> None:
    """Defaults, `super()`, functions within methods and what a class overrides stay as they are."""
    tree = Tree()
    layer, _, parent = tree.layers
    assert (layer(1), layer(1, more=7), layer.overridden(5), parent(1)) == (8, 13, 5, 3)
    assert rebind(tree, double, triple) == 3
    assert (layer(1), layer(1, more=7), layer.overridden(5), parent(1)) == (10, 15, 5, 4)
    assert (parent.overridden(5), Parent().overridden(5), Layer()(1)) == (15, 10, 8)
    assert isinstance(layer, Layer)
    assert (type(layer).__name__, type(layer) is type(tree.layers[1])) == ("Layer", True)
    assert type(tree.other) is nn.Linear
    assert rebind(tree, double, triple) == 0


def globals_of(model: nn.Module) -> dict[tuple[str, str], int]:
    """Whom each name of the modules stands for that the model's layers come from."""
    modules = {type(module).__module__ for module in model.modules()} | {"mlx_lm.models.base", "mlx_lm.models.cache"}
    return {(name, key): id(value) for name in modules for key, value in vars(sys.modules[name]).items()}


@pytest.mark.parametrize("family", ROTARY)
def test_other_models_of_the_process_stay_as_they_are(family: str) -> None:
    """A model that was loaded before, one that is loaded later and mlx-lm's modules know nothing of the one that is
    served; all give their right results.
    """
    before = build(family)
    names, kinds = globals_of(before), [type(module) for module in before.modules()]
    expected = np.array(before(TOKENS))
    model = StreamingModel(build(family), position_offset=4)
    runner = Runner(model, Anything())
    row = Row((0, 0), (3, 5), (7,), 0, 0, SampleSpec())
    sampled = runner.run([row, Row((1, 0), (3, 5, 7, 11), (7,), 0, 0, SampleSpec())])
    after = build(family)
    assert globals_of(after) == names
    assert [type(module) for module in after.modules()] == [type(module) for module in before.modules()] == kinds
    for plain in (before, after):
        np.testing.assert_array_equal(np.array(plain(TOKENS)), expected)
    np.testing.assert_allclose(np.array(model(TOKENS)), expected, atol=1e-5)
    assert Runner(StreamingModel(after, position_offset=4), Anything()).run([row]) == sampled[:1]


def test_attention_is_replaced_in_all_layers_or_left_alone() -> None:
    """Each layer attends by the engine's function; an architecture with an attention of its own keeps it."""
    llama, gemma2 = build("llama"), build("gemma2")
    assert attention.apply_to(llama) == len(llama.layers)
    assert attention.apply_to(gemma2) == 0


def test_modules_without_weights_are_left_alone() -> None:
    """Models may share one: it stands as a default argument in mlx-lm."""
    tree, shared = Tree(), Parent()
    del shared.weight
    tree.shared = shared
    assert rebind(tree, double, triple) == 3
    assert shared(1) == 3


def test_what_cannot_be_rebound_is_left_alone() -> None:
    """A module whose call is no plain function keeps it."""

    class Odd(nn.Module):  # type: ignore[misc]
        __call__: Any = partial(double, 4)

    odd = Odd()
    assert rebind(odd, double, triple) == 0
    assert odd() == 8
