"""The snippets of the documents that the library follows, with nothing but the import and the model changed."""

import json
import subprocess
import sys
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache

import worker
from worker import (
    DualStreamingCache,
    Model,
    ModelArgs,
    StreamingDataPreparator,
    StreamingModel,
    create_streaming_attention_mask,
    load,
    stream_generate_streaming,
    stream_generate_streaming_llm,
)


def test_a_model_from_arguments_reads_and_writes() -> None:
    """Source in chunks, target token by token; the caches count both; several translations of one source."""
    args = ModelArgs(
        model_type="qwen2",
        hidden_size=64,
        num_hidden_layers=2,
        intermediate_size=128,
        num_attention_heads=4,
        num_key_value_heads=4,
        rms_norm_eps=1e-6,
        vocab_size=1000,
    )
    model = Model(args)
    assert isinstance(model, StreamingModel)
    caches = model.make_cache()
    assert len(caches) == 2
    assert all(isinstance(cache, DualStreamingCache) for cache in caches)
    logits1 = model(mx.array([[1, 2, 3, 4, 5]]), cache=caches, is_reading=True)
    assert logits1.shape == (1, 5, 1000)
    model(mx.array([[6, 7, 8, 9, 10]]), cache=caches, is_reading=True)
    logits_t1 = model(mx.array([[100]]), cache=caches, is_reading=False)
    assert logits_t1.shape == (1, 1, 1000)
    logits_t2 = model(mx.array([[101]]), cache=caches, is_reading=False)
    assert caches[0].source_offset == 10
    assert caches[0].target_offset == 2
    for cache in caches:
        cache.reset_target()
    assert (caches[0].source_offset, caches[0].target_offset) == (10, 0)
    again = model(mx.array([[100, 101]]), cache=caches, is_reading=False)
    assert mx.allclose(again, mx.concatenate([logits_t1, logits_t2], axis=1), atol=1e-4)


def test_the_quick_check_of_the_attention(random_model: StreamingModel) -> None:
    """Ten tokens read and three written at once are ten and three in the cache."""
    caches = random_model.make_cache()
    random_model(mx.random.randint(0, 1000, (1, 10)), cache=caches, is_reading=True)
    random_model(mx.random.randint(0, 1000, (1, 3)), cache=caches, is_reading=False)
    assert caches[0].source_offset == 10
    assert caches[0].target_offset == 3


def test_a_standard_cache_and_no_cache_work(random_model: StreamingModel) -> None:
    """mlx-lm's own cache in place of the dual one, and positions given by hand."""
    tokens = mx.array([[5, 6, 7]])
    cache = make_prompt_cache(random_model.inner)
    whole = random_model(tokens)
    assert mx.allclose(random_model(tokens, cache=cache), whole, atol=1e-4)
    assert cache[0].offset == 3
    positions = mx.array([[0, 1, 2]])
    assert mx.allclose(random_model(tokens, position_ids=positions), whole, atol=1e-4)
    dual = random_model(tokens, cache=random_model.make_cache(), position_ids=positions)
    assert mx.allclose(dual, whole, atol=1e-4)


def test_the_mask_of_the_documents() -> None:
    """Square, causal, and no target token sees source beyond what it waited for."""
    mask = create_streaming_attention_mask(14, [2, 3, 2], [2, 3], [5, 7])
    assert mask.shape == (14, 14)
    assert not bool(mask[0, 5])
    assert [bool(seen) for seen in mask[7, :7]] == [True] * 5 + [False] * 2
    assert bool(mask[9, :10].all())


def test_the_usage_example_of_the_generator(shipped_path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`Model.from_pretrained` beside transformers' AutoTokenizer, a prepared prompt, words printed with their reads."""
    from transformers import AutoTokenizer

    model = Model.from_pretrained(shipped_path)
    tokenizer = AutoTokenizer.from_pretrained(shipped_path)
    preparator = StreamingDataPreparator(tokenizer)
    source_text = "Translate to French: Hello, how are you?"
    _formatted_text, token_ids, seg_lens = preparator.prepare_source_text(source_text)
    for output in stream_generate_streaming(
        model=model,
        tokenizer=tokenizer,
        source_token_ids=token_ids,
        source_seg_len=seg_lens,
        wait_k=3,
        max_new_words=50,
        temp=0.7,
    ):
        if output["word_complete"]:
            print(output["text"], end=" ", flush=True)
            print(f"[read {output['source_words_read']} source words]")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("[read 3 source words]")
    assert printed[-1].endswith("[read 4 source words]")


def test_the_basic_example(capsys: pytest.CaptureFixture[str]) -> None:
    """`load`, a prompt, words as they come, and what is known about each."""
    model, tokenizer = load()
    words = 0
    for response in stream_generate_streaming_llm(
        model=model,
        tokenizer=tokenizer,
        prompt="Translate to French: Hello, how are you?",
        wait_k=3,
        max_new_words=20,
        temp=0.7,
    ):
        if response.word_complete:
            words += 1
            print(f"Word: {response.text}")
            print(f"  Source words read: {response.source_words_read}")
            print(f"  Target words generated: {response.target_words_generated}")
            print(f"  Generation speed: {response.generation_tps:.2f} tok/s")
    printed = capsys.readouterr().out
    assert printed.count("Word: ") == words > 0
    assert f"Target words generated: {words}\n" in printed


def test_the_low_level_example(model: Any, tokenizer: Any) -> None:
    """The prepared tokens of a prompt, without a temperature."""
    preparator = StreamingDataPreparator(tokenizer)
    _, token_ids, seg_lens = preparator.prepare_source_text("Translate to French: Good morning")
    found = [
        (output["text"], output["token"])
        for output in stream_generate_streaming(
            model=model,
            tokenizer=tokenizer,
            source_token_ids=token_ids,
            source_seg_len=seg_lens,
            wait_k=3,
            max_new_words=50,
        )
        if output["word_complete"]
    ]
    assert found
    assert all(text and isinstance(token, int) for text, token in found)


def test_importing_costs_nothing_until_a_name_is_used() -> None:
    """`import worker` imports no mlx; every public name then loads, and a wrong one is an AttributeError."""
    program = (
        "import json, sys, worker; before = 'mlx' in sys.modules or 'mlx.core' in sys.modules; "
        "missing = [name for name in worker.__all__ if not hasattr(worker, name) or name not in dir(worker)]; "
        "print(json.dumps([before, missing, hasattr(worker, 'nothing')]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, [], False]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mlx the error says which extra brings it."""

    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'mlx'", name="mlx.core")

    monkeypatch.setattr(worker, "import_module", fail)
    monkeypatch.delattr(worker, "load", raising=False)
    with pytest.raises(ImportError, match=r"load needs mlx.core; .* pip install 'decalage\[worker\]'"):
        worker.__getattr__("load")
