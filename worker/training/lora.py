"""Fine-tuning by mlx-lm's low-rank adapters: they alone are trained and kept in checkpoints, and end in the weights."""

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten
from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear, LoRASwitchLinear
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import dequantize_model

from worker.training.errors import TrainingError
from worker.training.recipe import Recipe

_ADAPTERS = (LoRALinear, LoRASwitchLinear, LoRAEmbedding)


def check(recipe: Recipe) -> None:
    """Raises TrainingError for adapters without a model to adapt."""
    if recipe.lora is not None and recipe.start is None:
        raise TrainingError("--lora adapts a model that is there already, and none is named; name it with --from")


def adapt(model: nn.Module, recipe: Recipe) -> None:
    """Only adapters are trainable, where the recipe has some: fresh ones, which add nothing yet.

    Raises TrainingError for more layers than the model has.
    """
    lora = recipe.lora
    if lora is None:
        return
    num_layers = len(model.layers)
    if lora.layers is not None and lora.layers > num_layers:
        raise TrainingError(f"--lora-layers is at most {num_layers}, the layers of {recipe.start}; got {lora.layers}")
    mx.random.seed(recipe.seed)
    model.freeze()
    config = {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout}
    linear_to_lora_layers(model, lora.layers or num_layers, config)
    mx.eval(model.parameters())


def fuse(model: nn.Module) -> None:
    """The model is one without adapters that computes the same, unquantised; one that has none is left as it is."""
    fused = [
        (name, module.fuse(dequantize=True)) for name, module in model.named_modules() if isinstance(module, _ADAPTERS)
    ]
    if fused:
        model.update_modules(tree_unflatten(fused))
        dequantize_model(model)
