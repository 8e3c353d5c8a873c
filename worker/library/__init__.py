"""The Python library of streaming generation: state, stopping criteria, data preparation and generators.

The library runs the service's own sessions (`worker.core`) on the service's own engine (`worker.engine`), so that a
session over Redis and a library call give the same words. Import its names from `worker`.
"""

from worker import engine as engine  # first of all: it loads a fast BLAS, which must be there before mlx is imported
