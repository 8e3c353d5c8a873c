"""A Sentinel moves the master behind one address: worker, publisher and subscriber go on, and no word is lost.

It is asked to, or the master is killed; the replica is in step at that moment.
"""

import asyncio
import math
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from producers import Publisher, Subscriber
from protocol import OutputTextDelta, Session, SessionClosed
from tests.producers.proxy import Proxy
from tests.producers.test_failover import execute, place
from tests.servers import real_servers
from tests.worker.app.conftest import Running
from worker.io.servers import RedisServer, free_port

FRENCH = Session(target_language="fr", segmentation="sentence")


@contextmanager
def sentinel(program: Path, master_url: str, folder: Path) -> Iterator[str]:
    """Run a Sentinel that watches this master, and return its URL."""
    port, (host, master_port) = free_port(), place(master_url)
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor main {host} {master_port} 1\n"
        "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"
    )
    with subprocess.Popen([program, config, "--sentinel"], stdout=subprocess.DEVNULL) as process:
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


@asynccontextmanager
async def following(proxy: Proxy, guard: Redis) -> AsyncIterator[None]:
    """Lead the proxy's new connections to the master that the Sentinel names, as a service's address does."""

    is_over = asyncio.Event()  # redis-py may swallow a cancellation, on Python 3.11

    async def follow() -> None:
        while not is_over.is_set():
            host, port = (part.decode() if isinstance(part, bytes) else part for part in await master_of(guard))
            proxy.lead_to(f"redis://{host}:{port}/0")

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        is_over.set()
        await task


async def master_of(guard: Redis) -> Any:
    """Return host and port of the master, as text; wait for a Sentinel that starts."""
    while True:
        with suppress(ConnectionError):
            return await execute(guard, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")


async def until_replicated(guard: Redis, master: Redis) -> None:
    """Return once the Sentinel knows a replica that has all that the master has."""
    while True:
        replicas = await execute(guard, "SENTINEL", "REPLICAS", "main")
        if any(replica.get(b"master-link-status") == b"ok" for replica in replicas):
            break
    assert await execute(master, "WAIT", 1, 10_000) == 1


class Replicated(NamedTuple):
    """Two servers, the Sentinel that watches them, and the proxy that leads to the master."""

    master: RedisServer
    old: Redis
    """A client of the first master."""
    new_url: str
    """The URL of its replica."""
    guard: Redis
    proxy: Proxy


@asynccontextmanager
async def replicated(folder: Path) -> AsyncIterator[Replicated]:
    """Run a master, a replica in step with it, and a Sentinel; `proxy` follows the master."""
    program = next(iter(real_servers().values()))
    master, follower = (RedisServer(program, is_quiet=True) for _ in range(2))
    try:
        with sentinel(program, master.url, folder) as guard_url:
            async with (
                asyncio.timeout(90),
                Redis.from_url(master.url) as old,
                Redis.from_url(guard_url) as guard,
                Proxy(master.url) as proxy,
                following(proxy, guard),
            ):
                async with Redis.from_url(follower.url) as new:
                    await execute(new, "REPLICAOF", *place(master.url))
                    while (await new.info("replication"))["master_link_status"] != "up":
                        pass
                yield Replicated(master, old, follower.url, guard, proxy)
    finally:
        master.stop()
        follower.stop()


async def fail_over(servers: Replicated) -> None:
    """Have the Sentinel make the replica the master, and the old one its replica.

    What the old one still takes between the two is lost with Redis's asynchronous replication, so wait for both.
    """
    await execute(servers.guard, "SENTINEL", "FAILOVER", "main")
    role = "master"
    while role == "master":
        with suppress(ConnectionError):  # the Sentinel ends all connections
            role = (await servers.old.info("replication"))["role"]


async def kill(servers: Replicated) -> None:
    """Kill the master, so that the Sentinel finds out."""
    servers.master._process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("change", [fail_over, kill])
async def test_a_sentinel_names_another_master(
    running: Running, tmp_path: Path, change: Callable[[Replicated], Awaitable[None]]
) -> None:
    """Words spoken before, meanwhile and after are all translated, once, for a listener from the beginning."""
    async with (
        replicated(tmp_path) as servers,
        running(redis=servers.proxy.url),
        Publisher(servers.proxy.url, "talk", FRENCH, patience_s=math.inf) as publisher,
        Subscriber(servers.proxy.url, "talk", timeout_s=60) as events,
    ):
        await publisher.create()
        await publisher.append("We are at home.")
        heard = [await anext(events)]
        while "maison." not in "".join(words(heard)):
            heard.append(await anext(events))
        await until_replicated(servers.guard, servers.old)
        before = await master_of(servers.guard)
        await change(servers)
        for word in ["Where", "is", "the", "station?"]:
            await publisher.append(word)
        while await master_of(servers.guard) == before:
            pass
        await publisher.append("Thank you.")
        await publisher.close()
        heard += [event async for event in events]
        async with Redis.from_url(servers.new_url) as new:
            assert await new.exists("decalage:{talk}:target")
    assert "".join(words(heard)) == "Nous sommes à la maison.Où est la gare ?Merci."
    assert isinstance(heard[-1], SessionClosed)


def words(events: list[Any]) -> list[str]:
    """Return the texts of the target words."""
    return [event.text for event in events if isinstance(event, OutputTextDelta)]
