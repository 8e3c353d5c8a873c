"""From a tokenizer, mlx-lm's or transformers', to the vocabulary and the prompts of its model."""

from pathlib import Path
from typing import Any

from mlx_lm.tokenizer_utils import TokenizerWrapper

from worker.core.rows import Refused
from worker.engine.errors import ModelNotFound, UnsupportedPrompt
from worker.engine.loading import load_vocabulary, model_path
from worker.engine.text.card import Card, read_card
from worker.engine.text.tokenizer import Vocabulary

_ATTRIBUTE = "_decalage_vocabulary"


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """The vocabulary of the model that a tokenizer came from, built once for each tokenizer.

    `tokenizer` is mlx-lm's TokenizerWrapper or a fast transformers tokenizer; its `name_or_path` leads to the model's
    card. A model with a prompt of its own is tokenised by its tokenizer.json as it stands. Raises TypeError for
    anything else.
    """
    inner = tokenizer._tokenizer if isinstance(tokenizer, TokenizerWrapper) else tokenizer
    if not hasattr(inner, "backend_tokenizer"):
        raise TypeError(
            f"expected mlx-lm's TokenizerWrapper or a fast transformers tokenizer, got {type(tokenizer).__name__}; "
            "use the one that load() gives"
        )
    # Kept on the tokenizer itself: a table beside it would hold both alive for ever.
    known = vars(inner).get(_ATTRIBUTE)
    if not isinstance(known, Vocabulary):
        known = _build(tokenizer, str(getattr(inner, "name_or_path", "") or ""))
        setattr(inner, _ATTRIBUTE, known)
    return known


def _build(tokenizer: Any, name_or_path: str) -> Vocabulary:
    if not isinstance(tokenizer, TokenizerWrapper):
        tokenizer = TokenizerWrapper(tokenizer)  # which knows several end tokens, and each template's own switches
    path = _directory(name_or_path)
    if path is None:
        return Vocabulary(tokenizer, Card())
    is_tagged = read_card(path).prompt is not None
    # transformers' automatic classes replace the pre-tokenizer of some models: numbers would come out differently.
    return load_vocabulary(str(path), None if is_tagged else tokenizer)


def _directory(name_or_path: str) -> Path | None:
    # None for a tokenizer that comes from no model directory: it is a stock model's then.
    if not name_or_path:
        return None
    try:
        path = model_path(name_or_path)
    except ModelNotFound:
        return None
    return path if path.is_file() or (path / "config.json").exists() else None


def unsupported(refused: Refused) -> UnsupportedPrompt:
    """The library's error for what the core refuses."""
    return UnsupportedPrompt(str(refused))
