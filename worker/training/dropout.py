"""Dropout of the embedding and of what each layer adds, in a model of any architecture.

What drops gets a class of its own in place of its plain one, and no wrapper: all weights keep their names, so neither
a checkpoint nor the model that is saved shows anything of it.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from worker.training.errors import TrainingError
from worker.training.recipe import check_dropout


def add(model: nn.Module, share: float) -> None:
    """In training mode, each pass sets this share of the embedding's output, and of what attention and MLP of every
    layer add, to 0, by mlx's chance, and scales the others up, so that sums stay on average. A share of 0 changes
    nothing.

    Raises TrainingError for a share outside [0, 1) and for layers without attention and MLP of their own.
    """
    check_dropout(share)
    if share == 0:
        return
    dropped = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    for layer in model.layers:
        # Norms have no parts of their own; attention and MLP, by whatever name, do.
        blocks = [child for child in layer.children().values() if isinstance(child, nn.Module) and child.children()]
        if len(blocks) < 2:
            raise TrainingError(
                f"--dropout needs layers with modules for attention and MLP, got {type(layer).__name__} with "
                f"{', '.join(layer.children()) or 'none'}; train this model without it"
            )
        dropped += blocks
    for module in dropped:
        module.__class__ = _dropping(type(module), share)


def _dropping(kind: type[nn.Module], share: float) -> type[nn.Module]:
    class Dropping(kind):  # type: ignore[misc]  # untyped in mlx
        def __call__(self, *args: Any, **options: Any) -> mx.array:
            out: mx.array = super().__call__(*args, **options)
            if not self.training:
                return out
            return out * mx.random.bernoulli(1 - share, out.shape) * (1 / (1 - share))

    return Dropping
