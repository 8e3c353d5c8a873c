"""Who computes the gradients of a run: mlx, or PyTorch, which a CPU with bf16 instructions may be faster with."""

import importlib

from worker.engine.loading import model_path
from worker.engine.model import StreamingModel
from worker.engine.text.card import read_config
from worker.training import dropout
from worker.training.errors import TrainingError
from worker.training.objective import Objective
from worker.training.recipe import Recipe


def check(recipe: Recipe) -> None:
    """Raises TrainingError where the gradients cannot be had as the recipe wants them, ModuleNotFoundError where
    PyTorch is missing for them.
    """
    dropout.check(recipe.dropout)
    if recipe.gradients == "mlx":
        return
    option = f"--gradients {recipe.gradients}"
    if recipe.lora is not None:
        raise TrainingError(f"{option} trains all weights, and --lora adapters only; leave one of them out")
    if recipe.start is not None:
        config = read_config(model_path(recipe.start))
        kind = str(config.get("model_type"))
        if kind != "qwen2" or config.get("rope_scaling") or config.get("rope_traditional"):
            raise TrainingError(
                f"{option} knows the qwen2 architecture with plain rotary positions, and {recipe.start} is of "
                f"{kind if kind != 'qwen2' else 'qwen2 with others'}; leave it out, mlx trains this model"
            )
    importlib.import_module("torch")


def objective(recipe: Recipe, model: StreamingModel) -> Objective:
    """The objective of this model, with gradients and dropout as the recipe wants them. Raises what `check` raises."""
    check(recipe)
    if recipe.gradients == "mlx":
        dropout.add(model.inner, recipe.dropout)
        return Objective(model)
    from worker.training.torch_objective import TorchObjective

    return TorchObjective(model, recipe.dropout)
