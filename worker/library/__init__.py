"""The Python library of streaming generation: state, stopping criteria, data preparation and generators.

Everything here runs the service's own machine (`worker.core`) over the service's own engine (`worker.engine`), so that
a session over Redis and a call of the library give the same words. The names are had from `worker`.
"""
