"""What a user may not do in Redis is found, named, and leaves no trace."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from worker.commands import check_redis
from worker.io.client import connect
from worker.io.rehearsal import denials
from worker.io.replies import Interrupted

ENOUGH = check_redis._RULES.format("guest").split()[3:]


@pytest.fixture
async def guest_url(redis_url: str, redis_client: Redis) -> AsyncIterator[str]:
    """The test's server, as a user who may do nothing yet."""
    await redis_client.execute_command("ACL", "SETUSER", "guest", "reset", "on", ">pw")  # type: ignore[no-untyped-call]
    yield redis_url.replace("redis://", "redis://guest:pw@")
    await redis_client.acl_deluser("guest")


async def allow(client: Redis, *rules: str) -> None:
    """Give these rules to the guest."""
    await client.execute_command("ACL", "SETUSER", "guest", *rules)  # type: ignore[no-untyped-call]


async def test_the_rules_that_the_doctor_names_are_enough(guest_url: str, redis_client: Redis, redis_url: str) -> None:
    """All is allowed, and afterwards Redis holds what it held before."""
    await allow(redis_client, *ENOUGH)
    for key in ("decalage:{workers}:bell:0", "decalage:{workers}:stats"):
        await redis_client.xadd(key, {"event": "x"}, id="5-0")
    before = {key: await redis_client.dump(key) for key in await redis_client.keys("*")}
    async with connect(guest_url) as guest:
        assert await denials(guest) == []
    assert {key: await redis_client.dump(key) for key in await redis_client.keys("*")} == before


DENIED = [
    (["-xadd"], {"XADD on decalage:{workers}:bell:0", "XADD on decalage:{workers}:stats"}),
    (["-evalsha"], {"EVALSHA on decalage:{workers}:live"}),
    (["-script|load"], {"SCRIPT"}),
    (["-script"], {"SCRIPT"}),
    (["-expire", "-ttl"], {"EXPIRE on", "TTL on"}),
    (["-scan"], {"SCAN"}),
    (["-zremrangebyscore"], {"ZREMRANGEBYSCORE on decalage:{workers}:sessions:0"}),
    (["-hset"], {"HSET on decalage:{workers}:heard", "HSET on decalage:{workers}:live"}),
    (["-@stream"], {"XADD on", "XREAD on", "XRANGE on", "XREVRANGE on decalage:{workers}:configure"}),
    (["resetkeys", "~decalage:{doctor-*"], {"GET on decalage:{workers}:shards", "ZADD on", "HGETALL on"}),
    (["resetkeys", "~decalage:{workers}:*"], {"EXISTS on", "HMGET on", "TTL on"}),
    (["resetkeys", "%R~decalage:*"], {"XADD on", "HSET on", "SET on decalage:{workers}:shards"}),
]


@pytest.mark.parametrize(("rules", "named"), DENIED, ids=lambda value: " ".join(sorted(value)))
async def test_every_denial_is_named(guest_url: str, redis_client: Redis, rules: list[str], named: set[str]) -> None:
    """Commands, key patterns, read-only users: one look finds all of it."""
    await allow(redis_client, *ENOUGH, *rules)
    async with connect(guest_url) as guest:
        found = await denials(guest)
    for name in named:
        assert any(what.startswith(name) for what in found), (name, found)


async def test_a_server_that_cannot_write_is_not_called_fit(redis_url: str, redis_client: Redis) -> None:
    """A replica answers, and cannot do the work."""
    await redis_client.replicaof("127.0.0.1", "1")
    try:
        async with connect(redis_url) as client:
            with pytest.raises(Interrupted, match="XADD"):
                await denials(client)
    finally:
        await redis_client.replicaof("NO", "ONE")
