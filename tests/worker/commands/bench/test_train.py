"""`decalage bench train`."""

import sys
from typing import Any

import numpy as np
import pytest

from tests.worker.commands.conftest import Decalage
from worker.commands.bench import train_loop as loop
from worker.commands.bench.page import show
from worker.commands.bench.train_loop import Speed, Speeds, Step, check_equal, measure
from worker.commands.bench.train_table import page
from worker.commands.bench.train_work import Workload, random_pairs
from worker.commands.faults import CommandError
from worker.training.recipe import Recipe, Shape

TINY = Workload(
    Shape(hidden=16, layers=2, heads=2, mlp=24, vocabulary=40), tokens_per_batch=128, pair_tokens=12, steps=2
)
SHAPE = ["--hidden", "16", "--layers", "2", "--heads", "2", "--mlp", "24", "--vocab", "40"]
OPTIONS = [*SHAPE, "--tokens-per-batch", "128", "--length", "12", "--steps", "2"]
OURS = Speed("MLX 1", 2000.0, 1900.0, 2100.0, 1500.0, 9.1234)
THEIRS = Speed("PyTorch 2", 1000.0, 900.0, 1100.0, 3000.0, 9.1235)
MACHINE = {
    "kind": "CPU",
    "name": "a fast one",
    "cores": 2,
    "memory_bytes": 1,
    "library": "libfast.so",
    "gflops": 100.0,
    "load": 0.4,
    "versions": {"mlx": "1"},
}


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if PyTorch were not installed."""
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.usefixtures("without_torch")
def test_without_torch_there_is_no_baseline(decalage: Decalage) -> None:
    """The trainer's own speed is told all the same, and one line says what is missing."""
    ran = decalage("bench", "train", *OPTIONS)
    assert (ran.status, ran.err) == (0, "")
    assert "Decalage, MLX" in ran.out
    assert "PyTorch is not installed, so there is no baseline" in ran.out


@pytest.mark.usefixtures("without_torch")
def test_as_json(decalage: Decalage) -> None:
    """One object: workload, machine, and the speed with its spread."""
    ran = decalage("bench", "train", *OPTIONS, "--json")
    assert (ran.status, ran.err) == (0, "")
    found: dict[str, Any] = ran.json
    assert (found["torch"], found["ratio"]) == (None, None)
    assert found["workload"]["shape"] == {"hidden": 16, "layers": 2, "heads": 2, "mlp": 24, "vocabulary": 40} | {
        "max_positions": 512
    }
    assert {"kind", "cores", "library", "gflops", "load"} <= found["machine"].keys()
    ours = found["ours"]
    assert 0 < ours["slowest_tokens_per_s"] <= ours["tokens_per_s"] <= ours["fastest_tokens_per_s"]


def test_heads_that_cannot_be_turned(decalage: Decalage) -> None:
    """The message is that of the trainer."""
    ran = decalage("bench", "train", "--heads", "3", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (1, "training_error")


def test_an_equal_loop_in_torch() -> None:
    """It has the first loss of ours, and goes on having it: the same gradients, clipping, rates and decay."""
    pytest.importorskip("torch")
    plan = Recipe((), (), 6, wait_k=(3,), tokens_per_batch=128, shape=TINY.shape, warmup_steps=2)
    ours = loop._Ours(plan, random_pairs(TINY))
    theirs = loop._torch_loop(plan, ours.model)
    losses = [(mine.loss, other.loss) for mine, other in loop._in_turns(ours, theirs, 6) if other]
    assert len(losses) == 6
    assert losses[0][0] == pytest.approx(losses[0][1], abs=1e-4)
    assert [mine for mine, _ in losses] == pytest.approx([other for _, other in losses], abs=1e-3)


def test_both_are_measured_in_turns() -> None:
    """The ratio is that of the medians."""
    pytest.importorskip("torch")
    speeds = measure(TINY)
    assert speeds.torch is not None
    assert speeds.ratio == pytest.approx(speeds.ours.tokens_per_s / speeds.torch.tokens_per_s, abs=1e-3)


@pytest.mark.parametrize("loss", [5.002, float("nan")])
def test_loops_that_differ_have_no_ratio(loss: float) -> None:
    """Speeds of different computations are not compared; the message tells both losses."""
    check_equal(Step(5.0, 10, 1.0), Step(5.0005, 10, 1.0))
    with pytest.raises(CommandError, match=r"5\.0000 here") as raised:
        check_equal(Step(5.0, 10, 1.0), Step(loss, 10, 1.0))
    assert raised.value.code == "loops_differ"


def test_the_first_step_is_not_measured() -> None:
    """It warms up; of the others the median counts, and its loss is the first one."""
    steps = [Step(float(9 - n), 100, spent_s) for n, spent_s in enumerate((50.0, 1.0, 2.0, 4.0))]
    assert loop._speed("MLX 1", steps) == Speed("MLX 1", 50.0, 25.0, 100.0, 2000.0, 9.0)


@pytest.mark.parametrize(("theirs", "ratio"), [(THEIRS, 2.0), (None, None)])
def test_the_table(theirs: Speed | None, ratio: float | None, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each loop, the ratio and the machine, within 80 columns."""
    show(page(Speeds(TINY, 8_300_000, MACHINE, OURS, theirs, ratio)), MACHINE)
    out = capsys.readouterr().out
    assert "2,000" in out
    assert "CPU, a fast one, 2 cores\n100 GFLOP/s in fp32 with libfast.so" in out
    assert ("2.00 times PyTorch" in out) is (theirs is not None)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(("load", "is_busy"), [(0.9, False), (3.2, True)])
def test_a_busy_machine_is_told(load: float, is_busy: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures from a machine with other work are no figures of it."""
    show(page(Speeds(TINY, 8_300_000, MACHINE, OURS, None, None)), {**MACHINE, "load": load})
    assert (f"The machine was busy before (load {load})" in capsys.readouterr().out) is is_busy


def test_random_pairs() -> None:
    """About as long as asked for, of the vocabulary's tokens, the same ones each time, enough for all steps."""
    corpus, again = random_pairs(TINY), random_pairs(TINY)
    assert corpus.lengths().sum() >= 2 * (TINY.steps + 1) * TINY.tokens_per_batch
    assert corpus.lengths().mean() == pytest.approx(TINY.pair_tokens, rel=0.15)
    for i in range(len(corpus)):
        pair = corpus[i]
        assert pair.bounds[-1] == len(pair.source)
        assert len(pair.predicts) == len(pair.target) - 1
        assert max(pair.source.max(), pair.target.max()) < TINY.shape.vocabulary
        assert np.array_equal(pair.source, again[i].source)
