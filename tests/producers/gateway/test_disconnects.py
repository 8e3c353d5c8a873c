"""Listeners that lose their connection again and again, on two gateways, while a worker is killed."""

import asyncio
import contextlib
import json
import random
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.producers.gateway.conftest import DEADLINE_S, Served, Serving, ready
from tests.producers.gateway.streams import frames
from tests.producers.gateway.test_sessions import opened, said, text_of
from tests.worker.app.conftest import new_worker, until
from worker.app.engine import Engine
from worker.app.worker import Worker

TEXT: Final = "My sister works in a hospital. The train leaves at eight. We are at home."
NUM_SESSIONS: Final = 8
NUM_DISCONNECTS: Final = 200


class Listener:
    """Reads one session, with a new connection after a few events, on any of the gateways."""

    def __init__(self, session_id: str, gateways: list[Served], seed: int) -> None:
        self.session_id = session_id
        self.events: list[Any] = []
        self.num_disconnects = 0
        self._gateways = gateways
        self._dice = random.Random(seed)

    async def run(self) -> None:
        """Read until the session has closed."""
        while not self.events or self.events[-1]["type"] != "session.closed":
            gateway, limit = self._dice.choice(self._gateways), self._dice.randint(1, 3)
            await (self._by_sse if self._dice.random() < 0.5 else self._by_websocket)(gateway, limit)
            self.num_disconnects += 1

    @property
    def _after(self) -> int:
        return self.events[-1]["seq"] if self.events else 0

    async def _by_sse(self, gateway: Served, limit: int) -> None:
        headers = {"Last-Event-ID": str(self._after)}
        async with gateway.http.stream("GET", f"/v1/sessions/{self.session_id}/events", headers=headers) as response:
            async for frame in frames(response):
                if frame.event == "message":
                    self.events.append(frame.data)
                    limit -= 1
                if not limit:
                    return

    async def _by_websocket(self, gateway: Served, limit: int) -> None:
        path = f"/v1/realtime?session={self.session_id}&after={self._after}"
        async with gateway.websocket(path) as socket:
            async for message in socket:
                event = json.loads(message)
                if "seq" in event:
                    self.events.append(event)
                    limit -= 1
                if not limit:
                    socket.transport.abort()  # no closing handshake, as when a network is gone
                    return


@contextlib.contextmanager
def mortal(url: str, engine: Engine) -> Iterator[Worker]:
    """Run a worker for the block, then kill it: it publishes and gives back nothing more."""
    worker = new_worker(url, engine, lease_ms=300)
    life = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        life.cancel()
        worker._stopping.set()  # for tasks in which redis-py swallows the cancellation


@pytest.mark.parametrize("seed", [1])
async def test_no_gap_and_no_duplicate(redis_url: str, engine: Engine, serving: Serving, seed: int) -> None:
    """All listeners of a session get the same events, each once and in order, whatever breaks under them."""
    async with serving() as first, serving() as second, asyncio.timeout(10 * DEADLINE_S):
        gateways, dice = [first, second], random.Random(seed)
        with mortal(redis_url, engine):
            await ready(first)
            ids = [(await opened(first))["id"] for _ in range(NUM_SESSIONS)]
            listeners = [Listener(name, gateways, seed + i) for i, name in enumerate(ids * 3)]
            listening = [asyncio.create_task(listener.run()) for listener in listeners]
            words = TEXT.split()
            for word in words[:8]:
                await asyncio.gather(*(said(dice.choice(gateways), name, text=word) for name in ids))
            await until(lambda: all(listener.events for listener in listeners))
        with mortal(redis_url, engine):
            for word in words[8:]:
                await asyncio.gather(*(said(dice.choice(gateways), name, text=word) for name in ids))
            await asyncio.gather(*(said(first, name, finalize=True, close=True) for name in ids))
            await asyncio.gather(*listening)
    for listener in listeners:
        assert [event["seq"] for event in listener.events] == list(range(1, len(listener.events) + 1))
    assert len({text_of(listener.events) for listener in listeners}) == 1
    assert sum(listener.num_disconnects for listener in listeners) >= NUM_DISCONNECTS
