"""A check that a tokenizer fits its model and gives back the text that it encodes."""

from pathlib import Path
from typing import Any

from worker.engine.errors import UnsupportedModel

_TEXT = "Two dogs, 15 cats and a small House."


def check_tokenizer(tokenizer: Any, num_embeddings: int, path: Path) -> None:
    """Raise UnsupportedModel for a tokenizer that has other tokens than the model, or does not give a text back.

    `tokenizer` is mlx-lm's TokenizerWrapper or a fast transformers tokenizer; `path` is the model's, for the message.
    Special tokens beyond the embedding are allowed: some text models have them for pictures.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedModel(
            f"the tokenizer of {path} has no fast form; expected a tokenizer.json, which `transformers` can write"
        )
    largest = max(backend.get_vocab(with_added_tokens=False).values(), default=-1)
    if largest >= num_embeddings:
        raise UnsupportedModel(
            f"the tokenizer of {path} has {largest + 1} tokens and its model embeds {num_embeddings}; they belong to "
            "different models: take both from the same place"
        )
    decoded = backend.decode(backend.encode(_TEXT, add_special_tokens=False).ids)
    if decoded.strip() != _TEXT:
        raise UnsupportedModel(
            f"the tokenizer of {path} does not give a text back: {_TEXT!r} becomes {decoded!r}; take the tokenizer "
            "files from where the weights come from"
        )
