"""A run that starts from a GGUF file."""

from pathlib import Path

import mlx.core as mx

from tests.worker.engine import tiny
from tests.worker.engine.gguf.writing import TEXTS, Family, byte_tokenizer, metadata, tensors, tokenizer_metadata, write
from tests.worker.training.corpus import recipe
from worker.engine.loading import load, load_vocabulary
from worker.training.recipe import Lora
from worker.training.start import open_start, prepare


def test_the_directory_of_the_run_has_config_and_tokenizer(tmp_path: Path) -> None:
    """Taken out of the file: same logits, same tokens, same prompt, and the text that ends a turn."""
    model = tiny.build("llama", vocab_size=400)
    values = {**metadata(tiny.config("llama"), "llama"), **tokenizer_metadata(byte_tokenizer())}
    file = str(write(tmp_path / "m.gguf", "llama", values, tensors(model, Family("llama", "llama", is_paired=True))))
    plan = recipe(tmp_path, start=file, lora=Lora(2))
    prepare(plan, tmp_path / "out")
    found, expected = load_vocabulary(str(tmp_path / "out")), load_vocabulary(file)
    for text in TEXTS:
        assert found.encode_special(text) == expected.encode_special(text)
    assert found.eos_tokens == expected.eos_tokens
    assert found.prompts.split("Hello", "fr") == expected.prompts.split("Hello", "fr")
    tokens = mx.array([[3, 5, 300]])
    assert mx.array_equal(open_start(plan, tmp_path / "out").model(tokens), load(file)[0](tokens))
