"""mlx-lm's layers under our control: rotary positions, attention, kernels, and the check of what can be driven."""
