"""The engine: mlx and mlx-lm behind token ids and lanes. It knows no Redis, no session names, no time of day.

Axis letters: B rows, H heads, T new tokens, S source slots, L all slots (past and new), D head size, V vocabulary.
Importing the package loads a fast BLAS first where there is one, because that must happen before mlx is imported.
"""

import atexit
import sys

from worker.engine import blas

BLAS = blas.preload()


def end_thread() -> None:
    """Free mlx's streams of this thread, at the end of every thread that has used mlx; else the process may abort.

    mlx leaves this to its users (its issue 4327); this package does it for the main thread.
    """
    core = sys.modules.get("mlx.core")
    if core is not None:
        core.clear_streams()


atexit.register(end_thread)
