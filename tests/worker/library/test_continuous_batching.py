"""Prompts in shared passes: each answer is what it is alone, whoever comes and goes."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from tests.worker.library import chat
from worker import AsyncContinuousBatchingEngine, BatchConfig, load
from worker.engine.errors import EngineError
from worker.engine.speculative.draft_model import DraftModel
from worker.library.completions import Generation
from worker.library.vocabulary import vocabulary_of

PROMPTS = ["Hello", "a b a b a", "One\ntwo\n  three", "?", "Where is the station?"]
Batch = Callable[..., AsyncContinuousBatchingEngine]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny chat model."""
    return chat.save(tmp_path_factory.mktemp("models") / "tiny", "llama")


@pytest.fixture
def batch(path: str) -> Batch:
    """`batch(max_batch_size=2)` is an engine of its own."""
    return lambda **config: AsyncContinuousBatchingEngine(*load(path), BatchConfig(**config))


async def begun(engine: AsyncContinuousBatchingEngine) -> None:
    """The engine has made a pass."""
    while not engine.stats()["batching_stats"]["total_batches"]:  # noqa: ASYNC110  # nobody sets an event for it
        await asyncio.sleep(0.001)


def run(coroutine: Coroutine[Any, Any, list[Generation]]) -> list[tuple[int, ...]]:
    """The tokens of each answer."""
    return [answer.tokens for answer in asyncio.run(coroutine)]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": 2}])
@pytest.mark.parametrize("max_batch_size", [2, 8])
def test_together_as_alone(batch: Batch, path: str, options: dict[str, Any], max_batch_size: int) -> None:
    """Greedy and sampled, more prompts than places or fewer, drafted or not; in one event loop after another."""
    alone = [run(batch(max_draft_tokens=0).generate_batch([text], max_tokens=30, **options))[0] for text in PROMPTS]
    engine = batch(max_batch_size=max_batch_size)
    assert run(engine.generate_batch(PROMPTS, max_tokens=30, **options)) == alone
    assert run(engine.generate_batch(PROMPTS, max_tokens=30, **options)) == alone
    model, tokenizer = load(path)
    drafter = DraftModel.load(path, vocabulary_of(tokenizer))
    drafted = AsyncContinuousBatchingEngine(model, tokenizer, engine.config, drafter=drafter)
    assert run(drafted.generate_batch(PROMPTS, max_tokens=30, **options)) == alone
    assert drafted.stats()["speculative_stats"]["acceptance_rate"] > 0.9
    assert drafter.runner.num_lanes == 0


def test_calls_share_passes(batch: Batch) -> None:
    """Two calls of one prompt take no more passes than one call of two, and the figures say so."""

    async def both(engine: AsyncContinuousBatchingEngine) -> list[Generation]:
        found = await asyncio.gather(*(engine.generate_batch([text], max_tokens=20) for text in PROMPTS[:2]))
        return [answer for answers in found for answer in answers]

    apart, together = batch(max_draft_tokens=0), batch(max_draft_tokens=0)
    assert run(both(apart)) == run(together.generate_batch(PROMPTS[:2], max_tokens=20))
    stats = together.stats()
    assert apart.stats()["batching_stats"] == stats["batching_stats"]
    assert stats["batching_stats"] == {"total_batches": 20, "avg_batch_size": 2.0, "total_tokens": 40}
    assert stats["total_requests"] == 2
    assert stats["average_latency"] > 0


@pytest.mark.parametrize(("timeout_ms", "prompts", "joins"), [(0, 1, True), (1e9, 1, False), (1e9, 2, True)])
def test_who_comes_while_others_write(batch: Batch, timeout_ms: float, prompts: int, joins: bool) -> None:
    """They join at the next pass if they have waited long enough or fill the batch, else when the others are done."""
    engine = batch(max_batch_size=3, timeout_ms=timeout_ms)

    async def talk() -> bool:
        first = asyncio.create_task(engine.generate_batch(PROMPTS[:1], max_tokens=200))
        await begun(engine)
        await engine.generate_batch(PROMPTS[1 : 1 + prompts], max_tokens=2)
        has_joined = not first.done()
        assert len((await first)[0].tokens) == 200
        return has_joined

    assert asyncio.run(talk()) is joins


def test_a_caller_who_leaves_makes_room(batch: Batch) -> None:
    """A cancelled call's prompts are dropped, those at work and those that wait; the next call is answered."""
    engine = batch(max_batch_size=2)

    async def talk() -> list[Generation]:
        first = asyncio.create_task(engine.generate_batch(PROMPTS, max_tokens=400))
        await begun(engine)
        first.cancel()
        return await engine.generate_batch(PROMPTS[:1], max_tokens=5)

    assert len(run(talk())[0]) == 5
    assert engine.stats()["total_requests"] == 1


def test_a_pass_that_fails_is_told(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its prompts raise EngineError with the cause; the engine answers what comes next."""
    engine = batch()

    def fail(*_: object, **__: object) -> mx.array:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("worker.engine.model.StreamingModel.batch", fail)
        with pytest.raises(EngineError, match="MemoryError: no room"):
            asyncio.run(engine.generate_batch(PROMPTS, max_tokens=5))
    with monkeypatch.context() as patch:
        patch.setattr("worker.core.scheduler.plan", fail)
        with pytest.raises(EngineError, match="no room"):
            asyncio.run(engine.generate_batch(PROMPTS, max_tokens=5))
    assert len(run(engine.generate_batch(PROMPTS, max_tokens=5))) == len(PROMPTS)


def test_what_cannot_be_asked_is_said(batch: Batch, tmp_path: Path) -> None:
    """One bad prompt and none is answered; numbers out of range."""
    engine = batch()
    with pytest.raises(ValueError, match="empty"):
        asyncio.run(engine.generate_batch(["Hello", " "]))
    assert asyncio.run(engine.generate_batch([])) == []
    with pytest.raises(ValueError, match="max_batch_size of at least 1"):
        BatchConfig(max_batch_size=0)
