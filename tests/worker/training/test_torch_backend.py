"""A run by PyTorch is one by mlx, and ends like it; what it cannot do is refused first."""

import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.worker.engine.tiny import build, save
from tests.worker.training.corpus import ROWS, recipe, run
from tests.worker.training.pairs import tiny
from tests.worker.training.test_objective import PAIRS, WAITS
from tests.worker.training.test_train import losses, translate, weights
from worker.engine.model import StreamingModel
from worker.training import backends
from worker.training.checkpoint import FILE
from worker.training.errors import DeviceError, LossError, TrainingError
from worker.training.events import Stepped, Validated
from worker.training.export import command
from worker.training.mlx_backend import MlxBackend
from worker.training.pairs import make_batch
from worker.training.recipe import Lora, Precision, Recipe


def by_torch(model: StreamingModel, precision: Precision = "fp32", dropout: float = 0.0) -> Any:
    """The backend of a model; the test is skipped where PyTorch is missing."""
    pytest.importorskip("torch")
    plan = Recipe((), (), 1, device="cpu", precision=precision, dropout=dropout, weight_decay=0.0)
    return backends.of_model(plan, model, vars(model.inner.args))


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
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.02)])
def test_gradients_are_those_of_mlx(precision: Precision, tolerance: float, wait_k: int | None, make: Any) -> None:
    """Loss and norm of the gradients agree to the precision of the products, by each k, for shared heads of keys and
    for a head that is tied or not.
    """
    model = make()
    other = by_torch(model, precision)
    mine = MlxBackend(Recipe((), (), 1, weight_decay=0.0), model)
    batch = make_batch(PAIRS, wait_k, model.position_offset, 4)
    assert other.loss_sum(batch) == pytest.approx(mine.loss_sum(batch), rel=tolerance / 10)
    assert other.add_gradients(batch, 0.1) == pytest.approx(mine.add_gradients(batch, 0.1), rel=tolerance / 10)
    norms = [backend.update(1e-3, batch.num_labels, 0.5) for backend in (mine, other)]
    assert norms[1] == pytest.approx(norms[0], rel=tolerance)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_ten_steps_are_those_of_mlx(accumulate: int, tmp_path: Path) -> None:
    """Losses, norms and the mean of the weights of a whole run in fp32 agree to 1e-4, validation included."""
    pytest.importorskip("torch")
    plan = recipe(tmp_path, steps=10, average=0.4, wait_k=(1, 2, 3, None), accumulate=accumulate, peak_rate=2e-3)
    mine = run(plan, tmp_path / "mlx")
    other = run(recipe(tmp_path, **_changed(plan, device="cpu", precision="fp32")), tmp_path / "torch")
    for one, two in zip(mine.of(Stepped), other.of(Stepped), strict=True):
        assert (one.wait_k, one.learning_rate, one.num_tokens) == (two.wait_k, two.learning_rate, two.num_tokens)
        assert two.loss == pytest.approx(one.loss, abs=1e-4)
        assert two.gradient_norm == pytest.approx(one.gradient_norm, abs=1e-4)
    assert other.of(Validated)[-1].loss == pytest.approx(mine.of(Validated)[-1].loss, abs=1e-4)
    one, two = weights(tmp_path / "mlx"), weights(tmp_path / "torch")
    assert one.keys() == two.keys()
    assert all(mx.allclose(one[name], two[name], rtol=1e-2, atol=1e-4) for name in one)  # both are in bf16


def _changed(plan: Recipe, **options: Any) -> dict[str, Any]:
    names = ("steps", "average", "wait_k", "accumulate", "peak_rate")
    return {**{name: getattr(plan, name) for name in names}, **options}


def test_a_seed_tells_what_is_dropped() -> None:
    """The same seed gives the same loss, another one others; without dropout there is no chance."""
    model, batch = tiny(), make_batch(PAIRS, 2, 0)

    def losses_of(share: float) -> list[float]:
        backend = by_torch(model, dropout=share)
        found = []
        for seed in (1, 1, 2):
            backend.seed(seed)
            found.append(backend.add_gradients(batch, 0.0))
        return found

    one, again, other = losses_of(0.3)
    assert one == again != other
    assert len(set(losses_of(0.0))) == 1


