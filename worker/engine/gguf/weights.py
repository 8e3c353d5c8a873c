"""From the tensors of a GGUF file to the parameters of an mlx-lm model."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from worker.engine.errors import UnsupportedModel
from worker.engine.gguf.architectures import Architecture, architecture_of, config_of
from worker.engine.gguf.packing import GROUP_SIZE, pack
from worker.engine.gguf.reader import Gguf, read_gguf
from worker.engine.gguf.values import dequantize

_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
# The same names in other architectures.
_RENAMED = {
    "gemma2": {"ffn_norm": "pre_feedforward_layernorm"},
    "gemma3_text": {"ffn_norm": "pre_feedforward_layernorm"},
    "phi3": {"ffn_up": "mlp.gate_up_proj"},
}
_IN_CONFIG = ("rope_freqs.", "rope_factors_")
_NAME = re.compile(r"(?:blk\.(\d+)\.)?([a-z_]+)\.(weight|bias)")


def load_gguf_model(path: Path, dtype: mx.Dtype, *, is_packed: bool = False) -> nn.Module:
    """Load the model of a GGUF file, to compute in `dtype`.

    Its weights become floats: 4 bytes a parameter as float32 (6 GB for 1.5 B parameters), 2 as bfloat16. With
    `is_packed`, quantised weights stay quantised in mlx's own form, at about the file's size. Raises UnsupportedModel.
    """
    file = read_gguf(path)
    config = config_of(file)
    try:
        return _model(file, config, dtype, is_packed=is_packed)
    except UnsupportedModel:
        raise
    except Exception as error:  # whatever metadata and tensors that do not fit each other lead to
        reason = " ".join(str(error).split()).removesuffix(".")
        raise UnsupportedModel(
            f"{path} does not hold the weights of a whole {config['model_type']} model: {reason}. Download it again, "
            "or use another file of it or its safetensors directory"
        ) from error


def _model(file: Gguf, config: dict[str, Any], dtype: mx.Dtype, *, is_packed: bool) -> nn.Module:
    module = import_module(f"mlx_lm.models.{config['model_type']}")
    model: nn.Module = module.Model(module.ModelArgs.from_dict(config))
    weights, bits = _weights(file, config, dtype, is_packed=is_packed)
    if hasattr(model, "sanitize"):
        weights = model.sanitize(weights)
    if bits:
        nn.quantize(
            model,
            class_predicate=lambda name, _: name in bits and {"group_size": GROUP_SIZE, "bits": bits[name]},
        )
    model.load_weights(list(weights.items()), strict=True)
    model.eval()
    return model


def _weights(
    file: Gguf, config: dict[str, Any], dtype: mx.Dtype, *, is_packed: bool
) -> tuple[dict[str, mx.array], dict[str, int]]:
    # The parameters by mlx-lm's names, and the bits of the modules that stay quantised.
    kind = architecture_of(file)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights, bits = {}, {}
    for name, tensor in file.tensors.items():
        if name.startswith(_IN_CONFIG):
            continue
        part, module, ending = _parameter(file, kind, name)
        packed = pack(tensor) if is_packed else None
        if packed is None:
            shift = 1 if kind.has_shifted_norms and part.endswith("norm") else 0
            arrays = {ending: mx.array(dequantize(tensor) - shift).astype(dtype)}
        else:
            bits[module] = packed.bits
            scales, biases = packed.scales.astype(dtype), packed.biases.astype(dtype)
            arrays = {"weight": packed.weight, "scales": scales, "biases": biases}
        if kind.has_paired_rope and part in heads:
            arrays = {key: _unpaired(array, heads[part]) for key, array in arrays.items()}
        mx.eval(arrays)  # one after another, to hold only one weight as float32
        weights.update({f"{module}.{key}": array for key, array in arrays.items()})
    return weights, bits


def _parameter(file: Gguf, kind: Architecture, name: str) -> tuple[str, str, str]:
    # llama.cpp's name of the part, without its layer; mlx-lm's name of the module; and which of its parameters it is.
    match = _NAME.fullmatch(name)
    layer, part, ending = match.groups() if match else (None, "", "")
    known = _OUTER if layer is None else _IN_LAYER | _RENAMED.get(kind.model_type, {})
    if part not in known:
        raise UnsupportedModel(
            f"{file.path} holds a tensor {name}, which mlx-lm's {kind.model_type} has no place for; use the model's "
            "safetensors directory"
        )
    prefix = "" if layer is None else f"model.layers.{layer}."
    return part, f"{prefix}{known[part]}", ending


def _unpaired(array: mx.array, num_heads: int) -> mx.array:
    # Rows of each head, from (D/2, 2) as neighbours that are rotated together to (2, D/2) as halves.
    rows = array.reshape(num_heads, -1, 2, *array.shape[1:])
    return rows.swapaxes(1, 2).reshape(array.shape)
