"""The doctor's look at Python, packages, device and speed."""

import pytest

import worker.engine
from worker.commands import check_machine


def test_all_packages_are_here() -> None:
    """In the environment of the tests nothing is missing."""
    found = check_machine.packages()
    assert (found.status, found.facts["missing"]) == ("ok", [])


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and the remedy is the pip command."""
    monkeypatch.setattr(check_machine, "_NEEDED", ("msgspec", "no-such-package-at-all"))
    found = check_machine.packages()
    assert found.status == "failed"
    assert found.text.endswith("missing: no-such-package-at-all")
    assert found.remedy == "pip install 'decalage[worker]'"


def test_the_device_has_memory() -> None:
    """Kind, name and memory are known."""
    found = check_machine.device()
    assert found.facts["kind"] in ("CPU", "Metal", "CUDA")
    assert found.facts["name"]
    assert found.facts["memory_bytes"] > 2**28


@pytest.mark.parametrize(
    ("gflops", "library", "status", "said"),
    [
        (9.0, None, "warning", "OpenBLAS"),
        (9.0, "libopenblas.so.0", "warning", "busy"),
        (250.0, "libopenblas.so.0", "ok", ""),
    ],
)
def test_a_slow_blas_has_a_remedy(
    gflops: float, library: str | None, status: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Linux CPU, below 50 GFLOP/s: install one where there is none, else the machine is busy."""
    monkeypatch.setattr(check_machine, "_gflops", lambda: gflops)
    monkeypatch.setattr(check_machine, "_is_linux_cpu", lambda: True)
    monkeypatch.setattr(worker.engine, "BLAS", library)
    found = check_machine.blas()
    assert found.status == status
    assert said in found.remedy
    assert bool(said) == bool(found.remedy)
