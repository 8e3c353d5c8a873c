"""Checkpoints: one file with all that a run needs to go on as if it had never stopped.

A file is written beside the old one and then takes its place, so a full disk or a kill leaves the old one usable.
"""

import os
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import msgspec
from mlx.utils import tree_flatten, tree_map_with_path

from worker.training.batches import Place
from worker.training.errors import CheckpointError
from worker.training.recipe import Recipe

FILE = "checkpoint.safetensors"
_NEW = ".checkpoint-new.safetensors"
T = TypeVar("T")
_MODEL, _OPTIMIZER, _MEAN = "model.", "optimizer.", "mean."


class Progress(msgspec.Struct, frozen=True):
    """How far a run has come."""

    step: int = 0  # steps done
    place: Place = Place()
    num_tokens: int = 0  # trained on, padding left out
    num_averaged: int = 0  # weights in the mean
    train_s: float = 0.0
    valid_loss: dict[str, float] = {}  # by the name of k, when last measured


class State(msgspec.Struct):
    """The arrays of a run: what is trained of the model, what the optimizer remembers, and the mean of the weights if
    there is one.
    """

    model: nn.Module
    optimizer: optim.Optimizer
    mean: dict[str, mx.array] | None = None


def weights_of(model: nn.Module) -> dict[str, mx.array]:
    """The weights that are trained, by name: all of them, or those of adapters."""
    return dict(tree_flatten(model.trainable_parameters()))


def set_weights(model: nn.Module, weights: dict[str, mx.array]) -> None:
    """The model has these weights; others stay."""
    model.load_weights(list(weights.items()), strict=False)


def save_checkpoint(directory: Path, state: State, recipe: Recipe, progress: Progress) -> Path:
    """The directory's checkpoint is this state. Raises CheckpointError where it cannot be had; the old one stays."""
    arrays = {_MODEL + name: array for name, array in weights_of(state.model).items()}
    arrays |= {_OPTIMIZER + name: array for name, array in tree_flatten(state.optimizer.state)}
    arrays |= {_MEAN + name: array for name, array in (state.mean or {}).items()}
    metadata = {"recipe": msgspec.json.encode(recipe).decode(), "progress": msgspec.json.encode(progress).decode()}
    path, new = directory / FILE, directory / _NEW
    try:
        write_safely(path, new, arrays, metadata)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} could not be written ({error}); free some space, then go on with --resume"
        ) from error
    return path


def write_safely(path: Path, new: Path, arrays: dict[str, mx.array], metadata: dict[str, str]) -> None:
    """The file is whole under its name, or as it was before. Raises OSError, RuntimeError (mlx's own)."""
    try:
        mx.save_safetensors(str(new), arrays, metadata=metadata)
        with open(new, "rb") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def read_recipe(directory: Path) -> Recipe:
    """The recipe of the run that left a checkpoint there. Raises CheckpointError."""
    return _decode(directory, _load(directory)[1], "recipe", Recipe)


def load_checkpoint(directory: Path, state: State) -> Progress:
    """`state` holds the arrays of the directory's checkpoint. Raises CheckpointError for another shape."""
    arrays, metadata = _load(directory)
    progress = _decode(directory, metadata, "progress", Progress)
    weights = _part(arrays, _MODEL)
    own = weights_of(state.model)
    for name in sorted(own.keys() | weights.keys()):
        shapes = [None if array is None else tuple(array.shape) for array in (own.get(name), weights.get(name))]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{directory / FILE} is of another shape: {name} is {shapes[1]} there, expected {shapes[0]}; give the "
                "options of the run that wrote it, or another --out"
            )
    set_weights(state.model, weights)
    remembered = _part(arrays, _OPTIMIZER)
    state.optimizer.state.update(tree_map_with_path(lambda name, old: remembered.get(name, old), state.optimizer.state))
    state.mean = _part(arrays, _MEAN) or None
    # Now: arrays are read when they are needed, and by then another checkpoint may have the file's name.
    mx.eval(state.model.parameters(), state.optimizer.state, state.mean or {})
    return progress


def _load(directory: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    path = directory / FILE
    if not path.exists():
        raise CheckpointError(f"no {FILE} in {directory}, so there is nothing to resume; start without --resume")
    try:
        loaded: Any = mx.load(str(path), return_metadata=True)
    except (RuntimeError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); start anew without --resume") from error
    return loaded[0], loaded[1]


def _decode(directory: Path, metadata: dict[str, str], name: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(metadata[name], type=kind)
    except (KeyError, msgspec.DecodeError) as error:
        raise CheckpointError(
            f"{directory / FILE} has no {name} of a training run ({error}); start anew without --resume"
        ) from error


def _part(arrays: dict[str, mx.array], prefix: str) -> dict[str, mx.array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
