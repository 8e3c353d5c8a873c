"""What a run starts from: random weights, with a tokenizer of their own or of the model they draft for, or a model.

Either way the output directory gets tokenizer, config and card at once, and the run's words are those of that
directory, which is the one that will be served.
"""

import shutil
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import msgspec
from mlx_lm.models.qwen2 import Model as Qwen2
from mlx_lm.models.qwen2 import ModelArgs
from mlx_lm.utils import dequantize_model
from msgspec.structs import replace

from worker.engine.gguf.tokenizer import load_gguf_tokenizer
from worker.engine.loading import load, load_vocabulary, model_path
from worker.engine.model import StreamingModel
from worker.engine.text.card import FILE, Card, read_card
from worker.engine.text.config import read_config
from worker.engine.text.tokenizer import Vocabulary
from worker.training import lora
from worker.training.data import clean_rows
from worker.training.errors import DataError, TrainingError
from worker.training.recipe import Recipe, Shape
from worker.training.storage import TOKENIZER_FILES, write_json
from worker.training.tokenizer import (
    END,
    PAD,
    TARGET,
    save_tokenizer,
    special_tokens,
    split_digits,
    tagged_prompt,
    train_tokenizer,
)


class Start(NamedTuple):
    """A model in fp32 that is ready to be trained, with its adapters if it gets some, and what it reads and writes."""

    model: StreamingModel
    vocabulary: Vocabulary
    card: Card


def prepare(recipe: Recipe, directory: Path) -> None:
    """The directory holds config.json, decalage.json and the tokenizer that the recipe asks for.

    Raises TrainingError where it holds a model already or LoRA has nothing to adapt, and what reading the data or the
    start model raises.
    """
    lora.check(recipe)
    taken = sorted(path.name for path in directory.glob("*.safetensors"))
    if taken:
        raise TrainingError(f"{directory} already holds {', '.join(taken)}; go on with --resume, or give another --out")
    directory.mkdir(parents=True, exist_ok=True)
    if recipe.start is not None:
        _prepare_known(recipe, directory, model_path(recipe.start))
    elif recipe.draft_of is not None:
        _prepare_draft(recipe, directory, model_path(recipe.draft_of))
    else:
        _prepare_new(recipe, directory)
    if recipe.split_digits and (recipe.start or recipe.draft_of):
        split_digits(directory)


def _prepare_new(recipe: Recipe, directory: Path) -> None:
    check_shape(recipe.shape)
    for language in recipe.languages:
        if not (language.isascii() and language.isalpha() and len(language) in (2, 3)):
            raise DataError(f"a language tag has two or three letters, such as fr, got {language!r}")
    rows = chain.from_iterable(
        clean_rows(file, recipe.keys, recipe.cleaning, share=min(1.0, file.weight), seed=f"{recipe.seed} tokenizer {i}")
        for i, file in enumerate(recipe.train)
    )
    tokenizer = train_tokenizer(rows, recipe.languages, recipe.shape.vocabulary)
    save_tokenizer(tokenizer, recipe.languages, directory, recipe.shape.max_positions)
    write_json(directory / "config.json", _config(recipe, tokenizer.get_vocab_size()))
    card = Card(
        position_offset=recipe.position_offset or 0,
        trained=True,
        prompt=tagged_prompt(recipe.languages),
        source_language=recipe.source_language,
        straight_quotes=True,
        wait_k=_waits(recipe),
    )
    write_json(directory / FILE, msgspec.to_builtins(card))


def _prepare_draft(recipe: Recipe, directory: Path, path: Path) -> None:
    """What drafts for another model has its prompts and its token ids; all else is its own."""
    check_shape(recipe.shape)
    other = read_config(path)
    size = other.get("vocab_size", other.get("text_config", {}).get("vocab_size"))
    if not isinstance(size, int):
        raise TrainingError(f"{path}/config.json has no vocab_size, the number of tokens that a draft model must share")
    ids = {name: value for name, value in other.items() if name.endswith("_token_id")}
    config = {**architecture(recipe.shape, size), "torch_dtype": "bfloat16", **ids}
    write_json(directory / "config.json", config)
    _write_card(read_card(path), recipe, directory, position_offset=recipe.position_offset or 0)
    _copy_tokenizer(path, directory)


