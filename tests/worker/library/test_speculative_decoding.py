"""MLX ParaLLM's names: its document's own example, and answers that no draft changes."""

import asyncio
import textwrap
from pathlib import Path
from typing import Any

import pytest
from mlx_lm import generate
from mlx_lm.utils import load as load_plain

from tests.worker.library import chat
from worker import SpeculativeConfig, SpeculativeDecodingEngine, load
from worker.engine.errors import UnsupportedModel

EXAMPLE = """
    # Speculative decoding
    config = SpeculativeConfig(
        draft_model_path="path/to/draft",
        target_model_path="path/to/target",
        max_draft_tokens=5
    )
    engine = SpeculativeDecodingEngine(config)
    result = engine.generate("Your prompt", max_tokens=100)

    # Continuous batching
    batch_config = BatchConfig(max_batch_size=8, timeout_ms=50)
    batch_engine = AsyncContinuousBatchingEngine(model, tokenizer, batch_config)
    results = await batch_engine.generate_batch(prompts)
"""


@pytest.fixture(scope="module")
def tiny_target(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny chat model."""
    return chat.save(tmp_path_factory.mktemp("models") / "target", "llama")


@pytest.fixture(scope="module")
def tiny_draft(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tinier one with the same tokenizer."""
    return chat.save(tmp_path_factory.mktemp("models") / "draft", "llama", num_hidden_layers=1)


def follow(draft: str, target: str, prompts: list[str]) -> tuple[Any, list[Any]]:
    """What the document's example leaves in `result` and `results`, with these models; only its imports differ."""
    lines = [
        "from worker import AsyncContinuousBatchingEngine, BatchConfig, SpeculativeConfig, SpeculativeDecodingEngine",
        "async def example(model, tokenizer, prompts):",
        textwrap.indent(textwrap.dedent(EXAMPLE), "    "),
        "    return result, results",
    ]
    program = "\n".join(lines).replace("path/to/draft", draft).replace("path/to/target", target)
    names: dict[str, Any] = {}
    exec(program, names)
    model, tokenizer = load(target)
    found: tuple[Any, list[Any]] = asyncio.run(names["example"](model, tokenizer, prompts))
    return found


def test_the_documents_example_with_the_shipped_model() -> None:
    """Target and draft the same: texts, and the figures that the document names."""
    prompts = ["Translate to French: Thank you.", "Translate to German: We are at home.", "Where is the station?"]
    result, results = follow("starter", "starter", prompts)
    assert str(result) == result.text != ""
    assert [found.text for found in results[:2]] == ["Merci.", "Wir sind zu Hause."]
    stats = results[-1].stats
    assert stats.keys() == {"total_requests", "average_latency", "batching_stats", "speculative_stats"}
    assert stats["batching_stats"].keys() == {"total_batches", "avg_batch_size", "total_tokens"}
    assert result.stats["speculative_stats"]["acceptance_rate"] == 1.0


def test_the_documents_example_with_tiny_models(tiny_draft: str, tiny_target: str) -> None:
    """A draft model that is mostly wrong: what comes out is what the target writes, up to `max_tokens`."""
    result, results = follow(tiny_draft, tiny_target, ["Your prompt", "another one"])
    assert result.text == results[0].text
    assert len(result.tokens) == 100 or result.finish_reason == "stop"
    assert results[1].tokens != results[0].tokens


@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "seed": 5}, {"temperature": 1.5, "top_p": 0.8}])
def test_drafts_change_nothing(tiny_draft: str, tiny_target: str, options: dict[str, Any]) -> None:
    """With a draft model, with drafts from the text alone, and without any: the same tokens."""
    found = []
    for config in (
        SpeculativeConfig(draft_model_path=tiny_draft, target_model_path=tiny_target),
        SpeculativeConfig(target_model_path=tiny_target, max_draft_tokens=64),
        SpeculativeConfig(target_model_path=tiny_target, use_speculative=False),
    ):
        engine = SpeculativeDecodingEngine(config)
        found.append([engine.generate(text, max_tokens=40, **options).tokens for text in ("Hello", "a b a b a")])
        assert engine.stats()["total_requests"] == 2
    assert found[0] == found[1] == found[2]


def test_an_ordinary_prompt_is_answered_as_mlx_lm_does(tiny_target: str) -> None:
    """Token for token: the template, its positions, the greedy choice."""
    plain, tokenizer = load_plain(tiny_target)
    tokens = tokenizer.apply_chat_template([{"role": "user", "content": "Hello,\n  you!"}], add_generation_prompt=True)
    expected = generate(plain, tokenizer, prompt=tokens, max_tokens=30)
    engine = SpeculativeDecodingEngine(SpeculativeConfig(target_model_path=tiny_target))
    assert engine.generate("Hello,\n  you!", max_tokens=30).text == expected


def test_a_model_without_a_template_goes_on_with_the_text(tmp_path: Path) -> None:
    """A base model gets the prompt as it stands."""
    path = chat.save(tmp_path / "base", "llama", template="")
    plain, tokenizer = load_plain(path)
    engine = SpeculativeDecodingEngine(SpeculativeConfig(target_model_path=path))
    for text in ("Once upon a time", "x"):
        assert engine.generate(text, max_tokens=20).text == generate(plain, tokenizer, prompt=text, max_tokens=20)


def test_what_cannot_be_asked_is_said(tiny_target: str, tiny_draft: str) -> None:
    """Empty prompts, long prompts, numbers out of range, a draft with another tokenizer."""
    engine = SpeculativeDecodingEngine(SpeculativeConfig(target_model_path=tiny_target))
    for prompt, max_tokens, message in (("  ", 5, "empty"), ("x" * 600, 5, "takes 512"), ("x", 0, "at least 1")):
        with pytest.raises(ValueError, match=message):
            engine.generate(prompt, max_tokens=max_tokens)
    with pytest.raises(ValueError, match="max_draft_tokens is 1 to 64, got 0"):
        SpeculativeConfig(max_draft_tokens=0)
    with pytest.raises(UnsupportedModel, match="another tokenizer"):
        SpeculativeDecodingEngine(SpeculativeConfig(draft_model_path=tiny_draft, target_model_path="starter"))
