"""The weights of a GGUF file: the same model as mlx-lm loads from its safetensors directory."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model

from protocol import Session
from tests.worker.engine import tiny
from tests.worker.engine.gguf.writing import (
    Family,
    byte_tokenizer,
    metadata,
    randomize,
    tensors,
    tokenizer_metadata,
    write,
)
from worker.engine import loading
from worker.engine.adapters.compatibility import check_surface
from worker.engine.errors import UnsupportedModel
from worker.engine.gguf.weights import load_gguf_model
from worker.engine.model import StreamingModel

LLAMA = Family("llama", "llama", is_paired=True)
GEMMA3 = Family("gemma3_text", "gemma3", is_shifted=True, changes={"query_pre_attn_scalar": 8})
FAMILIES = [
    LLAMA,
    Family("llama-yarn", "llama", is_paired=True),
    Family("llama3-rope", "llama", is_paired=True),
    Family("qwen2", "qwen2"),
    Family("qwen3", "qwen3"),
    Family("gemma2", "gemma2", is_shifted=True),
    GEMMA3,
    Family("phi3", "phi3"),
    Family("phi3-longrope", "phi3"),
    Family("olmo2", "olmo2"),
    Family("smollm3", "smollm3", is_paired=True),
]
TOKENS = mx.array([[3, 60, 11, 7, 7, 42, 5, 19, 33, 2]])


def save(family: Family, directory: Path, **changes: Any) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """A safetensors directory of a family; its config, and its weights under llama.cpp's names."""
    changes = {**family.changes, **changes}
    config = {**tiny.config(family.name), **changes}
    model = tiny.build(family.name, **changes)
    randomize(model)
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(directory / "model.safetensors"), dict(tree_flatten(model.parameters())))
    return config, tensors(model, family)


