"""Gradients by PyTorch are mlx's own, and a run by them is like any other; what they cannot do is refused first."""

import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from tests.worker.engine.tiny import build, save
from tests.worker.training.corpus import ROWS, recipe, run
from tests.worker.training.pairs import tiny
from tests.worker.training.test_objective import PAIRS, WAITS
from tests.worker.training.test_train import losses, translate, weights
from worker.engine.model import StreamingModel
from worker.training import gradients
from worker.training.errors import TrainingError
from worker.training.events import Stepped, Validated
from worker.training.export import command
from worker.training.loop import number
from worker.training.objective import Objective, make_batch
from worker.training.recipe import Lora, Recipe

TORCH = "torch-bf16"


def needs_torch() -> Any:
    """The module whose objective is tested; the test is skipped where PyTorch is missing."""
    pytest.importorskip("torch")
    from worker.training import torch_objective

    return torch_objective


def untied() -> StreamingModel:
    """A Qwen2 with a head of its own."""
    model = build("qwen2")
    kind, args = type(model), model.args
    args.tie_word_embeddings = False
    mx.random.seed(1)
    fresh = StreamingModel(kind(args), position_offset=9)
    mx.eval(fresh.inner.parameters())
    return fresh


@pytest.mark.parametrize("make", [tiny, untied])
@pytest.mark.parametrize("wait_k", WAITS)
@pytest.mark.parametrize(("has_bf16", "tolerance"), [(False, 1e-5), (True, 0.02)])
def test_they_are_those_of_mlx(has_bf16: bool, tolerance: float, wait_k: int | None, make: Any) -> None:
    """Loss and gradients of all parameters agree to the precision of the products, by each k, for shared heads of keys
    and for a head that is tied or not.
    """
    model = make()
    batch = make_batch(PAIRS, wait_k, model.position_offset, 4)
    loss, expected = Objective(model).loss_and_gradients(batch, 0.1)
    other, found = needs_torch().TorchObjective(model, has_bf16=has_bf16).loss_and_gradients(batch, 0.1)
    assert number(other) == pytest.approx(number(loss), rel=tolerance / 10)
    one, two = dict(tree_flatten(expected)), dict(tree_flatten(found))
    assert one.keys() == two.keys()
    size = number(mx.sqrt(sum((array**2).sum() for array in one.values())))  # a bias of keys has a gradient of about 0
    for name, array in one.items():
        assert number(mx.linalg.norm(array - two[name])) <= tolerance * size, name


def test_a_seed_tells_what_is_dropped() -> None:
    """The same seed gives the same loss and gradients, another one others; without dropout there is no chance."""
    model, batch = tiny(), make_batch(PAIRS, 2, 0)

    def losses_of(share: float) -> list[float]:
        objective = needs_torch().TorchObjective(model, share)
        found = []
        for seed in (1, 1, 2):
            objective.seed(seed)
            found.append(number(objective.loss_and_gradients(batch)[0]))
        return found

    one, again, other = losses_of(0.3)
    assert one == again != other
    assert len(set(losses_of(0.0))) == 1


def test_it_overfits_a_toy_language_and_is_served(tmp_path: Path) -> None:
    """A run ends like one by mlx: near zero by mlx's own measure, and the engine says the rows."""
    needs_torch()
    out = tmp_path / "model"
    plan = recipe(
        tmp_path, steps=100, label_smoothing=0.0, tokens_per_batch=768, valid_every=1000, gradients=TORCH, dropout=0.02
    )
    told = run(plan, out)
    assert max(told.of(Validated)[-1].loss.values()) < 0.2
    for source, target in ROWS[::13]:
        assert [translate(out, source, wait_k) for wait_k in (1, 3)] == [target] * 2


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """Same losses and weights, bit for bit, dropout included; the first loss is about that by mlx."""
    torch = needs_torch().torch
    plan = recipe(tmp_path, steps=10, accumulate=2, average=0.7, valid_every=3, gradients=TORCH, dropout=0.1)
    whole = run(plan, tmp_path / "whole")
    first = run(plan, tmp_path / "parts", steps=5)
    torch.manual_seed(99)
    second = run(plan, tmp_path / "parts", resume=True)
    assert losses([*first, *second]) == losses(whole)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(mx.array_equal(one[name], other[name]) for name in one | other)
    bare = run(recipe(tmp_path, steps=1, accumulate=2), tmp_path / "bare")
    assert whole.of(Stepped)[0].loss == pytest.approx(bare.of(Stepped)[0].loss, rel=0.02)


def test_adapters_are_refused(tmp_path: Path) -> None:
    """The message names both options; nothing is written."""
    with pytest.raises(TrainingError, match=r"--gradients torch-bf16 trains all weights.*leave one of them out"):
        run(recipe(tmp_path, gradients=TORCH, start="starter", lora=Lora(2)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("family", "said"), [("llama", "is of llama;"), ("qwen2", "is of qwen2 with others;")])
def test_other_architectures_are_refused(family: str, said: str, tmp_path: Path) -> None:
    """The message tells what the model is, and that mlx trains it."""
    old = tmp_path / "old"
    old.mkdir()
    config = json.loads((save(family, old) / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({**config, "rope_scaling": {"type": "linear", "factor": 2.0}}))
    with pytest.raises(TrainingError, match=rf"knows the qwen2 .*{said} leave it out, mlx trains this model"):
        run(recipe(tmp_path, gradients=TORCH, start=str(old)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is told before anything is read or written; mlx needs none of it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError) as raised:
        run(recipe(tmp_path, gradients=TORCH), tmp_path / "out")
    assert raised.value.name == "torch"
    assert not (tmp_path / "out").exists()
    gradients.check(Recipe((), (), 1, start="starter", lora=Lora(2)))


def test_the_command_names_them(tmp_path: Path) -> None:
    """They stand in the command that makes the model again, where they are not mlx's."""
    assert "--gradients torch-bf16 " in command(recipe(tmp_path, gradients=TORCH))
    assert "--gradients" not in command(recipe(tmp_path))
