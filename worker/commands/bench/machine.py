"""The machine of a benchmark: facts for `--json`, and the lines under its table."""

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from worker.commands import check_machine


def machine_facts() -> dict[str, Any]:
    """Return device, cores, memory, BLAS, versions, and the load of the machine before the benchmark."""
    load = round(os.getloadavg()[0], 1)
    versions = {"Python": platform.python_version()} | {name: metadata.version(name) for name in ("mlx", "mlx-lm")}
    return {**check_machine.device().facts, **check_machine.blas().facts, "versions": versions, "load": load}


def machine_lines(machine: dict[str, Any]) -> Iterator[str]:
    """Yield the facts as lines for people."""
    library = f" with {machine['library']}" if machine["library"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield f"{machine['kind']}, {machine['name']}, {machine['cores']} cores"
    yield f"{machine['gflops']:.0f} GFLOP/s in fp32{library}; {versions}"
    if machine["load"] > machine["cores"] / 2:
        yield f"The machine was busy before (load {machine['load']}); measure again when it is idle."
