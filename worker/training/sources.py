"""Where a run's model and data come from: text that is read and tokenised now, or a pack."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from worker.training import backends
from worker.training.backend import Backend
from worker.training.data import Encoder, Report, load_corpus
from worker.training.errors import TrainingError
from worker.training.export import CARD, write_weights
from worker.training.pack import read_pack, write_pack
from worker.training.pairs import Corpus
from worker.training.recipe import Recipe
from worker.training.storage import TOKENIZER_FILES

_START = "start"


class Source(NamedTuple):
    """What a trainer begins with, and what the directory's README tells of its data."""

    backend: Backend
    train: Corpus
    valid: Corpus
    reports: Sequence[Report]  # of both


def open_source(recipe: Recipe, directory: Path, *, resume: bool) -> Source:
    """Model and data of a run. Unless it resumes, its directory is prepared: config, card and tokenizer.

    Raises TrainingError and EngineError.
    """
    return (
        _from_text(recipe, directory, resume=resume)
        if recipe.pack is None
        else _from_pack(recipe, directory, resume=resume)
    )


def _from_text(recipe: Recipe, directory: Path, *, resume: bool) -> Source:
    from worker.engine.loading import model_path
    from worker.engine.text.config import read_config
    from worker.training.start import open_start, prepare

    if recipe.start is not None:
        backends.check_architecture(read_config(model_path(recipe.start)), recipe)
    if not resume:
        prepare(recipe, directory)
    start = open_start(recipe, directory)
    train, valid, reports = _read_text(recipe, Encoder(start.vocabulary, recipe.split))
    return Source(backends.of_model(recipe, start.model, read_config(directory)), train, valid, reports)


def _read_text(recipe: Recipe, encoder: Encoder, max_epochs: int | None = None) -> tuple[Corpus, Corpus, list[Report]]:
    options: dict[str, Any] = {"keys": recipe.keys, "cleaning": recipe.cleaning, "seed": recipe.seed}
    train, reports = load_corpus(
        recipe.train, encoder, augmentation=recipe.augmentation, max_epochs=max_epochs, **options
    )
    valid, valid_reports = load_corpus(recipe.valid, encoder, max_pairs=recipe.valid_pairs, **options)
    return train, valid, [*reports, *valid_reports]


def make_pack(recipe: Recipe, directory: Path, *, max_bytes: int) -> tuple[Path, list[Report]]:
    """Prepare a directory that a run on another machine begins with: pack, tokenizer, config, card, start weights.

    Raises TrainingError and EngineError.
    """
    from worker.training.mlx_backend import Weights
    from worker.training.start import open_start, prepare

    prepare(recipe, directory)
    start = open_start(recipe, directory)
    train, valid, reports = _read_text(recipe, Encoder(start.vocabulary, recipe.split), recipe.pack_epochs)
    if recipe.start is not None:
        write_weights(directory, Weights(start.model.inner), _START)
    return write_pack(directory, train, valid, recipe=recipe, reports=reports, max_bytes=max_bytes), reports


def _from_pack(recipe: Recipe, directory: Path, *, resume: bool) -> Source:
    pack = Path(recipe.pack or "")
    facts, train, valid = read_pack(pack)
    if not resume:
        taken = sorted(path.name for path in directory.glob("*.safetensors"))
        if taken:
            raise TrainingError(
                f"{directory} already holds {', '.join(taken)}; go on with --resume, or give another --out"
            )
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", CARD, *TOKENIZER_FILES):
            if (pack / name).exists():
                shutil.copyfile(pack / name, directory / name)
    config, card = (json.loads((directory / name).read_text(encoding="utf-8")) for name in ("config.json", CARD))
    offset = int(card["position_offset"])
    backend = _mlx(recipe, config, offset, pack) if recipe.device == "mlx" else _torch(recipe, config, offset, pack)
    return Source(backend, train, valid, facts.reports)


def recipe_of_pack(directory: Path) -> Recipe:
    """The recipe that a pack was made by, set to train from it. Raises PackError."""
    return replace(read_pack(directory)[0].recipe, pack=str(directory))


def _torch(recipe: Recipe, config: dict[str, Any], offset: int, pack: Path) -> Backend:
    from worker.training.torch_backend import TorchBackend, read_weights

    weights = {name: array for path in _start_files(pack) for name, array in read_weights(path).items()}
    return TorchBackend(recipe, config, weights or None, offset)


def _mlx(recipe: Recipe, config: dict[str, Any], offset: int, pack: Path) -> Backend:
    import mlx.core as mx

    from worker.training.mlx_backend import MlxBackend
    from worker.training.start import random_model

    model = random_model(config, seed=recipe.seed, position_offset=offset)
    for path in _start_files(pack):
        model.inner.load_weights(str(path), strict=False)
    model.inner.set_dtype(mx.float32)
    return MlxBackend(recipe, model)


def _start_files(pack: Path) -> list[Path]:
    return sorted(pack.glob(f"{_START}*.safetensors"))
