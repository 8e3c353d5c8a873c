"""One model, many threads and event loops: each gets the words that it would get alone."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.worker.library import chat
from worker import (
    AsyncContinuousBatchingEngine,
    Model,
    ModelArgs,
    SpeculativeConfig,
    SpeculativeDecodingEngine,
    load,
    stream_generate_streaming_llm,
)
from worker.engine.model import StreamingModel
from worker.engine.speculative.draft_model import DraftModel
from worker.library.running import runner_of
from worker.library.vocabulary import vocabulary_of

PROMPT = "Where is the station, and when does the next train leave?"
NUM_THREADS = 6


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny chat model."""
    return chat.save(tmp_path_factory.mktemp("models") / "tiny", "qwen2")


def generated(model: StreamingModel, tokenizer: Any, **options: Any) -> list[int]:
    """The tokens of a streamed answer."""
    options = {"max_new_words": 8, "max_tokens_per_word": 3, **options}
    return [response.token for response in stream_generate_streaming_llm(model, tokenizer, PROMPT, **options)]


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """What each call gives on a thread of its own, all at once; an exception is given as it is."""
    results: list[Any] = [None] * len(calls)

    def run(index: int, call: Callable[[], Any]) -> None:
        try:
            results[index] = call()
        except Exception as error:  # the test compares it
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def test_threads_share_a_model(path: str) -> None:
    """Law: greedy and sampled, each thread gets what it gets alone, and all lanes are free afterwards."""
    model, tokenizer = load(path)
    options: list[dict[str, Any]] = [
        {"temp": 0.8 * (seed % 2), "seed": seed, "wait_k": 1 + seed % 3} for seed in range(NUM_THREADS)
    ]
    alone = [generated(model, tokenizer, **option) for option in options]
    together = in_threads(*(lambda option=option: generated(model, tokenizer, **option) for option in options))
    assert together == alone
    assert runner_of(model, vocabulary_of(tokenizer)).num_lanes == 0


def test_threads_that_load_and_leave(path: str) -> None:
    """Each loads the model itself, or uses what a thread has loaded or built that has ended since."""
    expected = generated(*load(path))
    assert in_threads(*[lambda: generated(*load(path))] * 3) == [expected] * 3
    [(model, tokenizer)] = in_threads(lambda: load(Path(path)))
    assert generated(model, tokenizer) == expected
    size = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4}
    args = ModelArgs(model_type="qwen2", rms_norm_eps=1e-6, num_key_value_heads=2, vocab_size=8_000, **size)
    [built] = in_threads(lambda: Model(args))
    assert in_threads(lambda: generated(built, tokenizer)) == [generated(built, tokenizer)]


def test_a_thread_sets_weights(path: str, tmp_path: Path) -> None:
    """Weights that are set, and so far only planned by mlx, count for the next answer on that thread and all others."""
    model, tokenizer = load(path)
    generated(model, tokenizer)
    doubled = {
        "lm_head.weight" if "lm_head" in model.inner else "model.embed_tokens.weight": model.model.embed_tokens.weight
        * 2
    }
    mx.save_safetensors(str(tmp_path / "weights.safetensors"), doubled)

    def set_weights() -> list[int]:
        model.load_weights(str(tmp_path / "weights.safetensors"), strict=False)
        return generated(model, tokenizer)

    [on_thread] = in_threads(set_weights)
    assert isinstance(on_thread, list)
    assert generated(model, tokenizer) == on_thread


def test_generators_left_in_the_middle(path: str) -> None:
    """Threads drop generators that the garbage collector finds later, wherever it runs: their lanes become free."""
    model, tokenizer = load(path)
    expected = generated(model, tokenizer)

    def leave() -> None:
        for _ in range(5):
            answers: list[Any] = [stream_generate_streaming_llm(model, tokenizer, PROMPT, max_new_words=8)]
            next(answers[0])
            answers.append(answers)  # a cycle, which only the collector frees

    assert in_threads(*[leave] * 3) == [None] * 3
    gc.collect()
    assert generated(model, tokenizer) == expected
    assert runner_of(model, vocabulary_of(tokenizer)).num_lanes == 0


