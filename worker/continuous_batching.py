"""Compatibility alias for `worker.library.continuous_batching`, at the place where MLX ParaLLM has these names."""

from worker.library.continuous_batching import AsyncContinuousBatchingEngine, BatchConfig

__all__ = ["AsyncContinuousBatchingEngine", "BatchConfig"]
