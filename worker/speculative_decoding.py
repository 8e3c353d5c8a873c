"""Where MLX ParaLLM has these names; `from worker import …` is the same."""

from worker.library.speculative_decoding import SpeculativeConfig, SpeculativeDecodingEngine

__all__ = ["SpeculativeConfig", "SpeculativeDecodingEngine"]
