"""Who computes a run: mlx, or PyTorch on a device of its own."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.training.backend import Backend
from worker.training.errors import TrainingError
from worker.training.recipe import Recipe, check_dropout

if TYPE_CHECKING:
    from worker.engine.model import StreamingModel


def check(recipe: Recipe) -> None:
    """Raises TrainingError where the recipe's device cannot train this, ModuleNotFoundError without PyTorch for it."""
    check_dropout(recipe.dropout)
    if recipe.device == "mlx":
        return
    if recipe.lora is not None:
        raise TrainingError(
            f"--device {recipe.device} trains all weights, and --lora adapters only; leave one of them out"
        )
    importlib.import_module("torch")
    from worker.training.torch_backend import open_device

    open_device(recipe.device, recipe.precision)


def check_architecture(config: Mapping[str, Any], recipe: Recipe) -> None:
    """Raises TrainingError for a start model that PyTorch does not train here."""
    kind = str(config.get("model_type"))
    if recipe.device == "mlx" or (
        kind == "qwen2" and not config.get("rope_scaling") and not config.get("rope_traditional")
    ):
        return
    raise TrainingError(
        f"--device {recipe.device} knows the qwen2 architecture with plain rotary positions, and {recipe.start} is of "
        f"{kind if kind != 'qwen2' else 'qwen2 with others'}; leave it out, mlx trains this model"
    )


def of_model(recipe: Recipe, model: "StreamingModel", config: Mapping[str, Any]) -> Backend:
    """The backend that trains a model which mlx holds."""
    from worker.training.mlx_backend import MlxBackend, Weights

    if recipe.device == "mlx":
        return MlxBackend(recipe, model)
    from worker.training.torch_backend import TorchBackend

    return TorchBackend(recipe, config, Weights(model.inner), model.position_offset)
