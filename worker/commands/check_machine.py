"""The doctor's checks of Python, its packages, the device and its speed of multiplication."""

import importlib
import importlib.util
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from worker.commands.findings import Finding

_NEEDED = ("mlx", "mlx-lm", "redis", "msgspec", "structlog", "prometheus-client", "rich")
_SIZE = 1024  # rows and columns of the matrices that are multiplied
_SLOW_GFLOPS = 50


def packages() -> Finding:
    """Check the versions of Python and of the worker's packages."""
    versions = {name: version for name in _NEEDED if (version := _version(name)) is not None}
    missing = [name for name in _NEEDED if name not in versions]
    text = ", ".join((f"Python {platform.python_version()}", *map(" ".join, versions.items())))
    facts = {"python": platform.python_version(), "packages": versions, "missing": missing}
    if missing:
        return Finding(
            "packages", "failed", f"{text}; missing: {', '.join(missing)}", "pip install 'decalage[worker]'", facts
        )
    return Finding("packages", "ok", text, facts=facts)


def device() -> Finding:
    """Check the device and its memory."""
    importlib.import_module("worker.engine")  # loads a fast BLAS, which must come before mlx
    import mlx.core as mx

    kind = mx.default_device().type.name
    facts: dict[str, Any] = {
        "kind": _kind(kind),
        "name": _cpu_name() if kind == "cpu" else _gpu_name(),
        "cores": _num_cores(),
        "memory_bytes": _memory_bytes(kind),
    }
    memory = facts["memory_bytes"]
    text = facts["kind"] + ("" if memory is None else f", {memory / 2**30:.1f} GiB of memory")
    text += f", {facts['cores']} cores" if kind == "cpu" else f" ({facts['name']})"
    return Finding("device", "ok", text, facts=facts)


def blas() -> Finding:
    """Check the speed of fp32 matrix products, which take most of a translation's time on a CPU."""
    from worker.engine import BLAS
    from worker.engine.blas import REMEDY

    gflops = _gflops()
    text = f"{gflops:.0f} GFLOP/s in fp32 at {_SIZE}×{_SIZE}" + (f" with {BLAS}" if BLAS else "")
    facts = {"library": BLAS, "gflops": round(gflops, 1)}
    if _is_linux_cpu() and gflops < _SLOW_GFLOPS:
        remedy = REMEDY if BLAS is None else "is the machine busy? try again when it is idle"
        return Finding("blas", "warning", f"{text}: slow", remedy, facts)
    return Finding("blas", "ok", text, facts=facts)


def _version(name: str) -> str | None:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    return version if importlib.util.find_spec(name.replace("-", "_")) else None


def _kind(kind: str) -> str:
    if kind == "cpu":
        return "CPU"
    return "Metal" if sys.platform == "darwin" else "CUDA"


def _gpu() -> dict[str, Any]:
    import mlx.core as mx

    return dict(mx.device_info()) if hasattr(mx, "device_info") else {}


def _gpu_name() -> str:
    return str(_gpu().get("device_name", "its name is not known"))


def _cpu_name() -> str:
    # Linux names the CPU in a file; elsewhere, Python names at least the family.
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _memory_bytes(kind: str) -> int | None:
    if kind != "cpu":
        size = next((_gpu()[key] for key in ("memory_size", "total_memory") if key in _gpu()), None)
        return None if size is None else int(size)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_linux_cpu() -> bool:
    import mlx.core as mx

    return sys.platform.startswith("linux") and mx.default_device().type.name == "cpu"


def _gflops() -> float:
    import mlx.core as mx

    a, b = mx.random.normal((_SIZE, _SIZE)), mx.random.normal((_SIZE, _SIZE))
    mx.eval(a, b)
    fastest_s = float("inf")
    for _ in range(4):  # the first product is a warm-up, and never the fastest
        start_s = time.perf_counter()
        mx.eval(a @ b)
        fastest_s = min(fastest_s, time.perf_counter() - start_s)
    return 2 * _SIZE**3 / fastest_s / 1e9
