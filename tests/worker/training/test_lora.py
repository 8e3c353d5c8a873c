"""Fine-tuning by adapters: they alone are learned and kept, and the result is a model like any other."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model
from msgspec.structs import replace

from tests.worker.training.corpus import ROWS, Told, recipe, run, write_tsv
from tests.worker.training.test_train import losses, translate, weights
from worker.engine.loading import load, load_vocabulary
from worker.training import checkpoint
from worker.training.data import Encoder, load_corpus
from worker.training.errors import CheckpointError, TrainingError
from worker.training.events import Validated
from worker.training.export import command, readme
from worker.training.files import DataFile
from worker.training.loop import Trainer
from worker.training.lora import adapt, fuse
from worker.training.mlx_backend import MlxBackend
from worker.training.pairs import MemoryCorpus
from worker.training.progress import Progress
from worker.training.recipe import Lora, Recipe


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that is there already: it has learned the toy rows for a moment."""
    folder = tmp_path_factory.mktemp("old")
    run(recipe(folder, steps=30, valid_every=1000), folder / "model")
    return str(folder / "model")


def adapters(directory: Path) -> dict[str, mx.array]:
    """The arrays of the model in a directory's checkpoint."""
    loaded: Any = mx.load(str(directory / checkpoint.FILE))
    return {name: array for name, array in loaded.items() if name.startswith("model.")}


def test_it_overfits_a_toy_language_and_is_served(old: str, tmp_path: Path) -> None:
    """Adapters in all layers learn what the start model said otherwise; the fused model says it when it is served."""
    meanings = {"vois": "veux", "veux": "aime", "aime": "vois"}
    rows = [(source, " ".join(meanings.get(word, word) for word in target.split())) for source, target in ROWS]
    file = DataFile(str(write_tsv(tmp_path / "other.tsv", rows)), "fr")
    plan = recipe(tmp_path, steps=140, label_smoothing=0.0, tokens_per_batch=768, valid_every=1000, average=0.0)
    told = run(replace(plan, train=(file,), valid=(file,), start=old, lora=Lora(8)), tmp_path / "tuned")
    assert max(told.of(Validated)[-1].loss.values()) < 0.2
    sample = rows[::7]
    before, after = ([translate(Path(model), source, 1) for source, _ in sample] for model in (old, tmp_path / "tuned"))
    assert after == [target for _, target in sample]
    assert sum(one != other for one, other in zip(before, after, strict=True)) > len(sample) / 2


def test_only_what_is_adapted_changes(old: str, tmp_path: Path) -> None:
    """Other layers, norms, biases and embeddings are bit for bit those of the start model."""
    run(recipe(tmp_path, start=old, lora=Lora(2, layers=1)), tmp_path / "tuned")
    before, after = weights(Path(old)), weights(tmp_path / "tuned")
    assert before.keys() == after.keys()
    changed = {name for name in before if not mx.array_equal(before[name], after[name])}
    maps = [name for name in before if name.startswith("model.layers.1.") and name.endswith("_proj.weight")]
    assert changed == set(maps)
    assert len(maps) == 7


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_resumed_run_is_the_uninterrupted_one(dropout: float, old: str, tmp_path: Path) -> None:
    """Same losses, same weights bit for bit, the dropped inputs included; a checkpoint holds adapters and no base."""
    plan = recipe(
        tmp_path, steps=10, accumulate=2, average=0.7, valid_every=3, start=old, lora=Lora(2, dropout=dropout)
    )
    whole = run(plan, tmp_path / "whole")
    first = run(plan, tmp_path / "parts", steps=5)
    mx.random.seed(99)  # chance has gone its own way since
    second = run(plan, tmp_path / "parts", resume=True)
    assert losses([*first, *second]) == losses(whole)
    assert whole.of(Validated)[-1].loss == second.of(Validated)[-1].loss
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(mx.array_equal(one[name], other[name]) for name in one | other)
    assert {name.rpartition(".")[2] for name in adapters(tmp_path / "parts")} == {"lora_a", "lora_b"}


def test_dropout_is_of_training_alone(old: str, tmp_path: Path) -> None:
    """Training differs from training without, once the adapters add something; measuring drops nothing."""
    bare, dropped = (
        run(recipe(tmp_path, steps=3, start=old, lora=Lora(2, dropout=p)), tmp_path / str(p)) for p in (0.0, 0.5)
    )
    assert losses(bare)[0] == losses(dropped)[0]
    assert losses(bare)[2] != losses(dropped)[2]
    plan, model = recipe(tmp_path, start=old, lora=Lora(2, dropout=0.5)), load(old)[0]
    adapt(model.inner, plan)
    corpus, _ = load_corpus(plan.valid, Encoder(load_vocabulary(old)))
    trainer = Trainer(plan, MlxBackend(plan, model), corpus, corpus, directory=tmp_path, report=Told().append)
    trainer.step(trainer.passes())
    measured = []
    for _ in range(2):
        trainer.validate()
        measured.append(trainer.progress.valid_loss)
    assert measured[0] == measured[1]


