"""Calls of many commands, on real servers."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as Unanswered

from tests.producers.proxy import Proxy
from worker.io import channel, connection
from worker.io.channel import Channel, Command
from worker.io.wire import Wire


async def test_answers_are_those_of_redis_py(redis_client: redis.asyncio.Redis) -> None:
    """As many as there are commands, in their order, in the shapes that redis-py gives them, errors among them."""
    client = redis_client
    await client.xadd("stream", {"field": "one"}, id="1-0")
    await client.xadd("stream", {"field": "two", "other": b"\xff"}, id="2-0")
    entries, none, failure, news, pong = await Channel(client).call(
        [
            ("XRANGE", "stream", "-", "+"),
            ("XRANGE", "absent", "(1-0", "+", "COUNT", 5),
            ("HGET", "stream", "field"),
            ("XREAD", "COUNT", 1, "STREAMS", "stream", "1-0"),
            ("ECHO", b"\x00\r\n"),
        ]
    )
    assert entries == await client.xrange("stream")
    assert (none, pong) == ([], b"\x00\r\n")
    assert isinstance(failure, ResponseError)
    assert news == await client.xread({"stream": "1-0"}, count=1)


@pytest.mark.parametrize("number", [0, 1, 16, 17, 1000])
async def test_any_number_of_commands_is_one_call(number: int, redis_client: redis.asyncio.Redis) -> None:
    """More than are sent at once, too."""
    commands: list[Command] = [("ECHO", i) for i in range(number)]
    assert await Channel(redis_client).call(commands) == [str(i).encode() for i in range(number)]


async def test_calls_at_one_time_do_not_wait_for_each_other(redis_client: redis.asyncio.Redis) -> None:
    """One that blocks has its connection for itself."""
    calls = Channel(redis_client)
    blocked = asyncio.create_task(calls.call([("BLPOP", "list", 0)]))
    while not (await redis_client.info("clients"))["blocked_clients"]:
        assert await calls.call([("ECHO", "a")]) == [b"a"]
    await calls.call([("RPUSH", "list", "b")])
    assert await blocked == [(b"list", b"b")]


async def test_a_lost_connection_is_opened_again(redis_url: str) -> None:
    """A reply that was lost is asked for again, as is one after a pause in which the server has hung up."""
    async with Proxy(redis_url) as proxy, connection.client(proxy.url) as client:
        calls = Channel(client)
        await calls.call([("RPUSH", "list", "a")])
        proxy.reply_to_drop = b"RPUSH"
        assert await calls.call([("RPUSH", "list", "b"), ("LLEN", "list")]) == [3, 3]
        proxy.cut()
        assert await calls.call([("LLEN", "list")]) == [3]


async def test_a_call_that_was_left_does_not_answer_the_next(redis_client: redis.asyncio.Redis) -> None:
    """Law: whoever is cancelled leaves no answer behind."""
    calls = Channel(redis_client)
    left = asyncio.create_task(calls.call([("BLPOP", "list", 0)]))
    while not (await redis_client.info("clients"))["blocked_clients"]:
        pass
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    await redis_client.rpush("list", "late")
    assert await calls.call([("ECHO", "mine")]) == [b"mine"]


async def test_who_gets_no_answer_is_told(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing, and one that is not there, are redis-py's time-out and lost connection."""
    monkeypatch.setattr(channel, "TIMEOUT_S", 0.2)
    async with Proxy(redis_url) as proxy, connection.client(proxy.url) as client:
        calls = Channel(client)
        await client.ping()
        proxy.hold()
        with pytest.raises(Unanswered, match=r"no answer within 0\.2 s"):
            await calls.call([("ECHO", "a")])
        await proxy.down()
        monkeypatch.undo()
        with pytest.raises(Disconnected):
            await calls.call([("ECHO", "a")])
        proxy.release()


async def test_calls_and_redis_py_end_together(redis_url: str) -> None:
    """Closing the client closes the connections of its calls, without waiting for anything."""
    client = connection.client(redis_url)
    calls = Channel(client)
    [number] = await calls.call([("CLIENT", "ID")])
    async with asyncio.timeout(10), connection.client(redis_url) as other:
        await client.aclose()
        while str(number) in {entry["id"] for entry in await other.client_list()}:  # until the server has heard of it
            pass


async def test_a_lost_connection_is_given_back(redis_url: str) -> None:
    """Law: however often the server hangs up, a call at a time needs one connection."""
    async with Proxy(redis_url) as proxy, connection.client(proxy.url) as client:
        calls = Channel(client)
        for _ in range(5):
            await calls.call([("ECHO", "a")])
            proxy.cut()
        pool = client.connection_pool
        assert len(pool._available_connections) + len(pool._in_use_connections) == 1


async def test_a_server_that_is_loading_is_asked_again(redis_client: redis.asyncio.Redis) -> None:
    """What redis-py counts as a lost connection is one, although the server says it in an answer."""
    calls = Channel(redis_client)
    loading = (
        "if redis.call('INCR', KEYS[1]) < 3 then return redis.error_reply('LOADING Redis is loading') end return 'done'"
    )
    assert await calls.call([("EVAL", loading, 1, "attempts")]) == [b"done"]
    assert await calls.call([("GET", "attempts")]) == [b"3"]


async def test_a_connection_that_died_in_the_pool_is_not_waited_for(redis_url: str) -> None:
    """Law: a server that hangs up while nobody listens costs a call no time-out."""
    async with connection.client(redis_url) as client, connection.client(redis_url) as other:
        await other.client_kill_filter(_id=str(await client.client_id()))
        async with asyncio.timeout(connection.TIMEOUT_S / 2):
            assert await Channel(client).call([("ECHO", "a")]) == [b"a"]


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    """It is not taken for the next call's."""
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=ours)
    opened: Any = SimpleNamespace(_writer=writer)
    wire = Wire(opened)
    asked = asyncio.create_task(wire.ask([b"PING", b"PING"], 2, 10))
    await asyncio.sleep(0)
    with theirs:
        assert theirs.recv(100) == b"PINGPING"
        theirs.sendall(b"+1\r\n+2\r\n+3\r\n")
        assert await asked == [b"1", b"2"]
        assert not wire.is_open
        writer.close()
        await writer.wait_closed()
