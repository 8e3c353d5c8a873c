"""Loading a model and its tokenizer from a path, a shipped name or a hub id.

A path is a directory that mlx-lm can load, or a GGUF file.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import dequantize_model, load_config, load_model, load_tokenizer
from transformers import PreTrainedTokenizerFast

from worker.engine.adapters.compatibility import check_surface
from worker.engine.errors import ModelNotFound, UnsupportedModel
from worker.engine.files import check_tokenizer_files, check_weights
from worker.engine.gguf.reader import SUFFIX
from worker.engine.gguf.tokenizer import load_gguf_tokenizer
from worker.engine.gguf.weights import load_gguf_model
from worker.engine.head_attention import head_attention
from worker.engine.hub import hub_model
from worker.engine.model import StreamingModel
from worker.engine.text.card import Card, read_card
from worker.engine.text.checks import check_tokenizer
from worker.engine.text.config import read_config, read_max_positions
from worker.engine.text.tokenizer import Vocabulary

DEFAULT_MODEL = "starter"
_SHIPPED = Path(__file__).parent.parent / "models"
_MAX_REASON_CHARS = 300


def model_path(path_or_repo: str = DEFAULT_MODEL) -> Path:
    """Find the directory or GGUF file of a model: a path, a shipped name, or a hub id, which may mean a download.

    Raises ModelNotFound.
    """
    shipped = _SHIPPED / path_or_repo
    if path_or_repo in _shipped_names():
        return shipped
    local = Path(path_or_repo).expanduser()
    if local.exists():
        return local
    if path_or_repo.count("/") != 1 or path_or_repo.startswith((".", "/", "~")) or path_or_repo.endswith(SUFFIX):
        raise ModelNotFound(
            f"no model directory or GGUF file {path_or_repo!r}; expected a path, a hub id such as 'owner/name', or one "
            f"of the shipped models: {', '.join(_shipped_names())}"
        )
    return hub_model(path_or_repo)


def _shipped_names() -> list[str]:
    return sorted(path.name for path in _SHIPPED.iterdir() if (path / "config.json").exists())


def load(
    path_or_repo: str = DEFAULT_MODEL, *, position_offset: int | None = None, dtype: mx.Dtype | None = None
) -> tuple[StreamingModel, TokenizerWrapper]:
    """Load a model for use with dual caches, and mlx-lm's wrapper of its tokenizer.

    `position_offset` replaces the φ of the model's card. A CPU computes everything in fp32, because other types never
    reach its BLAS. Elsewhere the type is `dtype` or else that of the weights: bf16 for a GGUF file, whose quantised
    weights stay quantised on Metal unless `dtype` is given. Raises ModelNotFound, UnsupportedModel.
    """
    path = model_path(path_or_repo)
    card = read_card(path)
    max_positions = read_max_positions(path)
    offset = card.position_offset if position_offset is None else position_offset
    if offset < 0:
        raise ValueError(f"position_offset is the position of the first target token, 0 or more, got {offset}")
    inner = _weights(path, dtype)
    model = StreamingModel(inner, position_offset=offset, name=path_or_repo)
    _check_window(model, max_positions, path)
    check_surface(model)
    _set_alignment_heads(model, card)
    tokenizer = _tokenizer(path, card)
    check_tokenizer(tokenizer, int(model(mx.array([[0]])).shape[-1]), path)
    return model, tokenizer


def load_vocabulary(path_or_repo: str = DEFAULT_MODEL, tokenizer: Any = None) -> Vocabulary:
    """Load the vocabulary of a model, without its weights. Raises UnsupportedModel, also for its prompt."""
    path = model_path(path_or_repo)
    card = read_card(path)
    tokenizer = _tokenizer(path, card) if tokenizer is None else tokenizer
    try:
        return Vocabulary(tokenizer, card, max_positions=read_max_positions(path))
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from error


def _check_window(model: StreamingModel, max_positions: int, path: Path) -> None:
    if model.window_tokens is not None and model.window_tokens < max_positions:
        raise UnsupportedModel(
            f"{path} has sliding windows of {model.window_tokens} tokens, of which its config does not tell: take it "
            "from the model's page, with sliding_window, and sliding_window_pattern or layer_types"
        )


def _set_alignment_heads(model: StreamingModel, card: Card) -> None:
    if not card.alignment_heads:
        return
    known = head_attention(model, (0,), (0,), num_queries=1, words=slice(0, 1), is_contiguous=False).heads
    if unknown := sorted({*card.alignment_heads} - {*known}):
        raise UnsupportedModel(
            f"the card of {model.name} names {unknown[0]} among its alignment heads, expected a layer and a head up to "
            f"{known[-1]}; run `decalage calibrate` again"
        )
    model.alignment_heads = card.alignment_heads


def _weights(path: Path, dtype: mx.Dtype | None) -> nn.Module:
    is_on_cpu = mx.default_device().type == mx.DeviceType.cpu
    if is_on_cpu:
        dtype = dtype or mx.float32
    if path.is_file():
        # Quantised weights stay quantised on Metal only: mlx has fast kernels for them there, and none for a CPU.
        return load_gguf_model(path, dtype or mx.bfloat16, is_packed=dtype is None and mx.metal.is_available())
    model = _from_directory(path)
    if is_on_cpu:
        model = dequantize_model(model)
    if dtype is not None:
        model.set_dtype(dtype)
    mx.eval(model.parameters())
    return model


def _from_directory(path: Path) -> nn.Module:
    if "model_type" not in read_config(path):
        raise UnsupportedModel(f"{path}/config.json names no model_type; expected one, such as 'qwen2' or 'llama'")
    check_weights(path)
    try:
        return load_model(path)[0]
    except Exception as error:  # whatever a model's file of arguments and weights may lead to
        raise UnsupportedModel(
            f"mlx-lm cannot load {path}: {_reason(error)}; download its files again, or use another model"
        ) from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or "the numbers in its config.json do not fit each other"  # a bare assert
    kind = "" if isinstance(error, (ValueError, RuntimeError, OSError)) and str(error) else f"{type(error).__name__}: "
    return kind + (text if len(text) <= _MAX_REASON_CHARS else f"{text[:_MAX_REASON_CHARS]}…")


def _end_tokens(found: object) -> Any:
    ids = found if isinstance(found, list) else [found]
    if not all(token is None or type(token) is int for token in ids):
        raise ValueError(
            f"expected the id of a token, or a list of ids, as eos_token_id in config.json or generation_config.json, "
            f"got {found!r}"
        )
    return found


def _tokenizer(path: Path, card: Card) -> TokenizerWrapper:
    try:
        if path.is_file():
            return load_gguf_tokenizer(path)
        check_tokenizer_files(path)
        if card.prompt is None:
            # A chat model's turn may end with another token than the tokenizer's: its config names it.
            return load_tokenizer(path, eos_token_ids=_end_tokens(load_config(path).get("eos_token_id")))
        # Keep the file's own: the automatic class would replace the pre-tokenizer of a Qwen2 model and split numbers
        # differently.
        return TokenizerWrapper(PreTrainedTokenizerFast.from_pretrained(path))
    except UnsupportedModel:
        raise
    except Exception as error:  # whatever the files of a tokenizer and a config may lead to
        raise UnsupportedModel(
            f"{path} holds no usable tokenizer: {_reason(error)}; take its files and config.json from where "
            "the weights come from"
        ) from error
