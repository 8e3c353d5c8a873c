"""A tokenizer of the model's own: byte-level BPE with the special tokens of a tagged prompt."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from worker.engine.text.card import TaggedPrompt
from worker.training.data import WordPair
from worker.training.errors import DataError

PAD, END, TARGET = "<pad>", "</s>", "<t>"
NUM_BYTES = 256
_CURLED = str.maketrans("\u2019\u2018\u02bc", "'''")


def tagged_prompt(languages: Sequence[str]) -> TaggedPrompt:
    """The prompt of a model that translates into these languages.

    >>> tagged_prompt(["fr"]).source
    {'fr': '<2fr>'}
    """
    return TaggedPrompt(source={language: f"<2{language}>" for language in languages}, end=END, target=TARGET)


def special_tokens(languages: Sequence[str]) -> list[str]:
    """The special tokens in the order of their ids, from 0: padding, one for each language, end, start of the target.

    >>> special_tokens(["fr", "de"])
    ['<pad>', '<2fr>', '<2de>', '</s>', '<t>']
    """
    return [PAD, *tagged_prompt(languages).source.values(), END, TARGET]


def train_tokenizer(rows: Iterable[WordPair], languages: Sequence[str], vocabulary_size: int) -> Tokenizer:
    """A byte-level BPE of at most `vocabulary_size` tokens, learned from both sides of the rows.

    Apostrophes are straightened first, as the served vocabulary does. Raises DataError for a size with no room for all
    bytes and special tokens.
    """
    specials = special_tokens(languages)
    if vocabulary_size < NUM_BYTES + len(specials):
        raise DataError(
            f"a vocabulary needs at least {NUM_BYTES + len(specials)} tokens, for all bytes and {len(specials)} "
            f"special tokens, got {vocabulary_size}"
        )
    tokenizer = Tokenizer(models.BPE())
    # Words come with their leading space, and keep it: no space is put before the text.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(("".join(f" {word}" for word in side) for side in _sides(rows)), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, languages: Sequence[str], path: Path, max_positions: int) -> None:
    """The directory holds tokenizer.json and tokenizer_config.json."""
    tokenizer.save(str(path / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "bos_token": TARGET,
        "pad_token": PAD,
        "additional_special_tokens": list(tagged_prompt(languages).source.values()),
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_positions,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _sides(rows: Iterable[WordPair]) -> Iterable[list[str]]:
    for row in rows:
        for side in row:
            yield [word.translate(_CURLED) for word in side]
