"""Limits on the memory that a training process keeps between steps, for speed."""

import ctypes
import sys

_MMAP_MAX, _TRIM_THRESHOLD, _ARENA_MAX = -4, -1, -8  # mallopt's, from <malloc.h>


def keep_memory() -> None:
    """Keep freed arrays with this process (glibc only): zeroed pages for each result cost as much as it."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_ARENA_MAX, 1)
