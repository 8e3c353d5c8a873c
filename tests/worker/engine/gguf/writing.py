"""GGUF files of tiny models, written with the gguf package as llama.cpp's converter would: its names, and its order of
rows.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFEndian, GGUFWriter, get_tensor_name_map
from gguf.quants import quantize
from mlx.utils import tree_flatten
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.worker.engine.conftest import TEMPLATE

Weights = dict[str, np.ndarray[Any, Any]]
TEXTS = (
    "The quick brown fox jumps over 13 lazy dogs; it's 2024, isn't it? We'LL see: 1234567 + 0.5 = …\n",
    "L'été dernier, à Noël, où l’œuvre naïve coûtait 99,90 €. Ça va ?\n\n\tÜberraschung größer als ẞ!",
    "Съешь ещё этих мягких французских булок, да выпей чаю. Η γρήγορη αλεπού. שלום עולם! مرحبا بالعالم",
    "我能吞下玻璃而不伤身体。吾輩は猫である。名前はまだ無い。안녕하세요 세계. สวัสดีชาวโลก नमस्ते दुनिया ١٢٣ १२३",
    "  two  spaces   three\r\nwindows line\r\n\r\n    indented(code)[i] == {\"a\": 'b'};  // ok ",
    "Cafe\u0301 na\u00efve \U0001f469\u200d\U0001f680\U0001f600 \u00a0nbsp\u3000wide ЁЖиК camelCaseHTMLPage ǅ ʰ ª",
    "",
    " ",
    "\n",
    "a",
    " a",
    "  a",
    "\t\t",
    "'S 'Ll 're",
    "x" * 40,
    "!!!???\n\n...",
    "e\u0301\u0301",
)
F32 = GGMLQuantizationType.F32


class Family(NamedTuple):
    """A kind of model: its name in `tiny`, and in llama.cpp; whether its norms are stored with 1 added, and its
    queries and keys with the rows that are rotated together side by side.
    """

    name: str
    architecture: str
    is_shifted: bool = False
    is_paired: bool = False
    changes: Mapping[str, Any] = {}  # to the config of `tiny`


def randomize(model: nn.Module) -> None:
    """Give a model's norms and biases different values, so that a swap shows."""
    key = mx.random.key(3)
    for index, (name, array) in enumerate(tree_flatten(model.parameters())):
        if array.ndim == 1:
            noise = 0.2 * mx.random.normal(array.shape, key=mx.random.split(key, index + 1)[index])
            model.load_weights([(name, array + noise)], strict=False)


def tensors(model: nn.Module, family: Family) -> Weights:
    """Return the weights of an mlx-lm model under llama.cpp's names, float32."""
    architecture = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == family.architecture)
    names = get_tensor_name_map(architecture, len(model.layers))
    heads = {"q_proj": model.args.num_attention_heads, "k_proj": model.args.num_key_value_heads}
    found = {}
    for name, array in tree_flatten(model.parameters()):
        values = np.array(array.astype(mx.float32))
        part = name.split(".")[-2]
        if family.is_paired and part in heads:
            rows = values.reshape(heads[part], 2, -1, *values.shape[1:])
            values = rows.swapaxes(1, 2).reshape(values.shape)
        if family.is_shifted and part.endswith("norm"):
            values = values + 1
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert known is not None, name
        found[known] = values
    return found


def metadata(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """Return the metadata that llama.cpp's converter writes for a model with this config."""
    head_dim = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    plain = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": head_dim,
        "rope.dimension_count": head_dim,
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.freq_base": float(config["rope_theta"]),
    }
    return {f"{architecture}.{key}": value for key, value in plain.items()}


def byte_tokenizer(size: int = 400) -> PreTrainedTokenizerFast:
    """Train a byte-level chat tokenizer of `size` tokens on `TEXTS`, without any pre-tokenization.

    Merges cross words, digits and lines, so that the cuts of another tokenizer show.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2, initial_alphabet=alphabet, max_token_length=6, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", chat_template=TEMPLATE)


def tokenizer_metadata(tokenizer: PreTrainedTokenizerFast, pre: str = "gpt-2") -> dict[str, Any]:
    """Return the metadata that llama.cpp's converter writes for a byte-level tokenizer."""
    backend = tokenizer.backend_tokenizer
    by_id = sorted((number, token) for token, number in backend.get_vocab().items())
    added = backend.get_added_tokens_decoder()
    merges = json.loads(backend.to_str())["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [token for _, token in by_id],
        "tokenizer.ggml.token_type": [(3 if added[i].special else 4) if i in added else 1 for i, _ in by_id],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.chat_template": tokenizer.chat_template,
    }


def write(
    path: Path,
    architecture: str,
    values: Mapping[str, Any],
    weights: Mapping[str, np.ndarray[Any, Any]],
    *,
    kind: GGMLQuantizationType = F32,
    big_endian: bool = False,
) -> Path:
    """Write a GGUF file with this metadata and these weights; store matrices as `kind` where their rows allow it."""
    writer = GGUFWriter(path, architecture, endianess=GGUFEndian.BIG if big_endian else GGUFEndian.LITTLE)
    for key, value in values.items():
        if isinstance(value, list) and not value:
            continue  # as the writer has no type for it
        known: dict[type, Any]
        known = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        known.get(type(value), writer.add_array)(key, value)
    for name, array in weights.items():
        if array.ndim == 2 and kind != F32:
            writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
