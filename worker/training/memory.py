"""Limits on the memory that a training process keeps between steps, for speed."""

import ctypes
import sys

import mlx.core as mx

_MMAP_MAX, _TRIM_THRESHOLD, _ARENA_MAX = -4, -1, -8  # mallopt's, from <malloc.h>


def keep_memory() -> None:
    """Freed arrays stay with this process (glibc on a CPU only): zeroed pages for each result cost as much as it."""
    if not sys.platform.startswith("linux") or mx.default_device() != mx.cpu:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_ARENA_MAX, 1)
