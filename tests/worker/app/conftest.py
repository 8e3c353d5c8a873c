"""A worker in the test's own process, on a real server, and a raw client that knows only key names and JSON."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis.asyncio

from worker.app.config import Settings
from worker.app.engine import Engine
from worker.app.worker import Worker
from worker.io.metrics import Metrics

DEADLINE_S = 60.0
Event = dict[str, Any]
_workers = itertools.count()


class Raw:
    """A client with XADD and XREAD only."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def say(self, session: str, *events: Event | str) -> None:
        """Append events (or raw strings) to a session's source stream."""
        for event in events:
            data = event if isinstance(event, str) else json.dumps(event)
            await self.client.xadd(f"decalage:{{{session}}}:source", {"event": data})

    async def hear(self, session: str, until: str = "segment.done", *, count: int = 1) -> list[Event]:
        """Return all target events up to the `count`-th of that type; check their entry ids against `seq`."""
        heard: list[Event] = []
        last = "0-0"
        async with asyncio.timeout(DEADLINE_S):
            while sum(event["type"] == until for event in heard) < count:
                answer: Any = await self.client.xread({f"decalage:{{{session}}}:target": last}, block=500)
                for entry_id, fields in answer[0][1] if answer else []:
                    last = entry_id.decode()
                    heard.append(json.loads(fields[b"event"]))
                    assert last == f"{heard[-1]['seq']}-0"
        return heard


@pytest.fixture
def raw(redis_client: redis.asyncio.Redis) -> Raw:
    """A raw client of the test's server."""
    return Raw(redis_client)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The smaller of the shipped models on its thread, loaded once: what holds here holds for any model."""
    started = asyncio.run(Engine.start("starter-draft"))
    yield started
    started.stop()


def new_worker(url: str, engine: Engine, **settings: Any) -> Worker:
    """Return a worker, not yet started. Workers of a test share an engine, so each has its own range of numbers."""
    worker = Worker(Settings(**{"sweep_ms": 20, **settings}), engine, Metrics(), url)
    worker.sessions._numbers = itertools.count(next(_workers) * 1_000)
    return worker


Running = Callable[..., contextlib.AbstractAsyncContextManager[Worker]]


@pytest.fixture
def running(redis_url: str, engine: Engine) -> Running:
    """`async with running() as worker:` a worker on the test's server, or `redis`, with settings as keywords."""

    @contextlib.asynccontextmanager
    async def run(**settings: Any) -> AsyncIterator[Worker]:
        worker = new_worker(settings.pop("redis", redis_url), engine, **settings)
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await asyncio.wait_for(task, DEADLINE_S)

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail after the deadline. For facts that only the worker's memory shows."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # nobody sets an event for it
            await asyncio.sleep(0.001)  # not 0: that would take the processor from the worker that is waited for


def create(**session: Any) -> Event:
    """Return a session.create event, into French by default."""
    return {"type": "session.create", "session": {"target_language": "fr", **session}}


def append(text: str, **fields: Any) -> Event:
    """Return an input_text.append event."""
    return {"type": "input_text.append", "text": text, **fields}


FINALIZE: Event = {"type": "input_text.finalize"}
CLOSE: Event = {"type": "session.close"}


def untimed(events: list[Event]) -> list[Event]:
    """Return the events without fields that depend on a clock."""
    return [{k: v for k, v in event.items() if k not in ("elapsed_ms", "delay_ms", "source_id")} for event in events]
