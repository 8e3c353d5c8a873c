"""Calls of many commands, on real servers."""

import asyncio

import pytest
import redis.asyncio
from redis.exceptions import AuthenticationError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as Unanswered

from tests.producers.proxy import Proxy
from worker.io import client as module
from worker.io.client import Client, RedisUnreachable, check, connect, shown
from worker.io.replies import Command, Denied, Interrupted, entries
from worker.io.scripts import Script


async def test_answers_come_in_the_order_of_the_commands(client: Client) -> None:
    """As many as there are commands, errors among them; one that was sent alone raises its error."""
    await client.ask("XADD", "stream", "1-0", "field", "one")
    await client.ask("XADD", "stream", "2-0", "field", b"two", "other", b"\xff")
    page, none, failure, news, pong = await client.call(
        [
            ("XRANGE", "stream", "-", "+"),
            ("XRANGE", "absent", "(1-0", "+", "COUNT", 5),
            ("HGET", "stream", "field"),
            ("XREAD", "COUNT", 1, "STREAMS", "stream", "1-0"),
            ("ECHO", b"\x00\r\n"),
        ]
    )
    assert entries(page) == [("1-0", {b"field": b"one"}), ("2-0", {b"field": b"two", b"other": b"\xff"})]
    assert (none, pong) == ([], b"\x00\r\n")
    assert isinstance(failure, ResponseError)
    assert [(key, entries(found)) for key, found in news] == [(b"stream", entries(page)[1:])]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await client.ask("HGET", "stream", "field")


@pytest.mark.parametrize("number", [0, 1, 16, 17, 1000])
async def test_any_number_of_commands_is_one_call(number: int, client: Client) -> None:
    """More than are sent at once, too."""
    commands: list[Command] = [("ECHO", i) for i in range(number)]
    assert await client.call(commands) == [str(i).encode() for i in range(number)]


async def until_blocked(client: Client) -> None:
    """Return once the server has a client that waits in a command."""
    while b"blocked_clients:0" in await client.ask("INFO", "clients"):
        pass


async def test_calls_at_one_time_do_not_wait_for_each_other(client: Client) -> None:
    """One that blocks has its connection for itself."""
    blocked = asyncio.create_task(client.ask("BLPOP", "list", 0))
    await until_blocked(client)
    await client.ask("RPUSH", "list", "b")
    assert await blocked == [b"list", b"b"]


async def test_a_lost_connection_is_opened_again(redis_url: str) -> None:
    """A reply that was lost is asked for again, as is one after a pause in which the server has hung up."""
    async with Proxy(redis_url) as proxy, connect(proxy.url) as client:
        await client.ask("RPUSH", "list", "a")
        proxy.reply_to_drop = b"RPUSH"
        assert await client.call([("RPUSH", "list", "b"), ("LLEN", "list")]) == [3, 3]
        proxy.cut()
        assert await client.ask("LLEN", "list") == 3


async def test_a_call_that_was_left_does_not_answer_the_next(client: Client) -> None:
    """Law: whoever is cancelled leaves no answer behind."""
    left = asyncio.create_task(client.ask("BLPOP", "list", 0))
    await until_blocked(client)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    await client.ask("RPUSH", "list", "late")
    assert await client.ask("ECHO", "mine") == b"mine"


