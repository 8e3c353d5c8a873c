"""Adapters of mlx-lm's layers: rotary positions, attention, kernels, and the check that a model can be driven."""
