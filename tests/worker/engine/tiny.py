"""Tiny models of several families with random weights, as the arguments of mlx-lm's own classes."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": 64,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
}
HEAD = {**SIZES, "head_dim": 8}
WINDOW = {"sliding_window": 512}
LATENT = {
    **SIZES,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
ROTARY: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "qwen2": SIZES,
    "qwen3": HEAD,
    "gemma": HEAD,
    "gemma2": {**HEAD, "query_pre_attn_scalar": 8.0},
    "phi3": SIZES,
    "olmo2": HEAD,
    "granite": {
        **SIZES,
        "logits_scaling": 1.0,
        "attention_multiplier": 0.25,
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "attention_bias": False,
        "mlp_bias": False,
    },
    "smollm3": SIZES,
    "smollm3-nope": {**SIZES, "no_rope_layer_interval": 2},  # every other layer without positions
    "youtu_llm": LATENT,
    "deepseek_v2": {**LATENT, "topk_method": "greedy", "rope_scaling": {"type": "default", "factor": 1.0}},
    "minicpm3": {
        **LATENT,
        "dim_model_base": 32,
        "scale_depth": 1.0,
        "scale_emb": 1.0,
        "rope_scaling": {
            "type": "longrope",
            "long_factor": [1.0] * 4,
            "short_factor": [1.0] * 4,
            "original_max_position_embeddings": 128,
        },
    },
    "llama-yarn": {
        **SIZES,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
    },
    "llama3-rope": {
        **SIZES,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    },
    "phi3-longrope": {
        **SIZES,
        "original_max_position_embeddings": 128,
        "rope_scaling": {"type": "longrope", "long_factor": [1.5] * 4, "short_factor": [1.0] * 4},
    },
    "llama-sliding": {**SIZES, **WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma3_text": {**HEAD, **WINDOW, "sliding_window_pattern": 2},
    "gemma3": {
        "vocab_size": 64,
        "text_config": {**HEAD, **WINDOW, "model_type": "gemma3_text", "sliding_window_pattern": 2},
    },
    "ministral3": {
        **HEAD,
        **WINDOW,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 128,
            "llama_4_scaling_beta": 0.1,
        },
    },
    "qwen3_moe": {
        **HEAD,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 16,
        "norm_topk_prob": True,
    },
    "cohere2": {**HEAD, **WINDOW, "sliding_window_pattern": 2, "layer_norm_eps": 1e-5, "logit_scale": 1.0},
    "olmo3": {**HEAD, **WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
}
WINDOWED = [name for name, config in ROTARY.items() if "sliding_window" in config]
OTHERS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "n_ctx": 64,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 64,
        "layer_norm_epsilon": 1e-5,
        "vocab_size": 64,
    },
    "mamba": {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "state_size": 4,
        "num_hidden_layers": 2,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 2,
    },
    "falcon_h1": {
        **HEAD,
        "mamba_d_ssm": 32,
        "mamba_d_state": 8,
        "mamba_d_conv": 4,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_n_groups": 1,
    },
    "deepseek_v3": LATENT,
    "glm4_moe_lite": {
        **LATENT,
        "n_routed_experts": 2,
        "n_shared_experts": 1,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
        "partial_rotary_factor": 1.0,
        "first_k_dense_replace": 2,
    },
    "mamba2": {
        "vocab_size": 64,
        "num_heads": 4,
        "head_dim": 8,
        "hidden_size": 32,
        "intermediate_size": 32,
        "state_size": 4,
        "num_hidden_layers": 2,
        "layer_norm_epsilon": 1e-5,
        "conv_kernel": 4,
        "n_groups": 1,
        "use_bias": False,
        "use_conv_bias": True,
        "tie_word_embeddings": True,
        "time_step_limit": (0.0, 1e9),
        "time_step_rank": 2,
    },
    "lfm2": {
        **HEAD,
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 32,
        "block_ff_dim": 48,
        "block_multiple_of": 8,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "full_attn_idxs": [1],
    },
    "qwen3_next": {
        **HEAD,
        "linear_num_value_heads": 2,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_conv_kernel_dim": 4,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 16,
        "mlp_only_layers": [],
        "moe_intermediate_size": 16,
        "partial_rotary_factor": 1.0,
        "full_attention_interval": 2,
    },
    "recurrent_gemma": {
        **HEAD,
        "attention_bias": False,
        "conv1d_width": 4,
        "logits_soft_cap": 30.0,
        "attention_window_size": 16,
        "lru_width": 32,
        "block_types": ["recurrent", "attention"],
        "embeddings_scale_by_sqrt_dim": True,
    },
    "granitemoehybrid": {
        **SIZES,
        "embedding_multiplier": 1.0,
        "attention_multiplier": 0.25,
        "logits_scaling": 1.0,
        "residual_multiplier": 1.0,
        "attention_bias": False,
        "layer_types": ["mamba", "attention"],
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_proj_bias": False,
        "mamba_d_state": 4,
        "mamba_d_conv": 4,
        "mamba_n_groups": 1,
        "mamba_conv_bias": True,
        "shared_intermediate_size": 48,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "position_embedding_type": "rope",
    },
    "jamba": {
        **SIZES,
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
        "mamba_d_conv": 4,
        "mamba_d_state": 4,
        "mamba_expand": 2,
        "num_experts": 1,
        "num_experts_per_tok": 1,
    },
}
_MODULES = {
    "llama-yarn": "llama",
    "llama3-rope": "llama",
    "phi3-longrope": "phi3",
    "smollm3-nope": "smollm3",
    "llama-sliding": "llama",
}


def build(name: str, **changes: Any) -> nn.Module:
    """Build a random model of that family, with these changes to its config; the same one each time."""
    mx.random.seed(7)
    family = _MODULES.get(name, name)
    module = import_module(f"mlx_lm.models.{family}")
    model: nn.Module = module.Model(module.ModelArgs.from_dict({**config(name), **changes}))
    mx.eval(model.parameters())
    return model


def config(name: str) -> dict[str, Any]:
    """Return the family's config.json."""
    return {"model_type": _MODULES.get(name, name), **{**ROTARY, **OTHERS}[name]}


def save(name: str, path: Path, **changes: Any) -> Path:
    """Save a model directory without a tokenizer."""
    (path / "config.json").write_text(json.dumps({**config(name), **changes}))
    mx.save_safetensors(str(path / "model.safetensors"), dict(tree_flatten(build(name, **changes).parameters())))
    return path
