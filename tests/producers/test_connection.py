"""Connections: addresses without passwords, time-outs that fit, errors by kind."""

import asyncio

import pytest
import redis.exceptions
from redis.asyncio import Redis

from producers.connection import (
    BLOCK_MS,
    FOLLOW_TIMEOUT_S,
    address_of,
    broker_errors,
    interruptibly,
    open_follower,
    open_writer,
)
from producers.errors import BrokerRefused, BrokerUnreachable, InvalidBrokerUrl


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://user:secret@example:7000/3", "redis://example:7000/3"),
        ("redis://example", "redis://example:6379/0"),
        ("rediss://:secret@[::1]:6380", "rediss://[::1]:6380/0"),
        ("unix:///run/my redis.sock?db=2", "unix:///run/my%20redis.sock?db=2"),
    ],
)
def test_addresses_are_urls_without_credentials(url: str, address: str) -> None:
    """The address leads to the same server, and holds neither user nor password."""
    assert open_writer(url).address == address
    assert open_follower(Redis.from_url(url)).address == address
    assert address_of(Redis.from_url(address)) == address


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://:secret@host", "redis://:secret/0", "redis://h:x"])
def test_an_impossible_url_is_refused_without_quoting_it(url: str) -> None:
    """The message says what a URL looks like; pieces of a password that break the URL stay out of it."""
    for opened in (open_writer, open_follower):
        with pytest.raises(InvalidBrokerUrl, match="redis://HOST:PORT/DB") as failure:
            opened(url)
        assert "secret" not in str(failure.value)
        assert failure.value.__cause__ is None


def test_a_blocking_connection_outwaits_its_block() -> None:
    """The read time-out lies above the block, below which redis-py's own five seconds would not; no other retries."""
    for link in (open_follower("redis://h"), open_follower(Redis(host="h", socket_timeout=1))):
        settings = link.client.connection_pool.connection_kwargs
        assert settings["socket_timeout"] == FOLLOW_TIMEOUT_S > BLOCK_MS / 1000
        assert settings["retry"].get_retries() == 0
        assert link.is_owned
    assert BLOCK_MS < 5_000


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (redis.exceptions.ConnectionError("down"), BrokerUnreachable),
        (redis.exceptions.TimeoutError(), BrokerUnreachable),
        (ConnectionRefusedError("down"), BrokerUnreachable),
        (redis.exceptions.AuthenticationError("WRONGPASS"), BrokerRefused),
        (redis.exceptions.ResponseError("OOM"), BrokerRefused),
    ],
)
def test_failures_are_told_apart(failure: Exception, expected: type[Exception]) -> None:
    """No answer is one thing, a refusal another; both name the address."""
    with pytest.raises(expected, match="redis://here"), broker_errors("redis://here"):
        raise failure


async def test_a_cancellation_gets_through_a_call_that_swallows_it() -> None:
    """As redis-py's sending may do: whoever waits is free at once, and the call that is left behind harms nobody."""
    has_begun, has_swallowed, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            has_swallowed.set()
        await may_end.wait()
        raise ConnectionError("too late for anybody")

    waiting = asyncio.ensure_future(interruptibly(stubborn()))
    await has_begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await has_swallowed.wait()
    may_end.set()


async def test_outcomes_and_failures_come_through() -> None:
    """Without a cancellation nothing is different."""

    async def call(failure: Exception | None) -> int:
        if failure:
            raise failure
        return 7

    assert await interruptibly(call(None)) == 7
    with pytest.raises(ConnectionError, match="mine"):
        await interruptibly(call(ConnectionError("mine")))
