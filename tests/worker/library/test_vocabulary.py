"""Tokenizers of either library, and the model they came from."""

from pathlib import Path
from typing import Any

from mlx_lm.tokenizer_utils import TokenizerWrapper
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from worker.engine.loading import model_path
from worker.engine.text.tokenizer import Vocabulary
from worker.library.vocabulary import vocabulary_of


def test_a_vocabulary_is_built_once_for_each_tokenizer(tokenizer: TokenizerWrapper, vocabulary: Vocabulary) -> None:
    """The wrapper and the tokenizer inside share it."""
    assert vocabulary_of(tokenizer) is vocabulary
    assert vocabulary_of(tokenizer._tokenizer) is vocabulary


def test_a_plain_tokenizer_of_a_chat_model(stock_path: Path, stock: tuple[Any, TokenizerWrapper]) -> None:
    """transformers' own class gives the prompts and the end tokens that mlx-lm's wrapper gives."""
    plain = vocabulary_of(AutoTokenizer.from_pretrained(stock_path))
    wrapped = vocabulary_of(stock[1])
    assert plain.eos_tokens == wrapped.eos_tokens == frozenset({2})
    assert plain.encode_word("Hello", "") == wrapped.encode_word("Hello", "")


def test_a_tokenizer_from_nowhere_is_a_stock_models(tmp_path: Path) -> None:
    """Without a path, with one that is gone, or without a model beside it, there is no card."""
    file = str(model_path() / "tokenizer.json")
    PreTrainedTokenizerFast(tokenizer_file=file, eos_token="</s>").save_pretrained(tmp_path / "bare")
    for tokenizer in (
        PreTrainedTokenizerFast(tokenizer_file=file, eos_token="</s>"),
        PreTrainedTokenizerFast(tokenizer_file=file, eos_token="</s>", name_or_path="./gone"),
        AutoTokenizer.from_pretrained(tmp_path / "bare"),
    ):
        assert vocabulary_of(tokenizer).card.prompt is None