def test_the_result_is_a_model_like_any_other(old: str, tmp_path: Path) -> None:
    """Names and shapes are the architecture's; the engine and mlx-lm load it and compute the same logits."""
    out = tmp_path / "tuned"
    run(recipe(tmp_path, start=old, lora=Lora(4)), out)
    ours, (theirs, _) = load(str(out))[0], load_model(out)
    theirs.set_dtype(mx.float32)
    expected = {name: array.shape for name, array in tree_flatten(theirs.parameters())}
    assert {name: array.shape for name, array in weights(out).items()} == expected
    tokens = mx.array([[5, 6, 7]])
    assert mx.allclose(ours(tokens), theirs(tokens), atol=1e-4)


@pytest.mark.parametrize("bits", [None, 8, 4])
def test_fusing_keeps_what_the_model_computes(bits: int | None, old: str) -> None:
    """The logits with trained adapters beside the weights, also quantised ones, are those of the fused weights."""
    model = load(old)[0]
    if bits is not None:
        nn.quantize(model.inner, group_size=32, bits=bits)
    adapt(model.inner, Recipe((), (), 1, start=old, lora=Lora(4, layers=2)))
    names = [name for name, _ in tree_flatten(model.inner.trainable_parameters())]
    model.inner.load_weights(
        [(name, array + 0.02) for name, array in tree_flatten(model.inner.trainable_parameters())], strict=False
    )
    tokens = mx.array([[5, 6, 7]])
    before = model(tokens)
    mx.eval(before)
    fuse(model.inner)
    assert len(names) == 2 * 2 * 7
    assert mx.allclose(model(tokens), before, atol=1e-3)
    names_left = {name.rpartition(".")[2] for name, _ in tree_flatten(model.inner.parameters())}
    assert not names_left & {"lora_a", "lora_b", "scales", "biases"}


def test_beside_adapters_a_quantised_model_stays_as_it_is(old: str, tmp_path: Path) -> None:
    """Its codes are those of before, while the adapters learn."""
    plan, model = recipe(tmp_path, start=old, lora=Lora(4), peak_rate=1e-2), load(old)[0]
    nn.quantize(model.inner, group_size=32, bits=4)
    adapt(model.inner, plan)
    corpus, _ = load_corpus(plan.valid, Encoder(load_vocabulary(old)))
    trainer = Trainer(plan, MlxBackend(plan, model), corpus, corpus, directory=tmp_path, report=Told().append)
    before = dict(tree_flatten(model.inner.parameters()))
    for _ in range(20):
        trainer.step(trainer.passes())
    after = dict(tree_flatten(model.inner.parameters()))
    changed = {name for name in before if not mx.array_equal(before[name], after[name])}
    assert {name.rpartition(".")[2] for name in changed} == {"lora_a", "lora_b"}
    assert any(array.dtype == mx.uint32 for array in after.values())


def test_a_recipe_without_adapters_changes_nothing(old: str) -> None:
    """All weights stay trainable, and there is nothing to fuse."""
    inner = load(old)[0].inner
    names = [name for name, _ in tree_flatten(inner.parameters())]
    adapt(inner, Recipe((), (), 1, start=old))
    fuse(inner)
    assert [name for name, _ in tree_flatten(inner.trainable_parameters())] == names


def test_the_directory_tells_how_it_was_adapted(old: str, tmp_path: Path) -> None:
    """Rank, layers, scale and dropout stand in its README, and in the command that makes it again."""
    plan = recipe(tmp_path, start=old, lora=Lora(2, layers=1, scale=4.0, dropout=0.25))
    said = "LoRA of rank 2 in the last 1 layers, scale 4, dropout 0.25"
    assert f"from `model`, by {said}, fused into its weights." in readme(plan, Progress(), [], 1)
    options = command(plan).replace(" \\\n ", "")
    assert "--from model --lora 2 --lora-layers 1 --lora-scale 4 --lora-dropout 0.25 --wait-k" in options
    assert "--lora-layers" not in command(recipe(tmp_path, start=old, lora=Lora(2)))
    assert "--lora" not in command(recipe(tmp_path, start=old))
    assert "in all layers" in str(Lora(2))


def test_adapters_need_a_model(tmp_path: Path) -> None:
    """The message names the option that is missing; nothing is written."""
    with pytest.raises(TrainingError, match=r"--lora adapts a model .* --from"):
        run(recipe(tmp_path, lora=Lora(2)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_layers_than_there_are(old: str, tmp_path: Path) -> None:
    """The message tells how many the model has; the same directory can be used with fewer."""
    with pytest.raises(TrainingError, match=r"--lora-layers is at most 2, .*; got 3"):
        run(recipe(tmp_path, start=old, lora=Lora(2, layers=3)), tmp_path / "out")
    run(recipe(tmp_path, steps=1, start=old, lora=Lora(2, layers=2)), tmp_path / "out")


def test_a_checkpoint_of_another_rank_is_refused(old: str, tmp_path: Path) -> None:
    """The message names an adapter and both shapes."""
    run(recipe(tmp_path, start=old, lora=Lora(2)), tmp_path / "out", steps=1)
    model = load(old)[0]
    plan = recipe(tmp_path, start=old, lora=Lora(3))
    adapt(model.inner, plan)
    trainer = Trainer(
        plan, MlxBackend(plan, model), MemoryCorpus(), MemoryCorpus(), directory=tmp_path / "out", report=print
    )
    with pytest.raises(CheckpointError, match=r"lora_a is \(\d+, 2\) there, expected \(\d+, 3\)"):
        trainer.resume()
