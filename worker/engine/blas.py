"""Load a fast BLAS for MLX on a Linux CPU. Loaded before mlx, its symbols replace the reference BLAS in the wheel.

At 1024 x 1024 x 1024 in fp32 the wheel's own BLAS reaches 9 GFLOP/s on two cores, OpenBLAS 250. An OpenBLAS older than
the CPU takes it for a Pentium and reaches 30; it is told then which kernels the CPU can run.
"""

import ctypes
import os
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any, Final

_LIBRARIES = ("libopenblas.so.0", "libopenblas.so", "libmkl_rt.so.2", "libblis.so.4")
REMEDY = "install OpenBLAS (Debian and Ubuntu: apt install libopenblas0; Fedora: dnf install openblas)"

_CORE: Final = "OPENBLAS_CORETYPE"
# The kernels that OpenBLAS falls back to where it does not know the CPU, all without AVX.
_FALLBACKS: Final = frozenset({"prescott", "core2", "generic", "nehalem", "unknown"})
_AVX512: Final = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"})
# From the newest: kernels and the instructions that they need, as Linux calls them.
_KERNELS: Final = (
    ("Cooperlake", _AVX512 | {"avx512_bf16"}),
    ("SkylakeX", _AVX512),
    ("Haswell", frozenset({"avx2", "fma"})),
)


def preload() -> str | None:
    """Load the BLAS library that mlx will use, and return its name; None: there is none, or none is needed.

    Set DECALAGE_BLAS to a library of your own, or to `off`; OPENBLAS_CORETYPE to the kernels that OpenBLAS shall use.
    """
    if not sys.platform.startswith("linux") or "mlx.core" in sys.modules:
        return None
    wanted = os.environ.get("DECALAGE_BLAS", "")
    if wanted == "off":
        return None
    for name in (wanted,) if wanted else _LIBRARIES:
        try:
            core = None if os.environ.get(_CORE) else better_core(_core_chosen_by(name), _cpu_flags())
            with _core_set_to(core):
                ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return name
    return None


def better_core(chosen: str | None, flags: Set[str]) -> str | None:
    """Return the kernels to use in place of those that OpenBLAS has chosen, on a CPU with these flags of
    /proc/cpuinfo; None: none are known to be better.
    """
    if chosen is None or chosen.lower() not in _FALLBACKS:
        return None
    return next((core for core, needed in _KERNELS if needed <= flags), None)


def _core_chosen_by(name: str) -> str | None:
    # OpenBLAS chooses once, as it is loaded: it is loaded to be asked, and unloaded, so that it can choose again.
    linker: Any = ctypes.CDLL(None)
    linker.dlopen.argtypes, linker.dlopen.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    linker.dlclose.argtypes = [ctypes.c_void_p]
    handle = linker.dlopen(name.encode(), os.RTLD_LAZY | os.RTLD_LOCAL)
    if handle is None:
        return None
    try:
        get_core = ctypes.CDLL(name, handle=handle).openblas_get_corename
        get_core.restype = ctypes.c_char_p
        return str(get_core().decode())
    except AttributeError:  # another BLAS
        return None
    finally:
        linker.dlclose(handle)


def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next((frozenset(line.split()) for line in file if line.startswith("flags")), frozenset())
    except OSError:
        return frozenset()


@contextmanager
def _core_set_to(core: str | None) -> Iterator[None]:
    # Only while the library is loaded: numpy's own OpenBLAS is newer and knows more CPUs.
    if core is None:
        yield
        return
    os.environ[_CORE] = core
    try:
        yield
    finally:
        del os.environ[_CORE]
