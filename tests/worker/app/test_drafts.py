"""A worker with a draft model: the same words, in fewer passes; another tokenizer, and it does not start."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import one_redis
from tests.worker.app.conftest import CLOSE, DEADLINE_S, Raw, append, create, untimed
from tests.worker.engine.conftest import chat_tokenizer
from tests.worker.engine.tiny import save
from worker.app.config import Settings
from worker.app.engine import Engine
from worker.app.worker import Worker
from worker.engine.errors import UnsupportedModel
from worker.io.metrics import Metrics

TEXT = "I do not know where he lives, and my sister does not know where she lives."


@contextlib.asynccontextmanager
async def serving(redis_url: str, **settings: object) -> AsyncIterator[Worker]:
    """A worker with its own engine."""
    chosen = Settings(sweep_ms=20, **settings)  # type: ignore[arg-type]
    engine = await Engine.start(chosen.model, chosen.draft_model)
    worker = Worker(chosen, engine, Metrics(), redis_url)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(task, DEADLINE_S)
        engine.stop()


@one_redis
async def test_a_draft_model_saves_passes_and_changes_nothing(raw: Raw, redis_url: str) -> None:
    """The same events with and without it; its drafts are counted where the worker tells its figures."""
    heard, rows = [], []
    for draft_model in ("", "starter"):
        async with serving(redis_url, draft_model=draft_model, batch_timeout_ms=5) as worker:
            name = f"drafted-by-{draft_model or 'nobody'}"
            await raw.say(name, create(mode="completion"), append(TEXT), CLOSE)
            events = await raw.hear(name, "session.closed")
            heard.append(untimed(events))
            samples = {metric.name: metric for metric in worker.metrics.registry.collect()}
            rows.append({name: samples[f"decalage_{name}"].samples[0].value for name in ("forwards", "drafted_rows")})
    assert heard[0] == heard[1]
    assert rows[1]["forwards"] < rows[0]["forwards"] / 1.5
    assert rows[1]["drafted_rows"] > 0


async def test_a_draft_model_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    """Before anything is served, in an error that names it."""
    save("qwen2", tmp_path, vocab_size=258)
    chat_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="another tokenizer"):
        await Engine.start("starter", str(tmp_path))
