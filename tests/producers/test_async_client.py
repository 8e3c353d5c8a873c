"""What `AsyncClient` keeps and sends again, before a gateway that loses connections at any event."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve

from producers import AsyncClient, GatewayRefused, GatewayUnreachable
from producers.outbox import MAX_UNSENT_EVENTS
from protocol import Session

FEW_EVENTS: Final = 80
"""What is kept in place of 1,000, so that few events are many."""

NUM_WORDS: Final = 5 * FEW_EVENTS
PATIENCE_S: Final = 30.0


class Gateway:
    """Takes numbered events as a gateway and its worker do; cuts each connection after its next number of events."""

    def __init__(self, cuts: Sequence[int] = (), *, accepts_every: int = 64) -> None:
        self.numbers: list[int] = []
        """The events taken, each number once."""
        self.num_connections = 0
        self._cuts = list(cuts)
        self._accepts_every = accepts_every

    async def serve(self, socket: ServerConnection) -> None:
        """Serve one connection."""
        self.num_connections += 1
        limit = self._cuts.pop() if self._cuts else None
        await socket.send('{"type": "gateway.attached", "session": "sess_1", "after": 0}')
        async for message in socket:
            seq = json.loads(message)["seq"]
            if seq > len(self.numbers):  # a worker ignores a number that it has
                self.numbers.append(seq)
            if seq % self._accepts_every == 0:
                await socket.send(json.dumps({"type": "gateway.accepted", "input_seq": seq}))
            if limit is not None and (limit := limit - 1) < 0:
                socket.transport.abort()
                return


@asynccontextmanager
async def client_of(gateway: Gateway, patience_s: float = PATIENCE_S) -> AsyncIterator[AsyncClient]:
    """Yield a client of a gateway on a free port."""
    async with serve(gateway.serve, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with AsyncClient(f"http://127.0.0.1:{port}", Session(), patience_s=patience_s) as client:
            yield client


async def send_words(client: AsyncClient, number: int) -> None:
    """Open the session and send this many words."""
    await client.create()
    for _ in range(number):
        await client.append("word")


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 2 * FEW_EVENTS), max_size=6))
def test_every_event_arrives_once_and_in_order(cuts: list[int]) -> None:
    """Wherever connections break, and however many events: what was sent is there, or among the kept ones."""

    async def run() -> None:
        gateway = Gateway(cuts)
        async with client_of(gateway) as client:
            await send_words(client, NUM_WORDS)
            kept = [json.loads(data)["seq"] for data in client._outbox.unsent]
            assert len(kept) <= FEW_EVENTS
            taken = set(gateway.numbers)
            assert taken | set(kept) == set(range(1, NUM_WORDS + 2))
        assert gateway.numbers == list(range(1, len(gateway.numbers) + 1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("producers.outbox.MAX_UNSENT_EVENTS", FEW_EVENTS)
        asyncio.run(run())


async def test_a_gateway_that_accepts_nothing() -> None:
    """The call that finds no room says so, with all earlier events kept; when some are accepted, it succeeds."""
    gateway = Gateway(accepts_every=10**9)
    async with client_of(gateway, patience_s=0.05) as client:
        await send_words(client, MAX_UNSENT_EVENTS - 1)
        for _ in range(2):
            with pytest.raises(GatewayUnreachable, match=f"accept one of {MAX_UNSENT_EVENTS} events"):
                await client.append("word")
        assert len(client._outbox.unsent) == MAX_UNSENT_EVENTS
        client._outbox.arrived(1)
        await client.append("word")


async def test_events_come_while_a_call_waits() -> None:
    """They are kept for the iterator; the newest delivered one counts as the last."""
    closed = {"type": "session.closed", "seq": 2, "reason": "idle", "source_words": 0, "target_words": 0}
    created = {"type": "session.created", "seq": 1, "version": 1, "session": {}, "model": "m"}

    async def end(socket: ServerConnection) -> None:
        await socket.send('{"type": "gateway.attached", "session": "sess_1", "after": 0}')
        async for message in socket:
            if json.loads(message)["seq"] == MAX_UNSENT_EVENTS:
                for event in (created, closed):
                    await socket.send(json.dumps(event))

    gateway = Gateway()
    gateway.serve = end  # type: ignore[method-assign]
    async with client_of(gateway) as client:
        await send_words(client, MAX_UNSENT_EVENTS - 1)
        with pytest.raises(GatewayRefused, match="session_closed"):
            await client.append("word")
        assert client.last_seq == 0
        assert [event.seq async for event in client] == [1, 2]
        assert client.last_seq == 2