def rope(family: Family, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """What llama.cpp's converter says of a family's rotary scaling: metadata and tensors."""
    name = family.architecture
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("type") or scaling.get("rope_type")
    if kind == "yarn":
        context = f"{name}.rope.scaling.original_context_length"
        return {f"{name}.rope.scaling.type": kind, f"{name}.rope.scaling.factor": scaling["factor"], context: 128}, {}
    if kind == "longrope":
        factors = {
            f"rope_factors_{size}.weight": np.array(scaling[f"{size}_factor"], "f4") for size in ("long", "short")
        }
        return {f"{name}.rope.scaling.type": kind, f"{name}.rope.scaling.original_context_length": 128}, factors
    if kind == "llama3":
        return {}, {"rope_freqs.weight": llama3_factors(config, scaling)}
    return {}, {}


def llama3_factors(config: dict[str, Any], scaling: dict[str, Any]) -> np.ndarray[Any, Any]:
    """By how much Llama 3 slows each frequency: not the fast ones, the slow ones by its factor, between them a bit."""
    size = config["hidden_size"] // config["num_attention_heads"]
    turns = scaling["original_max_position_embeddings"] / (
        2 * np.pi * config["rope_theta"] ** (np.arange(0, size, 2) / size)
    )
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return np.array(1 / ((1 - smooth) / factor + smooth), np.float32)


def extra(family: Family) -> dict[str, Any]:
    """What else a family's files say."""
    if family.architecture == "gemma3":
        return {"gemma3.attention.sliding_window": 512, "gemma3.attention.sliding_window_pattern": 2}
    if family.architecture == "gemma2":
        return {"gemma2.attn_logit_softcapping": 50.0, "gemma2.final_logit_softcapping": 30.0}
    return {}


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}], ids=["tied", "untied"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_same_logits_as_from_safetensors(tmp_path: Path, family: Family, changes: dict[str, Any]) -> None:
    """Exact for F32, up to the rounding of rotary factors that the file stores."""
    config, weights = save(family, tmp_path / "directory", **changes)
    scaling, factors = rope(family, config)
    values = {**metadata(config, family.architecture), **scaling, **extra(family)}
    file = write(tmp_path / "model.gguf", family.architecture, values, {**weights, **factors})
    expected = load_model(tmp_path / "directory")[0](TOKENS)
    found = load_gguf_model(file, mx.float32)(TOKENS)
    tolerance = 2e-5 if family.name == "llama3-rope" else 0.0
    assert float(mx.abs(found - expected).max()) <= tolerance


QUANTIZED = [GGMLQuantizationType[name] for name in ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")]


@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
def test_quantised_weights_are_those_that_the_file_stores(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    """A quantised file computes what a float file of the same rounded weights computes."""
    config, weights = save(LLAMA, tmp_path / "directory", hidden_size=64, intermediate_size=96)
    values = metadata(config, "llama")
    rounded = {
        name: dequantize(quantize(array, kind), kind).reshape(array.shape) if array.ndim == 2 else array
        for name, array in weights.items()
    }
    stored = load_gguf_model(write(tmp_path / "q.gguf", "llama", values, weights, kind=kind), mx.float32)
    floats = load_gguf_model(write(tmp_path / "f.gguf", "llama", values, rounded), mx.float32)
    assert mx.array_equal(stored(TOKENS), floats(TOKENS))


@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
def test_weights_that_stay_quantised(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    """In the form of mlx they compute the same, through dual caches too."""
    config, weights = save(LLAMA, tmp_path / "directory", hidden_size=64, intermediate_size=96)
    file = write(tmp_path / "q.gguf", "llama", metadata(config, "llama"), weights, kind=kind)
    packed, floats = (load_gguf_model(file, mx.float32, is_packed=is_packed) for is_packed in (True, False))
    assert mx.allclose(packed(TOKENS), floats(TOKENS), atol=1e-5)
    is_quantised = hasattr(packed.model.layers[0].self_attn.q_proj, "bits")
    assert is_quantised == (kind.name not in ("F16", "BF16"))
    model = StreamingModel(packed)
    assert check_surface(model) < 1e-2


def q4_k(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Random blocks of Q4_K, and the values that its definition gives them: d · scale · q - dmin · min, in groups of
    32, with 6 bits for each scale and min.
    """
    num_blocks = shape[0] * shape[1] // 256
    d, dmin = (rng.uniform(0.01, 0.02, (num_blocks, 1)).astype(np.float16) for _ in range(2))
    scales, mins = (rng.integers(0, 64, (num_blocks, 8), dtype=np.uint8) for _ in range(2))
    codes = rng.integers(0, 16, (num_blocks, 8, 32), dtype=np.uint8)
    packed = np.concatenate(
        [
            scales[:, :4] | (scales[:, 4:] >> 4) << 6,
            mins[:, :4] | (mins[:, 4:] >> 4) << 6,
            scales[:, 4:] & 15 | (mins[:, 4:] & 15) << 4,
        ],
        axis=1,
    )
    nibbles = (codes[:, ::2] | codes[:, 1::2] << 4).reshape(num_blocks, 128)
    blocks = np.concatenate([d.view(np.uint8), dmin.view(np.uint8), packed, nibbles], axis=1)
    values = (d.astype(np.float32) * scales)[..., None] * codes - (dmin.astype(np.float32) * mins)[..., None]
    return blocks.reshape(shape[0], -1), values.reshape(shape)


def test_k_quants(tmp_path: Path) -> None:
    """Q4_K, which most files are made of, means what its definition says, in a matrix whose rows are permuted too."""
    config, weights = save(LLAMA, tmp_path / "directory", hidden_size=256)
    blocks, exact = q4_k(np.random.default_rng(5), weights["blk.0.attn_q.weight"].shape)
    from gguf import GGUFWriter

    plain = {**weights, "blk.0.attn_q.weight": exact}
    floats = write(tmp_path / "f.gguf", "llama", metadata(config, "llama"), plain)
    original = GGUFWriter.add_tensor

    def add(self: GGUFWriter, name: str, tensor: Any, **options: Any) -> None:
        if name == "blk.0.attn_q.weight":
            tensor, options = blocks, {"raw_dtype": GGMLQuantizationType.Q4_K}
        original(self, name, tensor, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GGUFWriter, "add_tensor", add)
        stored = write(tmp_path / "q.gguf", "llama", metadata(config, "llama"), weights)
    found, expected = (load_gguf_model(file, mx.float32)(TOKENS) for file in (stored, floats))
    assert mx.allclose(found, expected, atol=1e-5)


def test_a_model_without_one_of_its_tensors(tmp_path: Path) -> None:
    """Missing and unknown tensors are named."""
    config, weights = save(LLAMA, tmp_path / "directory")
    values = metadata(config, "llama")
    fewer = {name: array for name, array in weights.items() if name != "blk.1.ffn_up.weight"}
    more = {**weights, "blk.0.ssm_in.weight": weights["blk.0.attn_q.weight"]}
    for name, listed, reason in (("less", fewer, r"layers\.1\.mlp\.up_proj"), ("more", more, "ssm_in")):
        file = write(tmp_path / f"{name}.gguf", "llama", values, listed)
        with pytest.raises(UnsupportedModel, match=rf"{name}\.gguf.*{reason}"):
            load_gguf_model(file, mx.float32)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"general.architecture": "mamba"}, r"'mamba'.*llama, qwen2"),
        ({"llama.block_count": None}, r"llama\.block_count is missing"),
        ({"llama.block_count": 0}, r"llama\.block_count is 0, expected a number above 0"),
        ({"llama.block_count": 2**31}, r"holds 2 layers, and its metadata tell of 2147483648"),
        ({"llama.context_length": "long"}, r"llama\.context_length is 'long'"),
        ({"llama.embedding_length": float("nan")}, r"llama\.embedding_length is nan"),
        ({"llama.embedding_length": 64}, "weights of a whole llama"),
        ({"llama.attention.head_count": 3}, "weights of a whole llama"),
        ({"llama.attention.head_count": 2.5}, r"head_count is 2\.5, expected a whole number"),
        ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "layer_norm_rms_epsilon is -1.0"),
        ({"llama.rope.dimension_count": [1, 2]}, "from layer to layer"),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 0.0}, r"scaling\.factor is 0"),
        ({"llama.attention.head_count_kv": [2, 1]}, "from layer to layer"),
        ({"llama.expert_count": 8}, "mixture of 8 experts"),
        ({"llama.rope.dimension_count": 4}, "4 of 8 dimensions"),
        ({"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 2.0}, "'longrope'"),
    ],
)
def test_a_model_that_cannot_be_computed(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    """It is refused by name, with what works instead."""
    config, weights = save(LLAMA, tmp_path / "directory")
    values = {**metadata(config, "llama"), **change}
    architecture = values.pop("general.architecture", "llama")
    file = write(
        tmp_path / "m.gguf", architecture, {key: value for key, value in values.items() if value is not None}, weights
    )
    with pytest.raises(UnsupportedModel, match=rf"m\.gguf.*{reason}"):
        load_gguf_model(file, mx.float32)


def test_a_gguf_file_is_a_model_like_any_other(tmp_path: Path) -> None:
    """`load` and `load_vocabulary` take its path; its card may lie beside it."""
    config, weights = save(LLAMA, tmp_path / "directory", vocab_size=400)
    values = {**metadata(config, "llama"), **tokenizer_metadata(byte_tokenizer())}
    file = str(write(tmp_path / "model.gguf", "llama", values, weights))
    model, tokenizer = loading.load(file)
    assert (model.position_offset, model.dtype) == (256, mx.float32)
    assert mx.allclose(model(TOKENS), load_model(tmp_path / "directory")[0](TOKENS), atol=1e-5)  # other kernels
    vocabulary = loading.load_vocabulary(file, tokenizer)
    assert vocabulary.eos_tokens == {tokenizer.convert_tokens_to_ids("<|im_end|>")}
    header = vocabulary.encode_special("<|im_start|>assistant\n")
    assert vocabulary.prompt(Session(target_language="fr")).target == header
    assert vocabulary.max_positions == config["max_position_embeddings"]
    (tmp_path / "model.decalage.json").write_text('{"position_offset": 7}')
    assert loading.load(file)[0].position_offset == 7


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer.ggml.merges": [1, 2]},
        {"tokenizer.ggml.pre": ["qwen2"]},
        {"tokenizer.ggml.token_type": 3},
        {"tokenizer.ggml.eos_token_id": "end"},
        {"tokenizer.chat_template": ["template"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_tokenizer_of_wrong_kinds(tmp_path: Path, change: dict[str, Any]) -> None:
    """Whatever stands where a text or a list belongs: the file is named, with the remedy."""
    config, weights = save(LLAMA, tmp_path / "directory", vocab_size=400)
    values = {**metadata(config, "llama"), **tokenizer_metadata(byte_tokenizer()), **change}
    with pytest.raises(UnsupportedModel, match=r"m\.gguf .*tokenizer"):
        loading.load_vocabulary(str(write(tmp_path / "m.gguf", "llama", values, weights)))


def test_a_sliding_window_bounds_the_positions(tmp_path: Path) -> None:
    """Gemma 3 takes as many tokens as its narrowest window."""
    config, weights = save(GEMMA3, tmp_path / "directory", vocab_size=400)
    values = {**metadata(config, "gemma3"), **extra(GEMMA3), **tokenizer_metadata(byte_tokenizer())}
    file = str(write(tmp_path / "model.gguf", "gemma3", values | {"gemma3.attention.sliding_window": 100}, weights))
    model, tokenizer = loading.load(file)
    assert model.window_tokens == loading.load_vocabulary(file, tokenizer).max_positions == 100
