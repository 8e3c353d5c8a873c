"""Tiny chat models on disk, with a tokenizer of bytes and random weights, so that their output is noise."""

from pathlib import Path

import pytest

from tests.worker.engine import tiny
from tests.worker.engine.conftest import chat_tokenizer


def save(folder: Path, family: str, template: str | None = None, **sizes: int) -> str:
    """Save a model and return the path of its directory; without a template, it is a model for plain text."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, size in {"vocab_size": 264, **sizes}.items():
            patch.setitem(tiny.SIZES, name, size)
        tiny.save(family, folder)
    tokenizer = chat_tokenizer() if template is None else chat_tokenizer(template or None)
    tokenizer.save_pretrained(folder)
    return str(folder)
