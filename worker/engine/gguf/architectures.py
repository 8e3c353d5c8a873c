"""From the metadata of a GGUF file to the config of mlx-lm's model classes."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from worker.engine.errors import UnsupportedModel
from worker.engine.gguf.reader import Gguf, read_gguf
from worker.engine.gguf.values import dequantize


class Architecture(NamedTuple):
    """The mapping from an architecture of llama.cpp to one of mlx-lm.

    `has_paired_rope`: llama.cpp rotates neighbouring rows of the query and key matrices and stores them in that order.
    `has_shifted_norms`: the norms' weights are stored with the 1 that mlx-lm's classes add.
    """

    model_type: str
    has_paired_rope: bool = False
    has_shifted_norms: bool = False
    options: Mapping[str, str] = {}  # fields of the config, and the optional keys that they are read from


_GEMMA = {
    "sliding_window": "attention.sliding_window",
    "sliding_window_pattern": "attention.sliding_window_pattern",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
ARCHITECTURES = {
    "llama": Architecture("llama", has_paired_rope=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "gemma2": Architecture("gemma2", has_shifted_norms=True, options=_GEMMA),
    "gemma3": Architecture("gemma3_text", has_shifted_norms=True, options=_GEMMA),
    "phi3": Architecture("phi3"),
    "olmo2": Architecture("olmo2"),
    "smollm3": Architecture("smollm3", has_paired_rope=True),
}
_SIZES = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
}
# Gemma 2 and 3 of 27 B parameters scale queries by the width of the model. Their files do not say so: llama.cpp
# recognises them by their number of layers.
_SCALED_BY_WIDTH = {("gemma2", 46), ("gemma3", 62)}


def architecture_of(file: Gguf) -> Architecture:
    """Return the architecture of a file. Raises UnsupportedModel for one that mlx-lm cannot compute."""
    name = file.metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise UnsupportedModel(
            f"{file.path} holds a model of the architecture {name!r}; those that load from GGUF are "
            f"{', '.join(ARCHITECTURES)} (Mistral and SmolLM2 are llama). Use one of these, or the model's "
            "safetensors directory"
        )
    if file.get("expert_count"):
        raise UnsupportedModel(
            f"{file.path} holds a mixture of {file.get('expert_count')} experts, which does not load from GGUF; use "
            "the model's safetensors directory, or a dense model"
        )
    return ARCHITECTURES[name]


def read_gguf_config(path: Path) -> dict[str, Any]:
    """Read the config of the model in a GGUF file. Raises UnsupportedModel."""
    return config_of(read_gguf(path))


def config_of(file: Gguf) -> dict[str, Any]:
    """Return the config for mlx-lm's model class. Raises UnsupportedModel where the file lacks a part of it."""
    kind = architecture_of(file)
    config: dict[str, Any] = {field: _count(file, key) for field, key in _SIZES.items()}
    _check_layers(file, config["num_hidden_layers"])
    if "token_embd.weight" not in file.tensors:
        raise UnsupportedModel(f"{file.path} holds no tensor token_embd.weight; it is no complete model")
    heads = config["num_attention_heads"]
    head_dim = _count(file, "attention.key_length", config["hidden_size"] // heads)
    rotated = _count(file, "rope.dimension_count", head_dim)
    if rotated != head_dim and kind.model_type != "phi3":
        raise UnsupportedModel(
            f"{file.path} rotates {rotated} of {head_dim} dimensions of a head, which mlx-lm's {kind.model_type} "
            "cannot; use the model's safetensors directory"
        )
    config |= {
        "model_type": kind.model_type,
        "vocab_size": file.tensors["token_embd.weight"].shape[0],
        "num_key_value_heads": _count(file, "attention.head_count_kv", heads),
        "rms_norm_eps": _number(file, "attention.layer_norm_rms_epsilon"),
        "head_dim": head_dim,
        "partial_rotary_factor": rotated / head_dim,
        "rope_theta": _number(file, "rope.freq_base", 10_000.0),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "query_pre_attn_scalar": _query_scale(file, config, head_dim),
        "rope_local_base_freq": _number(file, "rope.freq_base_swa", 10_000.0),
        **{field: value for field, key in kind.options.items() if (value := file.get(key)) is not None},
    }
    return config | _rope_scaling(file, config)


def _check_layers(file: Gguf, expected: int) -> None:
    # Before a model of so many layers is built: a broken number would take all memory.
    found = len({name.split(".")[1] for name in file.tensors if name.startswith("blk.")})
    if found != expected:
        raise UnsupportedModel(
            f"{file.path} holds {found} layers, and its metadata tell of {expected}; it is broken: download it again"
        )


def _count(file: Gguf, key: str, default: int | None = None) -> int:
    value = _number(file, key, default)
    if value != int(value):
        raise _broken(file, key, value, "a whole number above 0")
    return int(value)


def _number(file: Gguf, key: str, default: float | None = None) -> float:
    value = file.get(key, default)
    if isinstance(value, list) and len(set(value)) == 1:  # one number a layer
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise _broken(file, key, value, "a number above 0")
    return value


def _broken(file: Gguf, key: str, value: object, expected: str) -> UnsupportedModel:
    found = "missing" if value is None else "different from layer to layer" if isinstance(value, list) else repr(value)
    return UnsupportedModel(
        f"{file.path}: {file.metadata['general.architecture']}.{key} is {found}, expected {expected}; download it "
        "again, convert the model anew with a current llama.cpp, or use its safetensors directory"
    )


def _query_scale(file: Gguf, config: Mapping[str, Any], head_dim: int) -> float:
    is_wide = (file.metadata["general.architecture"], config["num_hidden_layers"]) in _SCALED_BY_WIDTH
    return float(config["hidden_size"] / config["num_attention_heads"] if is_wide else head_dim)


def _rope_scaling(file: Gguf, config: Mapping[str, Any]) -> dict[str, Any]:
    kind = file.get("rope.scaling.type", "none")
    context = config["max_position_embeddings"]
    original = _count(file, "rope.scaling.original_context_length", context)
    if "rope_freqs.weight" in file.tensors:  # Llama 3: a factor for each frequency; no scaling of the magnitudes
        factors = dequantize(file.tensors["rope_freqs.weight"]).tolist()
        return {"rope_scaling": _longrope(factors, factors, context)}
    if "rope_factors_long.weight" in file.tensors:
        short, long = (dequantize(file.tensors[f"rope_factors_{name}.weight"]).tolist() for name in ("short", "long"))
        return {"rope_scaling": _longrope(short, long, original), "original_max_position_embeddings": original}
    if kind == "none":
        return {}
    factor = _number(file, "rope.scaling.factor")
    if kind not in ("linear", "yarn") or config["model_type"] in ("phi3", "gemma2"):
        raise UnsupportedModel(
            f"{file.path} scales its rotary positions by {kind!r}, which mlx-lm's {config['model_type']} cannot; use "
            "the model's safetensors directory"
        )
    return {"rope_scaling": {"type": kind, "factor": factor, "original_max_position_embeddings": original}}


def _longrope(short: list[float], long: list[float], original: int) -> dict[str, Any]:
    return {
        "type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "original_max_position_embeddings": original,
    }
