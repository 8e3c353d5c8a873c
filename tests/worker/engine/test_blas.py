"""Loading a BLAS: an OpenBLAS that does not know the CPU is told which kernels it can run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.first_import import mlx_before_blas
from worker.engine.blas import better_core

AVX2 = {"sse3", "avx", "avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}


@pytest.mark.parametrize(
    ("chosen", "flags", "core"),
    [
        ("Prescott", AVX512 | {"avx512_bf16"}, "Cooperlake"),
        ("Prescott", AVX512, "SkylakeX"),
        ("Prescott", AVX512 - {"avx512vl"}, "Haswell"),
        ("Core2", AVX2, "Haswell"),
        ("Prescott", AVX2 - {"fma"}, None),  # an old CPU indeed
        ("Prescott", frozenset(), None),
        ("Zen", AVX2, None),  # known: left alone
        ("SkylakeX", AVX512 | {"avx512_bf16"}, None),
        (None, AVX512, None),  # no OpenBLAS
    ],
)
def test_only_a_fallback_is_replaced_by_what_the_cpu_can_run(chosen: str, flags: set[str], core: str | None) -> None:
    assert better_core(chosen, flags) == core


CORE = """
import ctypes, os
import worker.engine
library = ctypes.CDLL(worker.engine.BLAS)
library.openblas_get_corename.restype = ctypes.c_char_p
print(library.openblas_get_corename().decode(), os.environ.get("OPENBLAS_CORETYPE"))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux preloads a BLAS")
@pytest.mark.parametrize("wanted", ["", "Prescott", "Haswell"])
def test_the_loaded_openblas_has_kernels_for_this_cpu_unless_asked_for_others(wanted: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    environment |= {"OPENBLAS_CORETYPE": wanted} if wanted else {}
    program = [sys.executable, "-c", "import worker.engine; print(worker.engine.BLAS)"]
    if "openblas" not in subprocess.run(program, capture_output=True, text=True, check=True).stdout:
        pytest.skip("no OpenBLAS here")
    run = subprocess.run([sys.executable, "-c", CORE], env=environment, capture_output=True, text=True, check=True)
    core, left = run.stdout.split()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    assert core == wanted if wanted else better_core(core, set(flags)) is None
    assert left == (wanted or "None"), "numpy's own OpenBLAS chooses for itself"


def test_a_fast_blas_is_loaded_before_mlx_whatever_is_imported_first() -> None:
    """An evaluation that came to mlx by way of the library had mlx's own BLAS, and took ten times as long."""
    root = Path(__file__).parents[3]
    files = [path for ring in ("library", "training") for path in (root / "worker" / ring).glob("*.py")]
    names = [f"worker.{path.parent.name}.{path.stem}" for path in files if "\nimport mlx" in path.read_text("utf-8")]
    assert "worker.library.running" in names
    assert mlx_before_blas([*names, "worker.evaluation.run", "worker.commands.evaluate_table"]) == []
