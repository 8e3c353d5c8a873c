"""Checkpoints: one file with all that a run needs to go on as if it had never stopped.

A file is written beside the old one and then takes its place, so a full disk or a kill leaves the old one usable.
It needs neither mlx nor PyTorch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from worker.training.errors import CheckpointError
from worker.training.progress import Progress
from worker.training.recipe import Recipe
from worker.training.storage import write_whole

FILE = "checkpoint.safetensors"
MODEL, OPTIMIZER, MEAN = "model.", "optimizer.", "mean."
Arrays = dict[str, NDArray[Any]]
T = TypeVar("T")


def save_checkpoint(directory: Path, arrays: Arrays, recipe: Recipe, progress: Progress) -> Path:
    """Write the arrays and the place of a run. Raises CheckpointError where it cannot be had; the old one stays."""
    metadata = {"recipe": msgspec.json.encode(recipe).decode(), "progress": msgspec.json.encode(progress).decode()}
    path = directory / FILE
    try:
        write_whole(path, lambda new: save_file(arrays, new, metadata))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} could not be written ({error}); free some space, then go on with --resume"
        ) from error
    return path


def read_recipe(directory: Path) -> Recipe:
    """The recipe of the run that left a checkpoint there. Raises CheckpointError."""
    return _decode(directory, "recipe", Recipe)


def load_checkpoint(directory: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Arrays, Progress]:
    """The arrays of the directory's checkpoint, and how far its run had come.

    `shapes` are those of the model's weights, by name. Raises CheckpointError for others.
    """
    progress = _decode(directory, "progress", Progress)
    path = directory / FILE
    try:
        arrays: Arrays = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    found = {name: array.shape for name, array in part(arrays, MODEL).items()}
    for name in sorted(found.keys() | shapes.keys()):
        if found.get(name) != shapes.get(name):
            raise CheckpointError(
                f"{path} is of another shape: {name} is {found.get(name)} there, expected {shapes.get(name)}; give the "
                "options of the run that wrote it, or another --out"
            )
    return arrays, progress


def part(arrays: Mapping[str, T], prefix: str) -> dict[str, T]:
    """What stands under a prefix, by the names behind it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _decode(directory: Path, name: str, kind: type[T]) -> T:
    path = directory / FILE
    if not path.exists():
        raise CheckpointError(f"no {FILE} in {directory}, so there is nothing to resume; start without --resume")
    try:
        metadata = header(path)[0]["__metadata__"]
        return msgspec.json.decode(metadata[name], type=kind)
    except (KeyError, ValueError, OverflowError, OSError) as error:
        raise CheckpointError(
            f"{path} has no {name} of a training run ({error}); start anew without --resume"
        ) from error


def header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file and where its arrays begin. Raises OSError, ValueError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(min(length, 2**26))), 8 + length


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read ({error}); start anew without --resume")