async def test_who_gets_no_answer_is_told(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing, and one that is not there, are redis-py's time-out and lost connection."""
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    async with Proxy(redis_url) as proxy, connect(proxy.url) as client:
        proxy.hold()
        with pytest.raises(Unanswered, match=r"no answer within 0\.2 s"):
            await client.ask("ECHO", "a")
        await proxy.down()
        with pytest.raises(Disconnected, match=client.address):
            await client.ask("ECHO", "a")
        proxy.release()


async def test_closing_closes_all_connections(redis_url: str) -> None:
    """The server hears of it without anybody's waiting."""
    async with connect(redis_url) as client, connect(redis_url) as other:
        number: int = await client.ask("CLIENT", "ID")
        await client.aclose()
        async with asyncio.timeout(10):
            while f"id={number} ".encode() in await other.ask("CLIENT", "LIST"):
                pass


async def test_one_call_at_a_time_needs_one_connection(redis_url: str) -> None:
    """Law: however often the server hangs up, no connection is left over."""
    async with Proxy(redis_url) as proxy, connect(proxy.url) as client, connect(redis_url) as other:
        before = (await other.ask("CLIENT", "LIST")).count(b"\n")
        for _ in range(5):
            await client.ask("ECHO", "a")
            proxy.cut()
        await client.ask("ECHO", "a")
        async with asyncio.timeout(10):
            while (await other.ask("CLIENT", "LIST")).count(b"\n") != before + 1:
                pass


@pytest.mark.parametrize("code", ["LOADING", "BUSY", "MASTERDOWN", "READONLY", "UNBLOCKED", "NOREPLICAS", "MISCONF"])
async def test_a_server_that_cannot_serve_now_is_asked_again(client: Client, code: str) -> None:
    """On a new connection, although the server says it in an answer; who goes on being unable is an interruption."""
    first: int = await client.ask("CLIENT", "ID")
    text = f"if redis.call('INCR', KEYS[1]) < tonumber(ARGV[1]) then return redis.error_reply('{code} for now') end"
    assert await client.ask("EVAL", text, 1, "attempts", 3) is None
    assert await client.ask("GET", "attempts") == b"3"
    assert await client.ask("CLIENT", "ID") != first
    with pytest.raises(Interrupted, match=f"EVAL: {code} for now"):
        await client.ask("EVAL", text, 1, "attempts", 1000)


async def test_a_replica_is_left_for_the_master_behind_the_same_address(server_pool: object, redis_url: str) -> None:
    """A failover behind one address: the old connection leads to a replica, a new one to the master."""
    async with Proxy(redis_url) as proxy, connect(proxy.url) as client, connect(redis_url) as operator:
        await client.ask("SET", "key", "old")
        await operator.ask("REPLICAOF", "127.0.0.1", "1")
        try:
            blocked = asyncio.create_task(client.ask("SET", "key", "new"))
            with pytest.raises(Interrupted, match="READONLY") as failure:
                await blocked
            assert isinstance(failure.value.__cause__, ReadOnlyError)
        finally:
            await operator.ask("REPLICAOF", "NO", "ONE")
        assert await client.ask("SET", "key", "new") == b"OK"


async def test_a_reader_that_is_unblocked_reads_on(client: Client) -> None:
    """A server that becomes a replica sends away those who wait in it."""
    waiting = asyncio.create_task(client.ask("XREAD", "BLOCK", 4_000, "STREAMS", "stream", "0-0"))
    await until_blocked(client)
    await client.ask("REPLICAOF", "127.0.0.1", "1")
    await client.ask("REPLICAOF", "NO", "ONE")
    await client.ask("XADD", "stream", "1-0", "a", "b")
    [[_, found]] = await waiting
    assert entries(found) == [("1-0", {b"a": b"b"})]


async def test_a_denial_names_command_and_key(redis_url: str, client: Client) -> None:
    """By the key, by the command, and inside a script; with others' answers beside it."""
    await client.ask("ACL", "SETUSER", "guest", "on", ">p@ss/w?rd", "~decalage:{a}:*", "+@all", "-xadd")
    try:
        async with connect(redis_url.replace("://", "://guest:p@ss/w?rd@")) as guest:
            ours, theirs = await guest.call(
                [("XRANGE", f"decalage:{{{name}}}:source", "-", "+") for name in ("a", "b")]
            )
            assert ours == []
            assert isinstance(theirs, Denied)
            assert "Redis denies XRANGE on decalage:{b}:source" in str(theirs)
            for command in (
                ("XADD", "decalage:{a}:source", "*", "x", "y"),
                ("EVAL", "return redis.call('XADD', KEYS[1], '*', 'x', 'y')", 1, "decalage:{a}:source"),
            ):
                with pytest.raises(Denied, match=rf"denies {command[0]} on decalage:\{{a\}}:source"):
                    await guest.ask(*command)
    finally:
        await client.ask("ACL", "DELUSER", "guest")


async def test_a_script_is_sent_once_and_again_after_a_restart(any_client: Client) -> None:
    """EVALSHA alone, until the server has forgotten it."""
    script = Script.of("return {KEYS[1], ARGV[1]}")
    for _ in range(2):
        assert await any_client.run(script, [(["k"], ["a"]), (["l"], ["b"])]) == [[b"k", b"a"], [b"l", b"b"]]
    await any_client.ask("SCRIPT", "FLUSH")
    assert await any_client.run(script, [(["k"], ["c"])]) == [[b"k", b"c"]]


async def test_credentials_and_database_of_the_url_are_used(redis_url: str, client: Client) -> None:
    """A user with a password of any characters, a database, a name; a wrong password is refused at once, and named."""
    await client.ask("ACL", "SETUSER", "guest", "on", ">s3/cr#t?[@:%", "~*", "+@all")
    try:
        place = redis_url.removeprefix("redis://").removesuffix("/0")
        async with connect(f"redis://guest:s3/cr#t?[@:%@{place}/3?client_name=worker-1") as guest:
            assert await guest.ask("ACL", "WHOAMI") == b"guest"
            info: bytes = await guest.ask("CLIENT", "INFO")
            assert b" db=3 " in info
            assert b" name=worker-1 " in info
        async with connect(f"redis://guest:s3cret@{place}/0") as stranger:
            with pytest.raises(AuthenticationError, match="WRONGPASS"):
                await stranger.ask("PING")
            with pytest.raises(RedisUnreachable, match="refuses this login") as failure:
                await check(stranger)
            assert "s3cret" not in str(failure.value)
    finally:
        await client.ask("ACL", "DELUSER", "guest")


async def test_the_server_is_checked(redis_url: str, any_client: Client) -> None:
    """Its version is told; an address where nobody answers is named; an impossible URL is not quoted."""
    assert await check(any_client)
    async with redis.asyncio.Redis.from_url(redis_url) as plain, connect(redis_url) as client:
        assert await check(client) == (await plain.info("server"))["redis_version"]
    async with connect("redis://:secret@127.0.0.1:1") as nobody:
        with pytest.raises(RedisUnreachable, match=r"no Redis answers at redis://127\.0\.0\.1:1/0") as failure:
            await check(nobody)
        assert "secret" not in str(failure.value)
    with pytest.raises(RedisUnreachable, match="expected redis://HOST") as failure:
        connect("http://:secret@host")
    assert "secret" not in str(failure.value)
    assert shown("http://:secret@host") == "an invalid URL"