def check_shape(shape: Shape) -> None:
    """Raises TrainingError for heads that rotary positions cannot turn."""
    if shape.hidden % (2 * shape.heads):
        raise TrainingError(
            f"--hidden must be a multiple of twice --heads, so that every head has an even size; got {shape.hidden} "
            f"and {shape.heads}"
        )
    if shape.heads % (shape.kv_heads or shape.heads):
        raise TrainingError(
            f"--heads must be a multiple of --kv-heads, so that each of these serves equally many; got {shape.heads} "
            f"and {shape.kv_heads}"
        )


def _config(recipe: Recipe, vocabulary_size: int) -> dict[str, Any]:
    ids = {token: i for i, token in enumerate(special_tokens(recipe.languages))}
    return {
        **architecture(recipe.shape, vocabulary_size),
        "torch_dtype": "bfloat16",
        "eos_token_id": ids[END],
        "bos_token_id": ids[TARGET],
        "pad_token_id": ids[PAD],
    }


def architecture(shape: Shape, vocabulary_size: int) -> dict[str, Any]:
    """The config of a model of this shape that is trained from scratch, as far as it tells how the model computes."""
    return {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.mlp,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads or shape.heads,
        "rms_norm_eps": 1e-6,
        "vocab_size": vocabulary_size,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": True,
        "max_position_embeddings": shape.max_positions,
    }


def _prepare_known(recipe: Recipe, directory: Path, path: Path) -> None:
    card = read_card(path)
    config = {name: value for name, value in read_config(path).items() if not name.startswith("quantization")}
    write_json(directory / "config.json", {**config, "torch_dtype": "bfloat16"})
    offset = card.position_offset if recipe.position_offset is None else recipe.position_offset
    _write_card(card, recipe, directory, position_offset=offset)
    _copy_tokenizer(path, directory)


def _write_card(card: Card, recipe: Recipe, directory: Path, *, position_offset: int) -> None:
    # What was measured, the policy that suits and the heads that align are those of other weights.
    trained = replace(
        card,
        position_offset=position_offset,
        trained=True,
        wait_k=_waits(recipe),
        policy=None,
        measured="",
        alignment_heads=(),
    )
    write_json(directory / FILE, msgspec.to_builtins(trained))


def _copy_tokenizer(path: Path, directory: Path) -> None:
    if path.is_file():  # a GGUF file, which has it within
        load_gguf_tokenizer(path).save_pretrained(directory)
        return
    for name in TOKENIZER_FILES:
        if (path / name).exists():
            shutil.copyfile(path / name, directory / name)


def _waits(recipe: Recipe) -> tuple[int, ...]:
    return tuple(sorted({wait_k for wait_k in recipe.wait_k if wait_k is not None}))


def open_start(recipe: Recipe, directory: Path) -> Start:
    """The model of a prepared directory, with the weights that the recipe starts from."""
    card = read_card(directory)
    vocabulary = load_vocabulary(str(directory))
    if recipe.start is not None:
        # Beside adapters nothing of the model changes, so it stays as small as it is served: quantised, or in bf16.
        is_frozen = recipe.lora is not None
        model, _ = load(recipe.start, position_offset=card.position_offset, dtype=None if is_frozen else mx.float32)
        if not is_frozen and "quantization" in read_config(model_path(recipe.start)):
            dequantize_model(model.inner)
            model.inner.set_dtype(mx.float32)
        lora.adapt(model.inner, recipe)
        return Start(model, vocabulary, card)
    model = random_model(read_config(directory), seed=recipe.seed, position_offset=card.position_offset)
    return Start(model, vocabulary, card)


def random_model(config: Mapping[str, Any], *, seed: int, position_offset: int = 0) -> StreamingModel:
    """A model of random weights, the same ones for a seed; `config` has at least what `architecture` gives."""
    mx.random.seed(seed)
    inner = Qwen2(ModelArgs.from_dict(config))
    mx.eval(inner.parameters())
    return StreamingModel(inner, position_offset=position_offset)
