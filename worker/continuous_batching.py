"""Where MLX ParaLLM has these names; `from worker import …` is the same."""

from worker.library.continuous_batching import AsyncContinuousBatchingEngine, BatchConfig

__all__ = ["AsyncContinuousBatchingEngine", "BatchConfig"]
