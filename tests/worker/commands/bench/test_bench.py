"""`decalage bench`: what all benchmarks have in common."""

import sys
from pathlib import Path

import pytest

from tests.worker.commands.conftest import Decalage
from tests.worker.first_import import mlx_before_blas
from worker.commands.bench import NAMES, options
from worker.commands.bench.models import ARCHITECTURES, random_model


@pytest.mark.parametrize("name", NAMES)
def test_the_help_tells_the_benchmarks(name: str, decalage: Decalage) -> None:
    """And each of them has its own."""
    assert f"\n    {name}" in decalage("bench", "--help").out
    assert decalage("bench", name, "--help").out.startswith(f"usage: decalage bench {name} [options]\n")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "tea",
        "train --steps 0",
        "train --hiden 3",
        "decode --rows 0",
        "decode --shape tea",
        "decode --plot decode.svg",
        "decode --plot /no/such/folder/decode.png",
        "stream --sessions",
        "turns --turns 1",
        "turns --sessions 0",
        "reprompt --at 1",
        "reprompt --words 0",
        "reprompt --sessions 0",
        "reprompt --layout tea",
        "stream --layout",
        "mixed --speakers 0",
        "mixed --seconds 0.5",
        "mixed --pace 0",
        "mixed --limit-ms 0",
        "mixed --max-batch-size 0",
        "table --batch 1",
        "table --acceptance 1.5",
        "table --max-draft-tokens 65",
    ],
)
def test_usage_errors(wrong: str, decalage: Decalage) -> None:
    """No benchmark, an unknown one or a wrong option is one line and exit status 2."""
    ran = decalage("bench", *wrong.split())
    assert ran.status == 2
    assert ran.err.startswith("decalage: error: ")
    assert ran.err.count("\n") == 1


def test_without_matplotlib_there_is_no_picture(
    decalage: Decalage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Which is told before anything is measured."""
    monkeypatch.setitem(sys.modules, "worker.commands.bench.drawing", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "worker.commands.bench.drawing")
    for name in [name for name in sys.modules if name.startswith(("matplotlib.", "worker.evaluation.picture"))]:
        monkeypatch.delitem(sys.modules, name)
    ran = decalage("bench", "decode", "--model", "none/such", "--plot", str(tmp_path / "decode.png"), "--json")
    assert (ran.status, ran.json["error"]["code"]) == (1, "missing_package")


def test_a_fast_blas_is_loaded_before_mlx() -> None:
    """By every benchmark, or the figures would be of mlx's own."""
    assert mlx_before_blas((f"worker.commands.bench.{name}" for name in NAMES), is_run=True) == []


def test_shapes_are_random_models() -> None:
    """A shape has its parameters, in the architecture that it is known for."""
    assert set(options.SHAPES) == set(ARCHITECTURES)
    assert {ARCHITECTURES[name]["model_type"] for name in ARCHITECTURES} == {"qwen2", "llama"}
    assert random_model("smollm2-135m").num_parameters == 134_515_008
