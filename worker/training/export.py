"""The trained model as a directory that the engine and mlx-lm read: weights, card and a README that tells the rest.

It needs neither mlx nor PyTorch.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.training.augmentation import Augmentation
from worker.training.data import Report
from worker.training.errors import TrainingError
from worker.training.files import DataFile
from worker.training.progress import Progress
from worker.training.recipe import Lora, Recipe, wait_name
from worker.training.storage import write_json, write_whole

CARD: Final = "decalage.json"
_OF_DATA: Final = frozenset(
    {"--train", "--valid", "--split", "--augment", "--templates"}
    | {"--max-words", "--max-ratio", "--json-keys", "--valid-pairs", "--seed"}
)
"""Options that tell a pack, beside those of the model that it starts."""
MAX_SHARD_BYTES: Final = 2**30
MAX_TRAVELLING_SHARD_BYTES: Final = 15 * 2**20
"""Of what is trained from a pack: it goes back to where the pack came from."""
Arrays = Mapping[str, NDArray[Any]]


def export(
    directory: Path, weights: Arrays, *, recipe: Recipe, progress: Progress, reports: Sequence[Report],
    max_segments: int,
) -> Path:  # fmt: skip
    """Write weights in bf16, card and README beside the config and the tokenizer that are there already.

    `max_segments` are the words of the longest source that was trained on. Raises TrainingError where they cannot be
    written; weights that were there stay whole.
    """
    try:
        max_shard_bytes = MAX_SHARD_BYTES if recipe.pack is None else MAX_TRAVELLING_SHARD_BYTES
        path = write_weights(directory, weights, max_shard_bytes=max_shard_bytes)
        card = json.loads((directory / CARD).read_text(encoding="utf-8"))
        if recipe.split == "word":  # token mode does not count words
            card["max_segment_words"] = max(max_segments, card.get("max_segment_words") or 0)
        facts = {
            "data": [_data_facts(report) for report in reports],
            "steps": progress.step,
            "valid_loss": {name: round(loss, 4) for name, loss in progress.valid_loss.items()},
        }
        write_json(directory / CARD, {**card, "training": facts})
        num_parameters = sum(array.size for array in weights.values())
        text = readme(recipe, progress, reports, num_parameters)
        (directory / "README.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{directory} could not be written ({error}); free some space, then --resume") from error
    return path


def write_weights(
    directory: Path, weights: Arrays, stem: str = "model", *, max_shard_bytes: int = MAX_TRAVELLING_SHARD_BYTES
) -> Path:
    """Write weights in bf16 to STEM.safetensors, or, beyond `max_shard_bytes`, to several files with an index of them.

    Return the file, or the index. Raises OSError.
    """
    sizes = {name: 2 * array.size for name, array in weights.items()}
    shards = _shards(sizes, max_shard_bytes)
    names = [f"{stem}.safetensors"]
    if len(shards) > 1:
        names = [f"{stem}-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        write_whole(directory / name, partial(_save, {key: weights[key] for key in shard}))
    index = directory / f"{stem}.safetensors.index.json"
    if len(shards) == 1:
        return directory / names[0]
    where = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    write_json(index, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where})
    return index


def _shards(sizes: Mapping[str, int], max_shard_bytes: int) -> list[list[str]]:
    # The names in order, each shard as full as it may be; an array that is larger than a shard has one alone.
    shards: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if shards[-1] and used + size > max_shard_bytes - 2**16:  # the header's share
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards


def _save(weights: Arrays, path: Path) -> None:
    # By hand: NumPy has no bf16, and the safetensors package's own writer of plain bytes changes with its versions.
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    start = 0
    for name, array in weights.items():
        stop = start + 2 * array.size
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in weights.values():
            file.write(_bf16(array).tobytes())


def _bf16(array: NDArray[Any]) -> NDArray[np.uint16]:
    # The upper halves of the floats, rounded to even as bf16 is everywhere.
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def _data_facts(report: Report) -> dict[str, object]:
    return {"file": Path(report.file.path).name, "language": report.file.language, "rows": report.used}


def readme(recipe: Recipe, progress: Progress, reports: Sequence[Report], num_parameters: int) -> str:
    """What the model is, from what and how it was made, and its losses, as Markdown."""
    languages = ", ".join(recipe.languages)
    waits = ", ".join(map(wait_name, recipe.wait_k))
    lines = [
        f"# {recipe.source_language} to {languages}, {num_parameters / 1e6:.1f} M parameters",
        "",
        f"Trained by `decalage train` with group positions and the wait-k mask, k from {{{waits}}}, {_origin(recipe)}.",
        f"{progress.step:,} of {recipe.steps:,} steps, {progress.num_tokens:,} tokens, {progress.train_s / 60:.0f} "
        f"minutes; weights averaged: {progress.num_averaged or 'none'}.",
        "",
        "## Data",
        "",
        "| file | into | weight | rows used | rows left out |",
        "|---|---|---|---|---|",
        *map(_data_row, reports),
        "",
        "## Recipe",
        "",
        "```sh",
        command(recipe),
        "```",
        "",
        "## Validation loss, nats a token",
        "",
        "| k | " + " | ".join(progress.valid_loss) + " |",
        "|---" * (len(progress.valid_loss) + 1) + "|",
        "| loss | " + " | ".join(f"{loss:.3f}" for loss in progress.valid_loss.values()) + " |",
    ]
    return "\n".join(lines) + "\n"


def _origin(recipe: Recipe) -> str:
    if recipe.start is None:
        return "from scratch" if recipe.draft_of is None else f"from scratch, to draft for `{_name(recipe.draft_of)}`"
    adapters = "" if recipe.lora is None else f", by {recipe.lora}, fused into its weights"
    return f"from `{_name(recipe.start)}`{adapters}"


def _data_row(report: Report) -> str:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.left_out.items())) or "none"
    file = report.file
    return f"| {Path(file.path).name} | {file.language} | {file.weight:g} | {report.used:,} | {left_out} |"


def command(recipe: Recipe) -> str:
    """The command that runs the recipe, files by their bare names; where it ran from a pack, one makes that first."""
    options = _options(recipe)
    if recipe.pack is None:
        return _shown("decalage train --out MODEL", options)
    data = {name: values for name, values in options.items() if name in _OF_DATA or name in _start_options(recipe)}
    rest = {name: values for name, values in options.items() if name not in data or name == "--seed"}
    data |= {"--pack-epochs": [recipe.pack_epochs]}
    pack = _shown("decalage train --pack PACK", data)
    return f"{pack}\n{_shown('decalage train --from-pack PACK --out MODEL', rest)}"


def _shown(start: str, options: Mapping[str, Sequence[object]]) -> str:
    return " \\\n  ".join(
        [start, *(f"{name} {shlex.join(map(str, values))}".rstrip() for name, values in options.items())]
    )


def _options(recipe: Recipe) -> dict[str, Sequence[object]]:
    return {
        "--train": [_file_argument(file) for file in recipe.train],
        "--valid": [_file_argument(file) for file in recipe.valid],
        **_start_options(recipe),
        "--wait-k": [wait_name(wait_k) for wait_k in recipe.wait_k],
        "--split": [recipe.split],
        "--steps": [recipe.steps],
        "--tokens-per-batch": [recipe.tokens_per_batch],
        "--accumulate": [recipe.accumulate],
        "--lr": [f"{recipe.peak_rate:g}"],
        "--warmup": [recipe.warmup_steps],
        **({} if recipe.decay == 1 else {"--decay": [f"{recipe.decay:g}"]}),
        **_device_options(recipe),
        **_augmentation_options(recipe.augmentation),
        **({} if recipe.dropout == 0 else {"--dropout": [f"{recipe.dropout:g}"]}),
        "--label-smoothing": [f"{recipe.label_smoothing:g}"],
        "--weight-decay": [f"{recipe.weight_decay:g}"],
        "--clip": [f"{recipe.max_norm:g}"],
        "--average": [f"{recipe.average:g}"],
        "--max-words": [recipe.cleaning.max_words],
        "--max-ratio": [f"{recipe.cleaning.max_ratio:g}"],
        "--json-keys": [recipe.keys.source, recipe.keys.target],
        "--valid-every": [recipe.valid_every],
        "--valid-pairs": [recipe.valid_pairs],
        "--seed": [recipe.seed],
    }


def _device_options(recipe: Recipe) -> dict[str, Sequence[object]]:
    return {} if recipe.device == "mlx" else {"--device": [recipe.device], "--precision": [recipe.precision]}


def _augmentation_options(augmentation: Augmentation) -> dict[str, Sequence[object]]:
    if augmentation == Augmentation():
        return {}
    shares = (augmentation.joined, augmentation.substituted, augmentation.recognised)
    return {"--augment": [f"{share:g}" for share in shares], "--templates": [augmentation.templates]}


def _start_options(recipe: Recipe) -> dict[str, Sequence[object]]:
    shape = recipe.shape
    offset = {} if recipe.position_offset is None else {"--position-offset": [recipe.position_offset]}
    if recipe.start is not None:
        digits: dict[str, Sequence[object]] = {"--split-digits": []} if recipe.split_digits else {}
        return {"--from": [_name(recipe.start)], **digits, **_lora_options(recipe.lora), **offset}
    own: dict[str, Sequence[object]]
    if recipe.draft_of is None:
        own = {"--source-language": [recipe.source_language], "--vocab": [shape.vocabulary]}
    else:
        own = {"--draft-of": [_name(recipe.draft_of)]}
    return {
        **own,
        "--hidden": [shape.hidden],
        "--layers": [shape.layers],
        "--heads": [shape.heads],
        **({} if shape.kv_heads is None else {"--kv-heads": [shape.kv_heads]}),
        "--mlp": [shape.mlp],
        "--max-positions": [shape.max_positions],
        **offset,
    }


def _lora_options(lora: Lora | None) -> dict[str, Sequence[object]]:
    if lora is None:
        return {}
    layers = {} if lora.layers is None else {"--lora-layers": [lora.layers]}
    return {
        "--lora": [lora.rank],
        **layers,
        "--lora-scale": [f"{lora.scale:g}"],
        "--lora-dropout": [f"{lora.dropout:g}"],
    }


def _name(model: str) -> str:
    return Path(model).name if Path(model).expanduser().exists() else model  # a hub id keeps its owner


def _file_argument(file: DataFile) -> str:
    weight = "" if file.weight == 1 else f":{file.weight:g}"
    return f"{Path(file.path).name}@{file.language}{weight}"
