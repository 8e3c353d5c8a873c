"""The engine: mlx and mlx-lm behind token ids and lanes. It knows no Redis, no session names and no clock.

Axis letters: B rows, H heads, T new tokens, S source slots, L all slots (past and new), D head size, V vocabulary.
Importing the package loads a fast BLAS first where there is one, because that must happen before mlx is imported.
"""

from worker.engine import blas

BLAS = blas.preload()
