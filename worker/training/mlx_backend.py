"""Training by mlx: any architecture that the engine serves, adapters too."""

from collections.abc import Iterator, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_map_with_path
from numpy.typing import NDArray

from worker.engine.model import StreamingModel
from worker.training import dropout, lora
from worker.training.backend import Arrays
from worker.training.checkpoint import MEAN, MODEL, OPTIMIZER, part
from worker.training.objective import Objective
from worker.training.pairs import Batch
from worker.training.recipe import Recipe


class Weights(Mapping[str, NDArray[Any]]):
    """All weights of a model, fp32, each made when it is asked for: a large model does not fit into memory twice."""

    def __init__(self, model: nn.Module) -> None:
        self._arrays: dict[str, mx.array] = dict(tree_flatten(model.parameters()))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.array(self._arrays[name].astype(mx.float32))

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


class MlxBackend:
    """One model in training; see `worker.training.backend.Backend`."""

    def __init__(self, recipe: Recipe, model: StreamingModel) -> None:
        dropout.add(model.inner, recipe.dropout)
        self.model: nn.Module = model.inner
        self.position_offset = model.position_offset
        self._objective = Objective(model)
        # Without bias correction the first steps would be far too long for a short warm-up.
        self._optimizer = optim.AdamW(
            learning_rate=0.0, betas=[0.9, 0.98], weight_decay=recipe.weight_decay, bias_correction=True
        )
        self._optimizer.init(self.model.trainable_parameters())
        self._mean: dict[str, mx.array] = {}
        self._gradients: Any = None

    def seed(self, number: int) -> None:
        """Set anew in each step, so that a run that resumes drops the same."""
        mx.random.seed(number)

    def add_gradients(self, batch: Batch, label_smoothing: float) -> float:
        """Add the gradients of a batch, and return its loss."""
        self.model.train()
        loss, fresh = self._objective.loss_and_gradients(batch, label_smoothing)
        self._gradients = fresh if self._gradients is None else tree_map(mx.add, self._gradients, fresh)
        mx.eval(loss, self._gradients)
        return number(loss)

    def update(self, rate: float, num_labels: int, max_norm: float) -> float:
        """Make a step and return the norm of the mean gradient."""
        mean = tree_map(lambda gradient: gradient / num_labels, self._gradients)
        self._gradients = None
        clipped, norm_array = optim.clip_grad_norm(mean, max_norm)
        norm = number(norm_array)
        if np.isfinite(norm):
            self._optimizer.learning_rate = rate
            self._optimizer.update(self.model, clipped)
            mx.eval(self.model.parameters(), self._optimizer.state)
        return norm

    def loss_sum(self, batch: Batch) -> float:
        """The loss of a batch."""
        self.model.eval()
        return number(self._objective.loss_sum(batch))

    def average(self, count: int) -> None:
        """Add the present weights to the mean."""
        fresh = self._weights()
        old = self._mean or fresh
        self._mean = {name: old[name] + (array - old[name]) / count for name, array in fresh.items()}
        mx.eval(self._mean)

    def use_mean(self) -> bool:
        """Put the mean in the place of the weights, if there is one."""
        self._set_weights(self._mean)
        return bool(self._mean)

    def arrays(self) -> Arrays:
        """Weights, the optimizer's state, and the mean."""
        arrays = {MODEL + name: array for name, array in self._weights().items()}
        arrays |= {OPTIMIZER + name: array for name, array in tree_flatten(self._optimizer.state)}
        arrays |= {MEAN + name: array for name, array in self._mean.items()}
        return {name: np.array(array) for name, array in arrays.items()}

    def set_arrays(self, arrays: Arrays) -> None:
        """Take over what `arrays` gave."""
        own = {name: mx.array(array) for name, array in arrays.items()}
        self._set_weights(part(own, MODEL))
        known = part(own, OPTIMIZER)
        state = self._optimizer.state
        state.update(tree_map_with_path(lambda name, old: known.get(name, old), state))
        self._mean = part(own, MEAN)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of what is trained."""
        return {name: tuple(array.shape) for name, array in self._weights().items()}

    def result(self) -> Weights:
        """All weights, adapters fused."""
        lora.fuse(self.model)
        return Weights(self.model)

    def _weights(self) -> dict[str, mx.array]:
        return dict(tree_flatten(self.model.trainable_parameters()))

    def _set_weights(self, weights: dict[str, mx.array]) -> None:
        self.model.load_weights(list(weights.items()), strict=False)


def number(array: mx.array) -> float:
    """The value of an array with one real number."""
    return float(array.item())  # type: ignore[arg-type]  # complex for mlx's types
