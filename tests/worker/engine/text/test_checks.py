"""A tokenizer is tried out before it is trusted."""

from pathlib import Path

import pytest
from tokenizers import AddedToken, normalizers

from tests.worker.engine.conftest import chat_tokenizer
from tests.worker.engine.tiny import save
from worker.engine import loading
from worker.engine.errors import UnsupportedModel
from worker.engine.text.checks import check_tokenizer

PATH = Path("some/model")


def test_a_tokenizer_that_fits() -> None:
    """As many rows as tokens or more; special tokens may be beyond, as those for pictures in a model of text are."""
    tokenizer = chat_tokenizer()
    for num_embeddings in (256, 258, 1000):
        check_tokenizer(tokenizer, num_embeddings, PATH)
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken("<image>", special=True)])
    check_tokenizer(tokenizer, 258, PATH)


def test_a_tokenizer_larger_than_the_embedding(tmp_path: Path) -> None:
    """Its words would be read from beyond the end: refused when it is loaded, with both sizes."""
    with pytest.raises(UnsupportedModel, match=r"some/model has 256 tokens and its model embeds 255"):
        check_tokenizer(chat_tokenizer(), 255, PATH)
    save("llama", tmp_path)
    chat_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="256 tokens and its model embeds 64"):
        loading.load(str(tmp_path))


def test_a_tokenizer_that_does_not_round_trip() -> None:
    """It loses case, or letters: what it makes of a text is shown."""
    for normalizer in (normalizers.Lowercase(), normalizers.Replace("o", "0")):
        tokenizer = chat_tokenizer()
        tokenizer.backend_tokenizer.normalizer = normalizer
        with pytest.raises(UnsupportedModel, match=r"some/model does not give a text back: 'Two dogs.*becomes '[tT]w"):
            check_tokenizer(tokenizer, 258, PATH)