def test_a_forward_pass_beside_a_generation(path: str) -> None:
    """A model that is called directly on one thread knows nothing of the positions of passes on another."""
    model, tokenizer = load(path)
    tokens = mx.array([[5, 6, 7, 8]])
    expected, words = np.array(model(tokens)), generated(model, tokenizer)

    def read_twice() -> bool:
        def logits() -> Any:
            cache = model.make_cache()
            model(tokens[:, :2], cache=cache)
            return np.array(model(tokens[:, 2:], cache=cache))

        return all(np.allclose(logits(), expected[:, 2:], atol=1e-4) for _ in range(20))

    found = in_threads(read_twice, lambda: generated(model, tokenizer), read_twice, lambda: generated(model, tokenizer))
    assert found == [True, words, True, words]


def test_a_copy_of_a_model(path: str) -> None:
    """A deep copy is a model of its own, which other threads may use beside the first."""
    model, tokenizer = load(path)
    other, expected = deepcopy(model), generated(model, tokenizer)
    assert in_threads(*(lambda one=one: generated(one, tokenizer) for one in (model, other))) == [expected] * 2


def test_event_loops_share_an_engine(path: str) -> None:
    """Law: calls from several event loops, with a draft model too, give what each gives alone; other threads go on."""
    model, tokenizer = load(path)
    words = generated(model, tokenizer)
    drafter = DraftModel.load(path, vocabulary_of(tokenizer))
    both: list[dict[str, Any]] = [{}, {"drafter": drafter}]
    for options in both:
        engine = AsyncContinuousBatchingEngine(model, tokenizer, **options)
        texts = [PROMPT[number:] for number in range(NUM_THREADS)]
        alone = [asyncio.run(engine.generate_batch([text], max_tokens=20))[0].tokens for text in texts]

        def ask(text: str, engine: AsyncContinuousBatchingEngine = engine) -> tuple[int, ...]:
            return asyncio.run(engine.generate_batch([text], max_tokens=20))[0].tokens

        *answers, streamed = in_threads(
            *(lambda text=text: ask(text) for text in texts), lambda: generated(model, tokenizer)
        )
        assert answers == alone
        assert streamed == words
        assert engine.stats()["total_requests"] == 2 * NUM_THREADS


def test_a_loop_that_is_closed_in_the_middle(path: str) -> None:
    """Its prompts are answered to nobody; another event loop's call is answered."""
    engine = AsyncContinuousBatchingEngine(*load(path))

    async def leave() -> None:
        call = asyncio.ensure_future(engine.generate_batch([PROMPT], max_tokens=200))
        while not engine.stats()["batching_stats"]["total_batches"]:  # noqa: ASYNC110  # nobody sets an event for it
            await asyncio.sleep(0.001)
        call.cancel()

    asyncio.run(leave())
    assert len(asyncio.run(engine.generate_batch([PROMPT], max_tokens=5))[0].tokens) == 5


def test_threads_share_the_speculative_engine(path: str) -> None:
    """Law: each call gives what it gives alone."""
    engine = SpeculativeDecodingEngine(SpeculativeConfig(target_model_path=path, draft_model_path=path))
    texts = [PROMPT[number:] for number in range(4)]
    alone = [engine.generate(text, max_tokens=20).tokens for text in texts]
    assert in_threads(*(lambda text=text: engine.generate(text, max_tokens=20).tokens for text in texts)) == alone


FORKS = """
import os, sys
from worker import load, stream_generate_streaming_llm

model, tokenizer = load(sys.argv[1])

def tokens():
    return [answer.token for answer in stream_generate_streaming_llm(model, tokenizer, "Where is it?", max_new_words=5)]

expected = tokens()
if child := os.fork():
    sys.exit(os.waitpid(child, 0)[1])
os._exit(0 if tokens() == expected else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process(path: str) -> None:
    """It generates the same words on a thread of its own."""
    assert subprocess.run([sys.executable, "-c", FORKS, path], timeout=120, check=False).returncode == 0
