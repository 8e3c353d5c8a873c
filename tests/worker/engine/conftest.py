"""A chat tokenizer made on the spot: bytes, and the special tokens of a chat template."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from worker.engine.text.card import Card
from worker.engine.text.tokenizer import Vocabulary

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_tokenizer(template: str | None = TEMPLATE, starts: str = "") -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token for each byte and for each of `starts` behind a space, then `<|im_start|>` and
    `<|im_end|>`.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate([*alphabet, *(f"Ġ{char}" for char in starts)])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[("Ġ", char) for char in starts]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def chat() -> Vocabulary:
    """The words and tokens of a stock chat model, φ = 256, 2,048 positions."""
    return Vocabulary(chat_tokenizer(), Card(), max_positions=2048)
