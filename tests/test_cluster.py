"""A cluster of three: publisher, workers and subscriber by its URL, and nothing about a session is different there."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.asyncio import RedisCluster

from producers import Publisher, Subscriber
from protocol import OutputTextDelta, Session
from tests.clusters import running_cluster
from tests.producers.gateway.conftest import engine, ready, serve
from tests.producers.gateway.streams import listened
from tests.producers.gateway.test_sessions import GERMAN, TRANSLATION, opened, said, text_of
from tests.servers import real_servers
from tests.worker.app.conftest import Running, running, until
from worker.io import client

__all__ = ["engine", "running"]  # the fixtures of the worker's tests

WORDS = ["Please", "close", "the", "window", "before", "you", "leave", "the", "room."]


@pytest.fixture(scope="module", params=list(real_servers()))
def cluster_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a cluster of this kind of server; without such a server there is no test."""
    with running_cluster(real_servers()[request.param]) as url:
        yield url


@pytest.fixture
def redis_url(cluster_url: str) -> str:
    """The URL that a worker is started with."""
    return cluster_url


@pytest.fixture
async def cluster(cluster_url: str) -> AsyncIterator[RedisCluster]:
    """A plain client of the cluster, which is empty."""
    async with RedisCluster.from_url(cluster_url.replace("+cluster", "")) as client:
        await client.flushall(target_nodes=RedisCluster.PRIMARIES)
        yield client


async def speak(url: str, name: str, words: list[str], *, pause: asyncio.Event | None = None) -> list[str]:
    """Say the words in a session and return its translation; the second half waits for `pause`."""
    said: list[str] = []
    session = Session(target_language="fr")
    async with Publisher(url, name, session) as publisher, Subscriber(url, name, timeout_s=60) as events:
        await publisher.create()
        for word in words[:5]:
            await publisher.append(word)
        if pause:
            await pause.wait()
        for word in words[5:]:
            await publisher.append(word)
        await publisher.finalize()
        await publisher.close()
        async for event in events:
            said += [event.word] if isinstance(event, OutputTextDelta) else []
    return said


async def test_sessions_on_all_nodes_change_workers_and_lose_nothing(
    cluster: RedisCluster, cluster_url: str, running: Running
) -> None:
    """Twelve sessions, begun under one worker, ended under another; each says what the first one said alone."""
    async with running(lease_ms=500):
        whole = await speak(cluster_url, "whole", WORDS)
        go_on = asyncio.Event()
        talks = [asyncio.create_task(speak(cluster_url, f"s{i}", WORDS, pause=go_on)) for i in range(12)]
        for i in range(12):
            last = "0"
            while last != "3-0":  # created, and two words
                answer: Any = await cluster.xread({f"decalage:{{s{i}}}:target": last}, count=1, block=5_000)
                last = answer[0][1][0][0].decode()
        nodes = {cluster.get_node_from_key(f"decalage:{{s{i}}}:source") for i in range(12)}
    assert len(nodes) == 3
    async with running(lease_ms=500):
        go_on.set()
        assert await asyncio.gather(*talks) == [whole] * 12


async def test_workers_share_a_cluster(cluster: RedisCluster, cluster_url: str, running: Running) -> None:
    """Leases, bells and hand-over work there as on one server; a raw producer is found by the sweep of all nodes."""
    async with running(lease_ms=500) as first, running(lease_ms=500) as second:
        await until(lambda: len(first.shards.held) == len(second.shards.held) == 8)
        data = '{"type": "session.create", "session": {"target_language": "fr"}}'
        names = [f"raw-{i}" for i in range(6)]
        for name in names:
            await cluster.xadd(f"decalage:{{{name}}}:source", {"event": data})
        await until(lambda: all(name in first.table or name in second.table for name in names))


async def test_a_node_taken_alone_is_refused(cluster_url: str) -> None:
    """The error names the URL to use instead."""
    plain = cluster_url.replace("+cluster", "")
    async with client.connect(plain) as redis:
        with pytest.raises(client.RedisUnreachable, match=r"is a cluster; name it redis\+cluster://127"):
            await client.check(redis)


async def test_the_gateway_before_a_cluster(cluster: RedisCluster, cluster_url: str, running: Running) -> None:
    """Several sessions, on several nodes, go in and out by HTTP and WebSocket as before one server."""
    async with running(), serve(cluster_url) as served:
        await ready(served)
        group = await opened(served, target_languages=["fr", "de", "fr"])
        await said(served, group["id"])
        paths = [f"/v1/sessions/{session['id']}/events" for session in group["sessions"]]
        heard = await asyncio.gather(*(listened(served.http, path) for path in paths))
        assert [text_of(each) for each in heard] == [TRANSLATION, GERMAN, TRANSLATION]
        assert (await served.http.get("/v1/stats")).status_code == 200
        answer = await served.http.post("/v1/generate", json={"prompt": "We are at home.", "target_language": "fr"})
        assert answer.json()["text"] == "Nous sommes chez nous."
