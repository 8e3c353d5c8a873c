"""Dropout in models of any architecture: chance in training, and nothing of it in what is measured and saved."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from tests.worker.engine.tiny import ROTARY, build
from tests.worker.training.corpus import Told, recipe, run
from tests.worker.training.pairs import pair_of, tiny
from tests.worker.training.test_train import losses, weights
from worker.engine.loading import load, load_vocabulary
from worker.engine.model import StreamingModel
from worker.training import dropout
from worker.training.data import Encoder, load_corpus
from worker.training.errors import TrainingError
from worker.training.events import Validated
from worker.training.export import command
from worker.training.loop import Trainer
from worker.training.mlx_backend import MlxBackend, number
from worker.training.objective import Objective
from worker.training.pairs import make_batch
from worker.training.recipe import Lora

BATCH = make_batch([pair_of([[8], [10, 9]], [[8, 9], [12]]), pair_of([[16]], [[18]])], 2, 0)


@pytest.mark.parametrize("family", ROTARY)
def test_it_drops_in_every_family(family: str) -> None:
    """The same seed drops the same and another something else; without training there is no chance, and it computes
    what it did; the names of the weights are the architecture's.
    """
    model = StreamingModel(build(family), name=family)
    objective = Objective(model)
    names = [name for name, _ in tree_flatten(model.inner.parameters())]
    bare = number(objective.loss_sum(BATCH))
    dropout.add(model.inner, 0.3)

    def loss(seed: int) -> float:
        objective.seed(seed)
        return number(objective.loss_sum(BATCH))

    model.inner.train()
    assert loss(1) == loss(1) != loss(2) != bare
    model.inner.eval()
    assert loss(1) == bare
    assert [name for name, _ in tree_flatten(model.inner.parameters())] == names


def test_what_is_dropped() -> None:
    """The embedding, and attention and MLP of every layer: their outputs are 0 or scaled up, that share of them; the
    embedding as the model's head drops nothing.
    """
    inner = tiny().inner
    plain = {name: type(module) for name, module in inner.named_modules()}
    dropout.add(inner, 0.25)
    changed = {name for name, module in inner.named_modules() if type(module) is not plain[name]}
    blocks = {f"model.layers.{n}.{block}" for n in range(2) for block in ("self_attn", "mlp")}
    assert changed == blocks | {"model.embed_tokens"}
    embedding, tokens = inner.model.embed_tokens, mx.arange(32)
    inner.train()
    dropped, whole = np.array(embedding(tokens)), np.array(embedding.weight)
    assert 0.15 < (dropped == 0).mean() < 0.35
    assert np.allclose(dropped[dropped != 0], whole[dropped != 0] / 0.75)
    assert mx.array_equal(embedding.as_linear(mx.eye(16)), embedding.weight.T)


def test_gradients_flow_through_what_stays() -> None:
    """The gradients are those of the loss with what is dropped: a small step against them lowers it as foretold."""
    model = tiny()
    dropout.add(model.inner, 0.2)
    model.inner.train()
    objective = Objective(model)
    objective.seed(5)
    before, gradients = objective.loss_and_gradients(BATCH)
    squares = sum(number((gradient**2).sum()) for _, gradient in tree_flatten(gradients))
    rate = 0.01 / squares
    model.inner.update(nn.utils.tree_map(lambda weight, by: weight - rate * by, model.inner.parameters(), gradients))
    objective.seed(5)
    assert number(before - objective.loss_sum(BATCH)) == pytest.approx(0.01, rel=0.05)


def test_nothing_is_changed_without_it(tmp_path: Path) -> None:
    """A share of 0 leaves every module of its own class, and a run is the one without the option."""
    inner = tiny().inner
    plain = [type(module) for module in inner.modules()]
    dropout.add(inner, 0.0)
    assert [type(module) for module in inner.modules()] == plain
    assert losses(run(recipe(tmp_path, dropout=0.0), tmp_path / "one")) == losses(run(recipe(tmp_path), tmp_path / "b"))


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """Same losses and weights, bit for bit, though chance went its own way in between; they are not those of a run
    without dropout.
    """
    plan = recipe(tmp_path, steps=10, accumulate=2, average=0.7, valid_every=3, dropout=0.2)
    whole = run(plan, tmp_path / "whole")
    first = run(plan, tmp_path / "parts", steps=5)
    mx.random.seed(99)
    second = run(plan, tmp_path / "parts", resume=True)
    assert losses([*first, *second]) == losses(whole)
    assert whole.of(Validated)[-1].loss == second.of(Validated)[-1].loss
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(mx.array_equal(one[name], other[name]) for name in one | other)
    assert losses(whole)[0] != losses(run(recipe(tmp_path), tmp_path / "bare"))[0]


def test_measuring_drops_nothing(tmp_path: Path) -> None:
    """Validation tells the same loss twice, and the saved model, whose weights have plain names, has that loss."""
    plan, out = recipe(tmp_path, steps=3, dropout=0.5, wait_k=(2,), lora=None), tmp_path / "model"
    told = run(plan, out)
    model = load(str(out))[0]
    corpus, _ = load_corpus(plan.valid, Encoder(load_vocabulary(str(out))))
    trainer = Trainer(plan, MlxBackend(plan, model), corpus, corpus, directory=tmp_path, report=Told().append)
    measured = []
    for _ in range(2):
        trainer.validate()
        measured.append(trainer.progress.valid_loss)
    assert measured[0] == measured[1]
    assert measured[0]["2"] == pytest.approx(told.of(Validated)[-1].loss["2"], abs=0.02)  # its weights are in bf16
    assert weights(out).keys() == dict(tree_flatten(tiny().inner.parameters())).keys()


def test_beside_adapters(tmp_path: Path) -> None:
    """A model that is fine-tuned by adapters drops too, and they are fused as ever."""
    run(recipe(tmp_path, steps=1), tmp_path / "old")
    tuned = recipe(tmp_path, steps=2, start=str(tmp_path / "old"), lora=Lora(2), dropout=0.4)
    first = run(tuned, tmp_path / "tuned")
    bare = run(recipe(tmp_path, steps=2, start=str(tmp_path / "old"), lora=Lora(2)), tmp_path / "bare")
    assert losses(first)[0] != losses(bare)[0]
    assert weights(tmp_path / "tuned").keys() == weights(tmp_path / "old").keys()


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_is_none(share: float, tmp_path: Path) -> None:
    """The message names the option and its bounds; nothing is written."""
    with pytest.raises(TrainingError, match=r"--dropout is .* at least 0 and below 1, got"):
        run(recipe(tmp_path, dropout=share), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layers_that_show_no_blocks() -> None:
    """A layer that computes all by itself cannot be told where to drop; the message says what it has."""
    model = nn.Module()
    model.layers = [nn.Sequential(nn.Linear(2, 2))]
    with pytest.raises(TrainingError, match=r"attention and MLP, got Sequential with layers; train .* without"):
        dropout.add(model, 0.1)


def test_the_command_names_it(tmp_path: Path) -> None:
    """It stands in the command that makes the model again, where there is any."""
    assert "--dropout 0.1 " in command(recipe(tmp_path, dropout=0.1))
    assert "--dropout" not in command(recipe(tmp_path))
