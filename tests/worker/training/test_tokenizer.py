"""The tokenizer that a model from scratch gets."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.worker.training.corpus import ROWS
from worker.engine.loading import model_path
from worker.training.augmentation import WordPair
from worker.training.errors import DataError
from worker.training.tokenizer import save_tokenizer, special_tokens, split_digits, train_tokenizer

WORDS: list[WordPair] = [(tuple(source.split()), tuple(target.split())) for source, target in ROWS]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """300 tokens from the toy rows."""
    return train_tokenizer(WORDS, ["fr", "de"], 300)


def test_any_text_survives(tokenizer: Tokenizer) -> None:
    """All bytes have tokens, so that every script and emoji comes back, with the space before a word."""
    text = " naïve 日本 🙂 apples."
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.get_vocab_size() == 300


def test_special_tokens_come_first(tokenizer: Tokenizer) -> None:
    """Padding is 0, the languages follow, then end and start of the target."""
    assert [tokenizer.token_to_id(token) for token in special_tokens(["fr", "de"])] == [0, 1, 2, 3, 4]


def test_it_is_saved_like_the_shipped_one(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Both files have the shipped model's settings, other than the tokens themselves."""
    save_tokenizer(tokenizer, ["fr", "de"], tmp_path, 512)
    shipped = model_path("starter")
    ours, theirs = (json.loads((path / "tokenizer_config.json").read_text()) for path in (tmp_path, shipped))
    assert ours == theirs
    ours, theirs = (json.loads((path / "tokenizer.json").read_text()) for path in (tmp_path, shipped))
    assert ours["added_tokens"] == theirs["added_tokens"]
    digits, ours_last = ours["pre_tokenizer"]["pretokenizers"]
    assert digits == {"type": "Digits", "individual_digits": True}
    assert ours_last == theirs["pre_tokenizer"].get("pretokenizers", [theirs["pre_tokenizer"]])[-1]


def test_a_vocabulary_needs_room_for_all_bytes() -> None:
    """The smallest size is named."""
    with pytest.raises(DataError, match=r"at least 260 tokens.*got 100"):
        train_tokenizer(WORDS, ["fr"], 100)


def test_digits_are_split_in_a_tokenizer_that_is_there(tmp_path: Path) -> None:
    """Every digit is a token afterwards, all tokens keep their ids, and text without digits its tokens."""
    old = Tokenizer.from_file(str(model_path("starter") / "tokenizer.json"))
    old.save(str(tmp_path / "tokenizer.json"))
    split_digits(tmp_path)
    new = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert new.get_vocab() == old.get_vocab()
    text = " We see the boats, and https://a.example/x."
    assert new.encode(text).ids == old.encode(text).ids
    assert new.encode(" 1,204.5").tokens == ["Ġ", "1", ",", "2", "0", "4", ".", "5"]
    assert new.decode(new.encode(" 1,204.5").ids) == " 1,204.5"
