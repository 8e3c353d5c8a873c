"""The trained model as a directory that the engine and mlx-lm read: weights, card and a README that tells the rest."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlx.core as mx
import msgspec

from worker.engine.text.card import FILE, Card
from worker.training.checkpoint import Progress, write_safely
from worker.training.data import Report
from worker.training.errors import TrainingError
from worker.training.files import DataFile
from worker.training.recipe import Lora, Recipe, wait_name
from worker.training.start import write_json

WEIGHTS = "model.safetensors"


def export(
    directory: Path, weights: Mapping[str, mx.array], card: Card, *, recipe: Recipe, progress: Progress,
    reports: Sequence[Report],
) -> Path:  # fmt: skip
    """The directory holds the weights in bf16, the card and a README. Raises TrainingError where they cannot be
    written; weights that were there stay whole.
    """
    half = {name: array.astype(mx.bfloat16) for name, array in weights.items()}
    path = directory / WEIGHTS
    try:
        write_safely(path, directory / ".model-new.safetensors", half, {"format": "mlx"})
        facts = {
            "data": [_data_facts(report) for report in reports],
            "steps": progress.step,
            "valid_loss": {name: round(loss, 4) for name, loss in progress.valid_loss.items()},
        }
        write_json(directory / FILE, {**msgspec.to_builtins(card), "training": facts})
        num_parameters = sum(array.size for array in weights.values())
        text = readme(recipe, progress, reports, num_parameters)
        (directory / "README.md").write_text(text, encoding="utf-8")
    except (OSError, RuntimeError) as error:
        raise TrainingError(f"{directory} could not be written ({error}); free some space, then --resume") from error
    return path


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
    """The command that runs the recipe, files by their bare names."""
    options: dict[str, Sequence[object]] = {
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
        **({} if recipe.gradients == "mlx" else {"--gradients": [recipe.gradients]}),
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
    lines = [f"{name} {shlex.join(map(str, values))}" for name, values in options.items()]
    return " \\\n  ".join(["decalage train --out MODEL", *lines])


def _start_options(recipe: Recipe) -> dict[str, Sequence[object]]:
    shape = recipe.shape
    offset = {} if recipe.position_offset is None else {"--position-offset": [recipe.position_offset]}
    if recipe.start is not None:
        return {"--from": [_name(recipe.start)], **_lora_options(recipe.lora), **offset}
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
