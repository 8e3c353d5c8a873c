"""An engine in trouble: too little memory, a pass that fails, a thread that dies."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.worker.app.conftest import DEADLINE_S, FINALIZE, Raw, Running, append, create, untimed
from tests.worker.app.test_worker import TEXT, value
from tests.worker.engine.conftest import chat_tokenizer
from tests.worker.engine.tiny import save
from worker.app.config import Settings
from worker.app.engine import Engine, EngineDead
from worker.app.worker import Worker
from worker.engine.errors import UnsupportedModel
from worker.engine.kv.pool import LENGTHS
from worker.io.doorbell import Rung
from worker.io.metrics import Metrics

TEXTS = [" ".join(TEXT.split()[i:] + TEXT.split()[:i]) for i in range(6)]


async def say_all(raw: Raw, prefix: str) -> list[Any]:
    """Six sessions word by word, and what each of them published."""
    names = [f"{prefix}{i}" for i in range(len(TEXTS))]
    for name in names:
        await raw.say(name, create())
    for words in zip(*(text.split() for text in TEXTS), strict=True):
        for name, word in zip(names, words, strict=True):
            await raw.say(name, append(word))
    for name in names:
        await raw.say(name, FINALIZE)
    return [untimed(await raw.hear(name)) for name in names]


def one_lane(engine: Engine) -> int:
    """Bytes of the shortest lane."""
    runner: Any = engine._runner
    lane_bytes: int = runner._kv_cache.slot_bytes * LENGTHS[0]
    return lane_bytes


async def test_little_memory_changes_the_cost_only(raw: Raw, running: Running, engine: Engine, redis_url: str) -> None:
    """A worker with room for two lanes gives six sessions the words that they get where there is room for all."""
    async with running() as worker:
        kept = await say_all(raw, "kept")
        assert value(worker, "decalage_lost_lanes_total") == 0
    engine = await Engine.start("starter-draft", max_kv_bytes=2 * one_lane(engine))
    tight = Worker(Settings(sweep_ms=20), engine, Metrics(), redis_url)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        group.create_task(tight.run())
        found = await say_all(raw, "tight")
        tight.stop()
    engine.stop()
    assert found == kept
    assert value(tight, "decalage_lost_lanes_total") > 0
    assert value(tight, "decalage_rebuilt_tokens_total") > 0


async def test_a_model_without_a_prompt_is_refused_at_the_start(tmp_path: Path) -> None:
    """A base model: it is named, rather than refuse each session."""
    size = len(chat_tokenizer(None))
    chat_tokenizer(None).save_pretrained(save("llama", tmp_path, vocab_size=size))
    with pytest.raises(UnsupportedModel, match=rf"{tmp_path} has neither a chat template nor"):
        await Engine.start(str(tmp_path))


async def test_a_worker_whose_memory_is_full_takes_no_session(raw: Raw, running: Running) -> None:
    """While sessions that speak wait for each other's room, session.create is refused with the reason."""
    async with running() as worker:
        worker.telemetry.is_full = True
        await raw.say("talk", create())
        refused = (await raw.hear("talk", "error"))[-1]
        assert refused["code"] == "worker_full"
        assert "bytes for keys and values" in refused["message"]
        worker.telemetry.is_full = False
        await raw.say("talk", create())
        await raw.hear("talk", "session.created")


async def test_a_pass_that_fails_costs_time_and_no_words(
    raw: Raw, running: Running, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every seventh pass runs out of memory: the sessions publish what they publish on a good day."""
    async with running():
        kept = await say_all(raw, "kept")
    runner: Any = engine._runner
    whole, passes = runner.model.batch, iter(range(1_000_000))

    def batch(*given: Any) -> Any:
        logits = whole(*given)
        if given[3].size > 1 and next(passes) % 7 == 3:
            raise MemoryError("no room")
        return logits

    async with running() as worker:
        with monkeypatch.context() as patch:
            patch.setattr(runner.model, "batch", batch)
            assert await say_all(raw, "failing") == kept
        assert value(worker, "decalage_failed_passes_total") > 0


@pytest.mark.leaves_keys
async def test_a_dead_thread_ends_the_worker(raw: Raw, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its death is noticed and ends the worker with an error, so that a supervisor starts it again, even where the
    cancellation of a loop is lost, as redis-py loses some.
    """
    engine = await Engine.start("starter-draft")
    worker = Worker(Settings(sweep_ms=20), engine, Metrics(), redis_url)
    hear = worker._news.doorbell.wait

    async def hear_on() -> Rung:
        try:
            return await hear()
        except asyncio.CancelledError:
            return Rung([], [], is_freed=False, cursors={})

    monkeypatch.setattr(worker._news.doorbell, "wait", hear_on)
    serving = asyncio.create_task(worker.run())
    await raw.say("talk", create(), append("Thank you."), FINALIZE)
    await raw.hear("talk")
    engine.stop()
    with pytest.raises(ExceptionGroup) as died:
        await asyncio.wait_for(serving, DEADLINE_S)
    assert died.group_contains(EngineDead)
    assert value(worker, "decalage_engine_up") == 0
