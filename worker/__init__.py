"""Decalage's worker, and the library of streaming generation: `from worker import load, stream_generate_streaming_llm`.

Names load on first use, so that `import worker` costs nothing and needs no mlx.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.core.policies.wait_k import calculate_wait_words
    from worker.engine.kv.dual_cache import DualStreamingCache
    from worker.engine.model import Model, ModelArgs, StreamingModel
    from worker.engine.visibility import create_streaming_attention_mask
    from worker.library.continuous_batching import AsyncContinuousBatchingEngine, BatchConfig
    from worker.library.criteria import EOSStoppingCriteria, MaxLengthStoppingCriteria, WordBoundaryStoppingCriteria
    from worker.library.preparation import StreamingDataPreparator
    from worker.library.running import load
    from worker.library.speculative_decoding import SpeculativeConfig, SpeculativeDecodingEngine
    from worker.library.state import StreamingState, generate_wait_words_list
    from worker.library.streaming import stream_generate_streaming, stream_generate_streaming_llm

__all__ = [
    "AsyncContinuousBatchingEngine",
    "BatchConfig",
    "DualStreamingCache",
    "EOSStoppingCriteria",
    "MaxLengthStoppingCriteria",
    "Model",
    "ModelArgs",
    "SpeculativeConfig",
    "SpeculativeDecodingEngine",
    "StreamingDataPreparator",
    "StreamingModel",
    "StreamingState",
    "WordBoundaryStoppingCriteria",
    "calculate_wait_words",
    "create_streaming_attention_mask",
    "generate_wait_words_list",
    "load",
    "stream_generate_streaming",
    "stream_generate_streaming_llm",
]

_HOMES = {
    "AsyncContinuousBatchingEngine": "worker.library.continuous_batching",
    "BatchConfig": "worker.library.continuous_batching",
    "DualStreamingCache": "worker.engine.kv.dual_cache",
    "EOSStoppingCriteria": "worker.library.criteria",
    "MaxLengthStoppingCriteria": "worker.library.criteria",
    "Model": "worker.engine.model",
    "ModelArgs": "worker.engine.model",
    "SpeculativeConfig": "worker.library.speculative_decoding",
    "SpeculativeDecodingEngine": "worker.library.speculative_decoding",
    "StreamingDataPreparator": "worker.library.preparation",
    "StreamingModel": "worker.engine.model",
    "StreamingState": "worker.library.state",
    "WordBoundaryStoppingCriteria": "worker.library.criteria",
    "calculate_wait_words": "worker.core.policies.wait_k",
    "create_streaming_attention_mask": "worker.engine.visibility",
    "generate_wait_words_list": "worker.library.state",
    "load": "worker.library.running",
    "stream_generate_streaming": "worker.library.streaming",
    "stream_generate_streaming_llm": "worker.library.streaming",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value: object = getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mlx", "mlx_lm"):
            raise
        raise ImportError(
            f"worker.{name} needs {error.name}; install it with: pip install 'decalage[worker]'"
        ) from error
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
