"""`decalage bench train`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.commands.conftest import Decalage
from worker.commands.bench import train_loop as loop
from worker.commands.bench.page import show
from worker.commands.bench.train_loop import Speed, Speeds, check_equal
from worker.commands.bench.train_steps import Step
from worker.commands.bench.train_table import page
from worker.commands.bench.train_work import Workload, random_pairs
from worker.commands.faults import CommandError
from worker.training.recipe import Recipe, Shape

TINY = Workload(
    Shape(hidden=16, layers=2, heads=2, mlp=24, vocabulary=40), tokens_per_batch=128, pair_tokens=12, steps=2
)
SHAPE = ["--hidden", "16", "--layers", "2", "--heads", "2", "--mlp", "24", "--vocab", "40"]
OPTIONS = [*SHAPE, "--tokens-per-batch", "128", "--length", "12", "--steps", "2"]
OURS = Speed("MLX 1", 2000.0, 1900.0, 2100.0, 1500.0, 9.1234, (2000.0, 1900.0, 2100.0))
BF16 = Speed("PyTorch 2.13.0, bf16", 3000.0, 2900.0, 3100.0, 1000.0, 9.1236, (3000.0, 2900.0, 3100.0))
THEIRS = Speed("PyTorch 2.13.0", 1000.0, 900.0, 1100.0, 3000.0, 9.1235, (1000.0, 900.0, 1100.0))
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
    assert {found[name] for name in ("bf16", "torch", "ratio", "bf16_ratio")} == {None}
    assert found["workload"]["shape"] == {
        "hidden": 16,
        "layers": 2,
        "heads": 2,
        "mlp": 24,
        "vocabulary": 40,
        "kv_heads": None,
    } | {"max_positions": 512}
    assert {"kind", "cores", "library", "gflops", "load"} <= found["machine"].keys()
    ours = found["ours"]
    assert 0 < ours["slowest_tokens_per_s"] <= ours["tokens_per_s"] <= ours["fastest_tokens_per_s"]
    assert len(ours["steps_tokens_per_s"]) == 2


def test_heads_that_cannot_be_turned(decalage: Decalage) -> None:
    """The message is that of the trainer."""
    ran = decalage("bench", "train", "--heads", "3", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (1, "training_error")


def test_equal_loops_by_torch() -> None:
    """Both have the first loss of ours, and go on having it: the same gradients, clipping, rates and decay."""
    pytest.importorskip("torch")
    plan = Recipe((), (), 6, wait_k=(3,), tokens_per_batch=128, shape=TINY.shape, warmup_steps=2)
    loops = loop.loops_of(plan, TINY)
    ours, bf16, theirs = ([step.loss for step in steps] for steps in loop.in_turns(loops, loops[0].passes(), 6))
    assert len(ours) == 6
    assert ours[0] == pytest.approx(theirs[0], abs=1e-4)
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert ours == pytest.approx(bf16, abs=0.02)


def test_all_are_measured_in_turns(tmp_path: Path, decalage: Decalage) -> None:
    """The ratios are those of the medians; the picture has a line for each."""
    pytest.importorskip("torch")
    ran = decalage("bench", "train", *OPTIONS, "--json", "--plot", str(tmp_path / "speed.png"))
    found = ran.json
    ours, bf16, torch = (found[name]["tokens_per_s"] for name in ("ours", "bf16", "torch"))
    assert found["ratio"] == pytest.approx(ours / torch, abs=1e-3)
    assert found["bf16_ratio"] == pytest.approx(bf16 / torch, abs=1e-3)
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("loss", [5.002, float("nan")])
def test_loops_that_differ_have_no_ratio(loss: float) -> None:
    """Speeds of different computations are not compared; the message tells both losses."""
    check_equal(Step(5.0, 10, 1.0), Step(5.0005, 10, 1.0), 1e-3)
    with pytest.raises(CommandError, match=r"5\.0000 here") as raised:
        check_equal(Step(5.0, 10, 1.0), Step(loss, 10, 1.0), 1e-3)
    assert raised.value.code == "loops_differ"


def test_the_first_step_is_not_measured() -> None:
    """It warms up; of the others the median counts, and its loss is the first one."""
    steps = [Step(float(9 - n), 100, spent_s) for n, spent_s in enumerate((50.0, 1.0, 2.0, 4.0))]
    assert loop.speed("MLX 1", steps) == Speed("MLX 1", 50.0, 25.0, 100.0, 2000.0, 9.0, (100.0, 50.0, 25.0))


@pytest.mark.parametrize("others", [(BF16, THEIRS, 2.0, 3.0), ()])
def test_the_table(others: tuple[Any, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each loop, the ratios and the machine; within 80 columns; a line for each in the picture."""
    shown = page(Speeds(TINY, 8_300_000, MACHINE, OURS, *others))
    show(shown, MACHINE)
    out = capsys.readouterr().out
    assert "2,000" in out
    assert "CPU, a fast one, 2 cores\n100 GFLOP/s in fp32 with libfast.so" in out
    said = "2.00 times the plain loop, and 3.00 times with --device cpu"
    assert (said in out) is bool(others)
    assert max(map(len, out.splitlines())) <= 80
    lines = shown.plot.lines if shown.plot else {}
    assert list(lines["Decalage, MLX 1"]) == [(1, 2000.0), (2, 1900.0), (3, 2100.0)]
    assert len(lines) == (3 if others else 1)


@pytest.mark.parametrize(("load", "is_busy"), [(0.9, False), (3.2, True)])
def test_a_busy_machine_is_told(load: float, is_busy: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures from a machine with other work are no figures of it."""
    show(page(Speeds(TINY, 8_300_000, MACHINE, OURS)), {**MACHINE, "load": load})
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
