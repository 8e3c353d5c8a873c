"""The vocabulary and the prompts that belong to a tokenizer of mlx-lm or transformers."""

from pathlib import Path
from threading import Lock
from typing import Any

from mlx_lm.tokenizer_utils import TokenizerWrapper

from worker.core.rows import Refused
from worker.engine.errors import ModelNotFound, UnsupportedPrompt
from worker.engine.loading import load_vocabulary, model_path
from worker.engine.text.card import Card, read_card
from worker.engine.text.tokenizer import Vocabulary

_ATTRIBUTE = "_decalage_vocabulary"
_lock = Lock()  # threads that ask at once get the same one


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """Return the vocabulary of a tokenizer's model, built once for each tokenizer.

    `tokenizer` is mlx-lm's TokenizerWrapper or a fast transformers tokenizer; its `name_or_path` leads to the model's
    card. For a model with its own prompt, the unchanged tokenizer.json is used. Raises TypeError for anything else.
    """
    inner = tokenizer._tokenizer if isinstance(tokenizer, TokenizerWrapper) else tokenizer
    if not hasattr(inner, "backend_tokenizer"):
        raise TypeError(
            f"expected mlx-lm's TokenizerWrapper or a fast transformers tokenizer, got {type(tokenizer).__name__}; "
            "use the one that load() gives"
        )
    with _lock:
        # The tokenizer itself holds it: a table beside it would keep both alive for ever.
        vocabulary = vars(inner).get(_ATTRIBUTE)
        if not isinstance(vocabulary, Vocabulary):
            vocabulary = _build(tokenizer, str(getattr(inner, "name_or_path", "") or ""))
            setattr(inner, _ATTRIBUTE, vocabulary)
        return vocabulary


def _build(tokenizer: Any, name_or_path: str) -> Vocabulary:
    if not isinstance(tokenizer, TokenizerWrapper):
        tokenizer = TokenizerWrapper(tokenizer)  # adds several end tokens, and the switches of each template
    path = _directory(name_or_path)
    if path is None:
        return Vocabulary(tokenizer, Card())
    is_tagged = read_card(path).prompt is not None
    # transformers' automatic classes replace the pre-tokenizer of some models, which would split numbers differently.
    return load_vocabulary(str(path), None if is_tagged else tokenizer)


def _directory(name_or_path: str) -> Path | None:
    # None for a tokenizer without a model directory: it belongs to a stock model.
    if not name_or_path:
        return None
    try:
        path = model_path(name_or_path)
    except ModelNotFound:
        return None
    return path if path.is_file() or (path / "config.json").exists() else None


def unsupported(refused: Refused) -> UnsupportedPrompt:
    """Return the library's error for a refusal of the core."""
    return UnsupportedPrompt(str(refused))
