"""A server that is no master any more, or cannot serve now: publisher and subscriber go on, on new connections."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from producers import BrokerUnreachable, Publisher, Subscriber
from protocol import decode_client, source_key
from protocol.keys import EVENT_FIELD
from tests.producers.proxy import Proxy
from tests.producers.streams import publish, whole_stream
from tests.servers import real_names, real_servers
from worker.io.servers import RedisServer


async def execute(client: Redis, *command: Any) -> Any:
    """The answer to one command of an operator."""
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def texts(client: Redis, name: str) -> list[int | None]:
    """The numbers of the events in a session's source stream."""
    found: Any = await client.xrange(source_key(name))
    return [decode_client(fields[EVENT_FIELD.encode()]).seq for _, fields in found]


@asynccontextmanager
async def as_replica(client: Redis) -> AsyncIterator[None]:
    """The server is a replica of nobody who answers, until the block ends."""
    await execute(client, "REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        await execute(client, "REPLICAOF", "NO", "ONE")


async def test_who_has_patience_waits_for_the_master(redis_url: str, redis_client: Redis) -> None:
    """A call made meanwhile returns once there is a master; without patience it raises, and its event is kept."""
    async with (
        Publisher(redis_url, "patient", patience_s=math.inf) as patient,
        Publisher(redis_url, "hasty") as hasty,
    ):
        await patient.create()
        await hasty.create()
        async with as_replica(redis_client):
            waiting = asyncio.create_task(patient.append("a"))
            with pytest.raises(BrokerUnreachable, match="replica"):
                await hasty.append("a")
            assert not waiting.done()
        await waiting
        await hasty.append("b")
    assert await texts(redis_client, "patient") == [1, 2]
    assert await texts(redis_client, "hasty") == [1, 2, 3]


@pytest.mark.parametrize("is_client", [False, True])
async def test_a_blocked_reader_that_is_sent_away_reads_on(
    redis_url: str, redis_client: Redis, is_client: bool
) -> None:
    """A server that becomes a replica ends every blocking read with an error; so does CLIENT UNBLOCK."""
    stream = whole_stream(3)
    async with Redis.from_url(redis_url) as mine, Subscriber(mine if is_client else redis_url, "talk") as events:
        await publish(redis_client, "talk", stream[:1])
        assert await anext(events) == stream[0]
        rest = asyncio.create_task(collect(events))
        await until_blocked(redis_client)
        async with as_replica(redis_client):
            pass
        await publish(redis_client, "talk", stream[1:])
        assert await rest == stream[1:]


async def collect(events: Subscriber) -> list[Any]:
    """All that is left to hear."""
    return [event async for event in events]


async def until_blocked(client: Redis) -> None:
    """Return once somebody waits inside a command."""
    while not (await client.info("clients"))["blocked_clients"]:
        pass


@pytest.mark.parametrize("name", real_names())
async def test_a_failover_behind_one_address(name: str) -> None:
    """The old connections stay with a server that is a replica now; a publisher without patience goes on at once."""
    master, follower = (RedisServer(real_servers()[name], is_quiet=True) for _ in range(2))
    try:
        async with (
            Redis.from_url(master.url) as old,
            Redis.from_url(follower.url) as new,
            Proxy(master.url) as proxy,
            Publisher(proxy.url, "talk") as publisher,
            Subscriber(proxy.url, "talk") as events,
        ):
            await execute(new, "REPLICAOF", *place(master.url))
            await publisher.create()
            await publish(old, "talk", whole_stream(3)[:1])
            heard = [await anext(events)]
            while await texts(new, "talk") != [1] or (await new.info("replication"))["master_link_status"] != "up":
                pass
            await execute(new, "REPLICAOF", "NO", "ONE")
            proxy.lead_to(follower.url)
            await execute(old, "REPLICAOF", *place(follower.url))
            await publisher.append("a")
            await publish(new, "talk", whole_stream(3)[1:])
            assert heard + await collect(events) == whole_stream(3)
            assert await texts(new, "talk") == [1, 2]
    finally:
        master.stop()
        follower.stop()


def place(url: str) -> tuple[str, str]:
    """Host and port of the server."""
    host, port = url.removeprefix("redis://").removesuffix("/0").split(":")
    return host, port
