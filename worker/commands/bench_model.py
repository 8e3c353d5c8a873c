"""Models for engine benchmarks: random weights of well-known shapes, and a runner to which any token is a word."""

from importlib import import_module
from typing import Any, Final

import mlx.core as mx

from worker.engine.model import StreamingModel
from worker.engine.runner import Runner

SHAPES: Final[dict[str, dict[str, Any]]] = {
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "rope_theta": 1_000_000.0,
    },
    "smollm2-135m": {
        "model_type": "llama",
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
        "rope_theta": 100_000.0,
    },
}


class AnyTokens:
    """A vocabulary where every token may come anywhere: speed does not depend on which one comes."""

    def word_starts(self, size: int) -> mx.array:
        """All (V,) bool."""
        return mx.ones(size, mx.bool_)

    def forbidden(self, size: int) -> mx.array:
        """None (V,) bool."""
        return mx.zeros(size, mx.bool_)


def random_model(shape: str) -> StreamingModel:
    """Random weights of that shape; the same ones each time."""
    module = import_module(f"mlx_lm.models.{SHAPES[shape]['model_type']}")
    mx.random.seed(0)
    config = {"rms_norm_eps": 1e-6, "tie_word_embeddings": True, "max_position_embeddings": 32_768, **SHAPES[shape]}
    inner = module.Model(module.ModelArgs.from_dict(config))
    mx.eval(inner.parameters())
    return StreamingModel(inner, name=shape)


def runner_of(model: StreamingModel) -> Runner:
    """A runner that any token of the model will do for."""
    return Runner(model, AnyTokens())