def test_a_step_without_a_finite_norm_changes_nothing() -> None:
    """The weights of before stay, and the gradients begin anew, whoever computes."""
    model, batch = tiny(), make_batch(PAIRS, 2, 0)
    broken = make_batch(PAIRS, 2, 0)
    broken.weights[:] = np.nan
    for backend in (by_torch(model), MlxBackend(Recipe((), (), 1), model)):
        before = backend.arrays()
        backend.add_gradients(broken, 0.0)
        assert not np.isfinite(backend.update(1e-3, batch.num_labels, 1.0))
        after = backend.arrays()
        assert all(np.array_equal(before[name], after[name]) for name in before if name.startswith("model."))
        assert np.isfinite(backend.add_gradients(batch, 0.0))
        assert np.isfinite(backend.update(1e-3, batch.num_labels, 1.0))


def test_it_overfits_a_toy_language_and_is_served(tmp_path: Path) -> None:
    """A run ends like one by mlx: near zero, and the engine says the rows."""
    pytest.importorskip("torch")
    out = tmp_path / "model"
    plan = recipe(
        tmp_path, steps=100, label_smoothing=0.0, tokens_per_batch=768, valid_every=1000, device="cpu", dropout=0.02
    )
    told = run(plan, out)
    assert max(told.of(Validated)[-1].loss.values()) < 0.2
    for source, target in ROWS[::13]:
        assert [translate(out, source, wait_k) for wait_k in (1, 3)] == [target] * 2


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """Same losses and weights, bit for bit, dropout included; the first loss is about that by mlx."""
    torch = pytest.importorskip("torch")
    plan = recipe(tmp_path, steps=10, accumulate=2, average=0.7, valid_every=3, device="cpu", dropout=0.1)
    whole = run(plan, tmp_path / "whole")
    first = run(plan, tmp_path / "parts", steps=5)
    torch.manual_seed(99)
    second = run(plan, tmp_path / "parts", resume=True)
    assert losses([*first, *second]) == losses(whole)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(mx.array_equal(one[name], other[name]) for name in one | other)
    bare = run(recipe(tmp_path, steps=1, accumulate=2), tmp_path / "bare")
    assert whole.of(Stepped)[0].loss == pytest.approx(bare.of(Stepped)[0].loss, rel=0.02)


def test_the_last_good_model_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is no number ends the run with an error; the model of the last checkpoint lies there whole."""
    pytest.importorskip("torch")
    plan, out = recipe(tmp_path, steps=9, valid_every=2, device="cpu"), tmp_path / "model"
    rate = Recipe.rate
    monkeypatch.setattr(Recipe, "rate", lambda self, step: float("inf") if step == 4 else rate(self, step))
    with pytest.raises(LossError, match="step 6: the loss is nan"):
        run(plan, out)
    assert (out / FILE).exists()
    assert all(bool(mx.isfinite(array).all()) for array in weights(out).values())
    assert translate(out, ROWS[0][0], 1) is not None


def test_adapters_are_refused(tmp_path: Path) -> None:
    """The message names both options; nothing is written."""
    with pytest.raises(TrainingError, match=r"--device cpu trains all weights.*leave one of them out"):
        run(recipe(tmp_path, device="cpu", start="starter", lora=Lora(2)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("family", "said"), [("llama", "is of llama;"), ("qwen2", "is of qwen2 with others;")])
def test_other_architectures_are_refused(family: str, said: str, tmp_path: Path) -> None:
    """The message tells what the model is, and that mlx trains it."""
    pytest.importorskip("torch")
    old = tmp_path / "old"
    old.mkdir()
    config = json.loads((save(family, old) / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({**config, "rope_scaling": {"type": "linear", "factor": 2.0}}))
    with pytest.raises(TrainingError, match=rf"knows the qwen2 .*{said} leave it out, mlx trains this model"):
        run(recipe(tmp_path, device="cpu", start=str(old)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message tells how to look for it and what to use instead; nothing is written."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"--device cuda needs a CUDA GPU .*nvidia-smi, or train with --device cpu"):
        run(recipe(tmp_path, device="cuda"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_device_too_old_for_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message tells what it has, what is needed, and the precision that works."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "T4")
    with pytest.raises(DeviceError, match=r"capability 8.0 or newer, T4 has 7.5; train with --precision fp32"):
        run(recipe(tmp_path, device="cuda"), tmp_path / "out")


def test_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is told before anything is read or written; mlx needs none of it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError) as raised:
        run(recipe(tmp_path, device="cpu"), tmp_path / "out")
    assert raised.value.name == "torch"
    assert not (tmp_path / "out").exists()
    backends.check(Recipe((), (), 1, start="starter", lora=Lora(2)))


def test_the_command_names_it(tmp_path: Path) -> None:
    """Device and precision stand in the command that makes the model again, where they are not mlx's."""
    assert "--device cpu " in command(recipe(tmp_path, device="cpu"))
    assert "--device" not in command(recipe(tmp_path))
